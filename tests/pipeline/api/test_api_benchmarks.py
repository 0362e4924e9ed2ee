"""`benchmarks/api_load.py` and `api_uploads.py`, which fail by themselves where an answer is not as it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def printed(script: str, models: dict[str, str], *words: str) -> list[str]:
    """The lines that a script prints."""
    flags = [word for name, file in models.items() for word in (f"--{name}", file)]
    command = [sys.executable, str(BENCHMARKS / script), *flags, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_load(onnx_files: dict[str, str]) -> None:
    lines = printed("api_load.py", onnx_files, "--clients", "1", "4", "--requests", "8")
    assert [line.split()[:2] for line in lines[2:4]] == [["1", "8"], ["4", "8"]]
    assert lines[-1].startswith("memory before: ")


def test_hostile_uploads(onnx_files: dict[str, str]) -> None:
    lines = printed("api_uploads.py", onnx_files, "--upload-seconds", "2", "--head-seconds", "2")
    statuses = {line[:30].strip(): line[30:].split() for line in lines[2 : lines.index("")]}
    assert statuses["50 MB"][:2] == ["50,000,000", "413"]
    assert statuses["slow sender of a photo"][0] == "408"
    assert len(statuses) == 14
    assert lines[-1] == "Files that the server left: none."
