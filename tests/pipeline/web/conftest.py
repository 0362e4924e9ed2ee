"""What the tests of the browser page share: made-up models, thresholds and photos, and running vitest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.files import write_json
from facial_rec.thresholds import DevelopmentSet, MadeFor, SizeThresholds, Thresholds
from pipeline.export import metadata_of
from pipeline.export_graphs import load_sources, onnx_graph
from pipeline.model_metadata import Kind, Precision
from pipeline.onnx_build import finished
from pipeline.onnx_precision import converted
from pipeline.run_record import FORMAT

WEB = Path(__file__).resolve().parents[3] / "technical" / "pipeline" / "web"
KINDS: tuple[Kind, ...] = ("edgeface", "dsr", "chain")
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
def onnx_folder(active_weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`edgeface.onnx`, `dsr.onnx` and `chain.onnx` of a tiny EdgeFace and a tiny DSR (`dsr.pt`), random weights."""
    folder = tmp_path_factory.mktemp("onnx")
    export_to(folder, *(str(active_weights[name]) for name in ("edgeface", "dsr")))
    shutil.copy(active_weights["dsr"], folder / "dsr.pt")
    return folder


def export_to(folder: Path, edgeface: str, dsr: str, precision: Precision = "float32") -> None:
    """The three graphs, without the comparison with PyTorch that `pipeline.export` makes."""
    for kind in KINDS:
        sources = load_sources(kind, edgeface, dsr)
        graph = converted(onnx_graph(kind, sources), kind, precision, np.empty((0, 112, 112, 3), np.uint8))
        model = finished(graph, metadata_of(kind, precision, sources, None))
        (folder / f"{kind}.onnx").write_bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def export() -> Callable[..., None]:
    return export_to


@pytest.fixture(scope="session")
def write_record() -> Callable[..., Path]:
    """Writes an evaluation's record with accuracies from 8 to 32 pixels, of these weights: `edgeface` and `dsr`."""

    def write(path: Path, weights: dict[str, str], withheld: int = 0) -> Path:
        cases = [
            {
                **{"recogniser": "tiny", "protocol": protocol, "method": method, "size": size},
                "degradation": "canonical",
                "figures": {
                    "accuracy": None if size == withheld else accuracy,
                    "accuracy_ci95": [accuracy - 0.02, accuracy + 0.01],
                },
            }
            for protocol in ("lr-hr", "lr-lr")
            for method, size, accuracy in (
                *(("hr", None, 0.98), ("bicubic", 8, 0.71), ("dsr", 8, 0.76), ("bicubic", 16, 0.92)),
                *(("dsr", 16, 0.95), ("bicubic", 32, 0.97), ("dsr", 32, 0.975)),
            )
        ]
        files = {"tiny.pth": weights["edgeface"], "dsr.pt": weights["dsr"]}
        run = {"command": "python -m pipeline.evaluate_resolutions", "weights": files}
        write_json(path, {"format": FORMAT, "title": "made-up people", "run": run, "verification": cases})
        return path

    return write


@pytest.fixture(scope="session")
def node(node_modules: Path) -> Callable[..., str]:
    """Runs a program of the page's packages, with these environment variables; what it printed."""

    def run(program: str, *arguments: str, **variables: object) -> str:
        command = [str(node_modules / ".bin" / program), *arguments]
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}, "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
