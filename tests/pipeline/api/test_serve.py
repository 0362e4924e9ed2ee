"""`make serve`: what it exports, builds and starts, with programs that only write down how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = ("bash", "cat", "dirname", "find", "mkdir", "touch", "sed")
# Notes its arguments, and makes the file or folder of --out.
PYTHON = """#!/bin/bash
echo "python $*" >>"$ROOT/calls"
while [ $# -gt 1 ]; do
  if [ "$1" = --out ]; then
    case "$2" in *.onnx) touch "$2" ;; *) mkdir -p "$2"; touch "$2/models.json" ;; esac
  fi
  shift
done
"""
NPM = """#!/bin/bash
echo "npm $1 $2" >>"$ROOT/calls"
if [ "$1" = ci ]; then mkdir -p node_modules; touch node_modules/.package-lock.json; fi
if [ "$1" = run ]; then mkdir -p dist; touch dist/index.html; fi
"""
MODELS = " ".join(f"--{what} checkpoints/{what}.onnx" for what in ("edgeface", "chain", "dsr"))
OWN = MODELS.replace("checkpoints", "runs/serve")
SERVED = f"python -m pipeline.api --host 127.0.0.1 --port 8000 {MODELS}"
PAGE = "python -m pipeline.web_models --out technical/pipeline/web/public/models"
Serve = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    for folder in ("bin", "tools", "checkpoints", ".venv/bin", "technical/pipeline/web"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("serve.sh", "node_version.sh"):
        shutil.copy(REPOSITORY / "tools" / name, tmp_path / "tools")
    for name in PROGRAMS:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "technical/pipeline/web/package-lock.json").touch()
    programs = {".venv/bin/python": PYTHON, "bin/npm": NPM, "bin/node": '#!/bin/bash\nexit "${OLD_NODE:-0}"\n'}
    for path, text in ((tmp_path / name, text) for name, text in programs.items()):
        path.write_text(text)
        path.chmod(0o755)

    def run(**environment: str) -> tuple[int, list[str], str]:
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        settings = {"PATH": str(tmp_path / "bin"), "ROOT": str(tmp_path), **environment}
        done = subprocess.run(["bash", "tools/serve.sh"], cwd=tmp_path, env=settings, capture_output=True, text=True)
        return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stdout + done.stderr

    return run


def exports(calls: list[str]) -> list[str]:
    return [call.split("--what ")[1] for call in calls if "pipeline.export" in call]


def test_everything_is_made_once(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "checkpoints/dsr.pt").touch()
    status, calls, _ = serve()
    assert status == 0
    rest = "--edgeface edgeface_xxs.pt --dsr checkpoints/dsr.pt --out checkpoints"
    assert exports(calls) == [f"{what} {rest}/{what}.onnx" for what in ("edgeface", "chain", "dsr")]
    assert calls[3:] == [
        f"{PAGE} {MODELS}",
        "npm ci --no-audit",
        "npm run build",
        SERVED,
    ]
    again = serve(PORT="9000", LISTEN="0.0.0.0", SERVE_OPTIONS="--detector yunet")
    assert again[:2] == (0, [f"python -m pipeline.api --host 0.0.0.0 --port 9000 {MODELS} --detector yunet"])


def test_what_is_shipped_needs_no_export(serve: Serve, tmp_path: Path) -> None:
    for name in ("edgeface.onnx", "chain.onnx", "dsr.onnx", "results.json"):
        (tmp_path / "checkpoints" / name).touch()
        os.utime(tmp_path / "checkpoints" / name, (1, 1))
    assert serve()[1] == [f"{PAGE} {MODELS}", "npm ci --no-audit", "npm run build", SERVED]
    assert serve()[1] == [SERVED]
    (tmp_path / "checkpoints/results.json").touch()
    assert serve()[1] == [f"{PAGE} {MODELS}", "npm run build", SERVED]


def test_other_weights_leave_what_is_shipped_as_it_is(serve: Serve, tmp_path: Path) -> None:
    for name in ("edgeface.onnx", "chain.onnx", "dsr.onnx", "dsr.pt", "edgeface_xxs_dsr.pth"):
        (tmp_path / "checkpoints" / name).touch()
    serve()
    _, calls, _ = serve(DSR="other.pt")
    rest = "--edgeface checkpoints/edgeface_xxs_dsr.pth --dsr other.pt --out runs/serve"
    assert exports(calls) == [f"{what} {rest}/{what}.onnx" for what in ("edgeface", "chain", "dsr")]
    assert calls[3:] == [f"{PAGE} {OWN}", "npm run build", SERVED.replace(MODELS, OWN)]
    assert serve()[1] == [f"{PAGE} {MODELS}", "npm run build", SERVED]


def test_thresholds_and_results_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    for name in ("edgeface.onnx", "chain.onnx", "dsr.onnx", "mine.json", "lfw.json"):
        (tmp_path / "checkpoints" / name).touch()
    serve()
    given = {"CALIBRATION": "checkpoints/mine.json", "RESULTS": "checkpoints/lfw.json"}
    _, calls, _ = serve(**given)
    own = f"{MODELS} --calibration checkpoints/mine.json"
    assert calls == [
        f"{PAGE} {own} --results checkpoints/lfw.json",
        "npm run build",
        f"python -m pipeline.api --host 127.0.0.1 --port 8000 {own}",
    ]
    assert len(serve(**given)[1]) == 1


def test_only_what_is_missing_or_older_is_made(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "checkpoints/dsr.pt").touch()
    serve()
    (tmp_path / "checkpoints/dsr.onnx").unlink()
    os.utime(tmp_path / "technical/pipeline/web/public/models/models.json", (1, 1))
    _, calls, _ = serve()
    assert exports(calls) == ["dsr --edgeface edgeface_xxs.pt --dsr checkpoints/dsr.pt --out checkpoints/dsr.onnx"]
    assert [call.split(" --")[0] for call in calls[1:-1]] == ["python -m pipeline.web_models", "npm run build"]
    _, calls, _ = serve(DSR="other.pt", EDGEFACE="mine.pt")
    assert [call.split(" --out")[0] for call in exports(calls)] == [
        f"{what} --edgeface mine.pt --dsr other.pt" for what in ("edgeface", "chain", "dsr")
    ]


def test_without_a_dsr_nothing_is_started(serve: Serve) -> None:
    status, calls, said = serve()
    assert (status, calls) == (2, [])
    assert "there is no DSR" in said
    assert "make demo" in said


def test_without_node_the_api_is_started_alone(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "bin/npm").unlink()
    (tmp_path / "checkpoints/dsr.pt").touch()
    status, calls, said = serve()
    assert (status, len(exports(calls)), calls[-1]) == (0, 3, SERVED)
    assert len(calls) == 4
    assert "npm with Node 20.19 or later is not installed" in said


def test_an_old_node_is_none(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "checkpoints/dsr.pt").touch()
    status, calls, said = serve(OLD_NODE="1")
    assert (status, calls[3:]) == (0, [SERVED])
    assert "npm with Node 20.19 or later is not installed" in said
