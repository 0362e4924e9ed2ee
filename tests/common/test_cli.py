"""common.cli: a dataclass is the command line; what the user got wrong is one line and exit status 2."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import cli
from common.errors import UserError

PROGRAM = '''"""Reads a face.

Run: python -m example
"""
from dataclasses import dataclass
from common import cli
from common.errors import UserError

@dataclass(frozen=True)
class Config:
    vlr_size: int = 16
    """Side of the low-resolution face, in pixels."""

def main(cfg):
    if cfg.vlr_size < 8:
        raise UserError(f"--vlr-size {cfg.vlr_size} is too small: use 8 or more.")
    if cfg.vlr_size == 13:
        raise KeyboardInterrupt
    if cfg.vlr_size == 99:
        raise RuntimeError("a fault of the program")
    print("size", cfg.vlr_size)

if __name__ == "__main__":
    cli.run(main, Config)
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "example.py"
    path.write_text(PROGRAM)
    return path


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, check=False)


def test_flags_are_the_fields(program: Path) -> None:
    result = run(program, "--vlr-size", "24")
    assert (result.returncode, result.stdout, result.stderr) == (0, "size 24\n", "")


def test_help_holds_the_docstrings(program: Path) -> None:
    result = run(program, "--help")
    assert result.returncode == 0
    assert "Reads a face." in result.stdout
    assert "Side of the low-resolution face, in pixels." in result.stdout


def test_a_user_error_is_one_line_and_status_2(program: Path) -> None:
    result = run(program, "--vlr-size", "4")
    assert result.returncode == 2
    assert result.stderr == "error: --vlr-size 4 is too small: use 8 or more.\n"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--vlr-size", "many"], ["--no-such-flag", "1"]])
def test_a_wrong_flag_is_status_2_without_traceback(program: Path, arguments: list[str]) -> None:
    result = run(program, *arguments)
    assert result.returncode == 2
    assert arguments[0] in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_an_interrupt_is_status_130_without_traceback(program: Path) -> None:
    result = run(program, "--vlr-size", "13")
    assert result.returncode == 130
    assert result.stderr.startswith("interrupted")


def test_a_fault_of_the_program_keeps_its_traceback(program: Path) -> None:
    result = run(program, "--vlr-size", "99")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "a fault of the program" in result.stderr


@dataclass(frozen=True)
class Config:
    name: str = "nobody"
    """Whom to greet."""


def test_arguments_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(lambda cfg: print(cfg.name), Config, ["--name", "Ada"])
    assert capsys.readouterr().out == "Ada\n"


def test_user_error_is_an_exception_that_code_can_catch() -> None:
    assert issubclass(UserError, Exception)
    assert not issubclass(UserError, SystemExit)
