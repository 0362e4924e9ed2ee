"""What the tests of the browser page share: made-up models, thresholds and photos, and running vitest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from facial_rec.thresholds import DevelopmentSet, MadeFor, SizeThresholds, Thresholds

WEB = Path(__file__).resolve().parents[3] / "technical" / "pipeline" / "web"
SIZES = (
    SizeThresholds(16, "dsr", 0.5, 0.3),
    SizeThresholds(32, "dsr", 0.7, 0.5),
    SizeThresholds(None, "hr", 0.8, 0.6),
)


@pytest.fixture(scope="session")
def table() -> Callable[..., Thresholds]:
    """Thresholds of these weights."""

    def made(
        edgeface: str = "e" * 64,
        dsr: str = "d" * 64,
        protocol: str = "lr-hr",
        sizes: tuple[SizeThresholds, ...] = SIZES,
    ) -> Thresholds:
        development = DevelopmentSet("made-up people", "0" * 64, 6, 18)
        made_for = MadeFor("tiny", edgeface, dsr)
        return Thresholds(made_for, protocol, "canonical", 0.001, 0.05, development, "2026", "calibrate", sizes)

    return made


@pytest.fixture(scope="session")
def vitest(node_modules: Path) -> Callable[..., str]:
    """Runs the page's tests of a configuration with these environment variables; what they printed."""

    def run(config: str, **variables: object) -> str:
        command = [str(node_modules / ".bin" / "vitest"), "run", "--config", config]
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}, "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The page's packages; skips the test where they are absent."""
    folder = WEB / "node_modules"
    if shutil.which("node") is None or not (folder / ".bin" / "vitest").exists():
        pytest.skip("the page's packages are absent (npm ci in technical/pipeline/web): the page was not tested")
    return folder
