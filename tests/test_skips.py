"""The suite's own rules: which skips are failures in CI, and that no test reaches the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SUITE = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="too slow")
def test_marked(): pass

def test_import(): pytest.importorskip("no_such_module")

def test_real(shared): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


def run_suite(folder: Path, fail_on_skip: bool) -> str:
    """What pytest prints about `SUITE` and a module that skips itself, where `../shared` is absent."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_inner.py").write_text(SUITE)
    (folder / "test_module.py").write_text("import pytest\npytest.skip('whole module', allow_module_level=True)\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "-ra"]
    command += ["--continue-on-collection-errors", "."]
    settings = {"DSR_FAIL_ON_SKIP": "1" if fail_on_skip else "0", "DSR_SHARED": str(folder / "absent")}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | settings, check=False)
    return result.stdout


def test_skips_pass_on_a_developer_machine(tmp_path: Path) -> None:
    assert "1 passed, 4 skipped, 1 xfailed" in run_suite(tmp_path, fail_on_skip=False)


def test_skips_that_hide_something_fail_in_ci(tmp_path: Path) -> None:
    output = run_suite(tmp_path, fail_on_skip=True)
    for reason in ("too slow", "could not import 'no_such_module'", "whole module"):
        assert f"skipped where a skip is a failure (DSR_FAIL_ON_SKIP=1): {reason}" in output
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in output
    assert "../shared is absent" in output


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
def test_no_test_reaches_the_network(address: tuple[str, int]) -> None:
    with socket.socket() as client, pytest.raises(OSError, match="may not use the network"):
        client.connect(address)


def test_the_loopback_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
