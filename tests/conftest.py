"""What every test gets: one thread, fixed seeds, no network; and the real data in `../shared` if it is there.

`DSR_FAIL_ON_SKIP=1` (CI) turns a skip into a failure, unless its reason is one of `EXCUSED_SKIPS` and true.
"""

from __future__ import annotations

import os

# Before torch or numpy is imported: the tests run in several processes, and they would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import onnxruntime before a package of ours
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import ipaddress
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DSR_SHARED", REPOSITORY.parent / "shared"))


def _cuda_absent() -> bool:
    import torch

    return not torch.cuda.is_available()


def _pgvector_server() -> Path | None:
    """The newest of Debian's PostgreSQL servers that has pgvector: its folder of programs."""
    servers = [
        path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if (path / "initdb").is_file()
        and Path("/usr/share/postgresql", path.parent.name, "extension", "vector.control").is_file()
    ]
    return max(servers, key=lambda path: int(path.parent.name), default=None)


def _web_tools() -> Path | None:
    """`node_modules` of the browser page, where Node and Chromium are there too."""
    folder = REPOSITORY / "technical" / "pipeline" / "web" / "node_modules"
    programs = all(shutil.which(program) for program in ("node", "chromium"))
    programs = programs and not subprocess.run(["bash", REPOSITORY / "tools/node_version.sh"], check=False).returncode
    return folder if programs and (folder / ".bin" / "vitest").exists() else None


def _shared() -> Path | None:
    """`../shared`, where it holds what the tests open."""
    return SHARED if all((SHARED / name).is_file() for name in SHARED_FILES) else None


def _exports() -> Path | None:
    """`checkpoints/`, where it has the exported models that the API and the page take by default."""
    folder = REPOSITORY / "checkpoints"
    names = ("edgeface.onnx", "chain.onnx", "dsr.onnx")
    return folder if all((folder / name).is_file() for name in names) else None


SHARED_FILES = (
    *("data/lfw/lfw_112.zip", "data/lfw/pairs.txt", "data/train/faces.csv", "data/train/faces_112_0.zip"),
    *("data/lfw/lfw_raw250_sample.zip", "data/lfw/lfw_landmarks_250.csv", "weights/face_detection_yunet_2023mar.onnx"),
    *("weights/edgeface_xxs_q.pt", "weights/edgeface_xs_q.pt", "weights/edgeface_xs_gamma_06.pt"),
)
SHARED_ABSENT = (
    "../shared is absent, or lacks data/lfw, data/train or weights: nothing was tested on real faces and weights"
)
CUDA_ABSENT = "CUDA is absent: nothing was tested on a GPU"
PGVECTOR_ABSENT = "PostgreSQL with pgvector is absent (tools/pgvector.sh installs it): that gallery was not tested"
WEB_ABSENT = (
    "Chromium, Node 20.19 or the page's packages (npm ci in technical/pipeline/web) are absent: no page was tested"
)
EXPORTS_ABSENT = "checkpoints/ lacks edgeface.onnx, chain.onnx or dsr.onnx: the page was not tested with them"
# A skip with one of these reasons hides nothing, as long as the reason is true.
EXCUSED_SKIPS: dict[str, Callable[[], bool]] = {
    SHARED_ABSENT: lambda: _shared() is None,
    CUDA_ABSENT: _cuda_absent,
    PGVECTOR_ABSENT: lambda: _pgvector_server() is None,
    WEB_ABSENT: lambda: _web_tools() is None,
    EXPORTS_ABSENT: lambda: _exports() is None,
}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights (`../shared`, or `$DSR_SHARED`); skips the test where it is absent."""
    folder = _shared()
    if folder is None:
        pytest.skip(SHARED_ABSENT)
    return folder


@pytest.fixture(scope="session")
def cuda() -> str:
    """The device name `cuda`; skips the test where there is none."""
    if _cuda_absent():
        pytest.skip(CUDA_ABSENT)
    return "cuda"


@pytest.fixture(scope="session")
def pgvector() -> Path:
    """The folder of a PostgreSQL server's programs; skips the test where none has pgvector."""
    folder = _pgvector_server()
    if folder is None:
        pytest.skip(PGVECTOR_ABSENT)
    return folder


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of the browser page; skips the test where they, Node or Chromium are absent."""
    folder = _web_tools()
    if folder is None:
        pytest.skip(WEB_ABSENT)
    return folder


@pytest.fixture(scope="session")
def exports() -> Path:
    """The folder of the exported models that are used by default; skips the test where one is absent."""
    folder = _exports()
    if folder is None:
        pytest.skip(EXPORTS_ABSENT)
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")  # not imported here: many tests need none
    if torch is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Embeddings of tests are kept apart from those of real runs, and each test starts without any."""
    monkeypatch.setenv("DSR_CACHE", str(tmp_path / "cache" / "embeddings.sqlite"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine may be reached: a test that needs the network would pass here and fail elsewhere."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(f"tests may not use the network: connection to {address[0]} refused by tests/conftest.py")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the `shared` fixture, so that `-m shared` and `-m "not shared"` select them."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_hidden_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_hidden_skip(report)
    return report


def _refuse_hidden_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("DSR_FAIL_ON_SKIP") != "1" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    excused = EXCUSED_SKIPS.get(reason)
    if excused is None or not excused():
        report.outcome = "failed"
        report.longrepr = f"skipped where a skip is a failure (DSR_FAIL_ON_SKIP=1): {reason}"
