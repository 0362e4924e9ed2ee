"""onnxruntime reports nothing to its makers: it is told not to before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINT = "import os; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"


def run(code: str, home: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    settings = {**kept, "HOME": str(home), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["facial_rec.mtcnn_networks", "facial_rec.detector_mtcnn", "pipeline.onnx_models", "pipeline.onnx_session"],
)
def test_nothing_is_kept_in_the_home_folder(module: str, tmp_path: Path) -> None:
    code = f"import {module}; from facial_rec.detector_mtcnn import MtcnnDetector; MtcnnDetector(threads=1); {PRINT}"
    assert run(code, tmp_path) == "1"
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


def test_who_wants_it_may_say_so(tmp_path: Path) -> None:
    assert run(f"import pipeline; {PRINT}", tmp_path, ORT_DISABLE_TELEMETRY="0") == "0"
