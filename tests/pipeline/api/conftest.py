"""The API around models and a detector for made-up faces, in this process or as a server."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from common.images import RgbImage
from pipeline.api_app import create_app
from pipeline.api_guard import Access
from pipeline.api_limits import Limits
from pipeline.api_people import People
from pipeline.api_service import Service
from pipeline.onnx_models import load_dsr_onnx
from pipeline.recogniser import Recogniser, RecogniserSettings

Make = Callable[..., TestClient]


def png(image: RgbImage) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def dsr_file(write_onnx: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("dsr") / "dsr.onnx", "dsr")


@pytest.fixture
def service(onnx_files: dict[str, str], dsr_file: Path, blocks: Any, tmp_path: Path) -> Callable[..., Service]:
    def made(dsr: bool = True, gallery: str | None = None, **limits: Any) -> Service:
        recogniser = Recogniser(RecogniserSettings(**onnx_files, threads=1), blocks)
        people = People(recogniser, gallery or str(tmp_path / "people.sqlite"))
        return Service(recogniser, load_dsr_onnx(dsr_file) if dsr else None, people, Limits(**limits))

    return made


@pytest.fixture
def make(service: Callable[..., Service]) -> Iterator[Make]:
    """Clients of apps with the access and limits that are given."""
    with ExitStack() as stack:

        def made(access: Access | None = None, ui: Path | None = None, dsr: bool = True, **given: Any) -> TestClient:
            app = create_app(service(dsr, **given), access or Access(loopback=True), ui)
            return stack.enter_context(TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False))

        yield made


@pytest.fixture
def client(make: Make) -> TestClient:
    return make()


@pytest.fixture
def photo(photo_of: Callable[..., RgbImage]) -> Callable[..., bytes]:
    """The PNG of a photo: (person, photo, side in pixels) for each face; `height` of the photo."""
    return lambda *faces, **options: png(photo_of(*faces, **options))


@pytest.fixture
def small_face(face: Callable[..., RgbImage]) -> Callable[[int, int], bytes]:
    """The PNG of an aligned face of 16 pixels."""
    return lambda person, number: png(face(person, number, 16))


@dataclass
class Server:
    """`python -m pipeline.api` in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Bytes of memory it has now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


@contextmanager
def servers(folder: Path, models: list[str]) -> Iterator[Callable[..., Server]]:
    """Starts servers in `folder` and, at the end, kills them."""
    started = []

    def start(*flags: str, **environment: str) -> Server:
        log = folder / "server.log"
        command = [sys.executable, "-m", "pipeline.api", "--port", "0", "--threads", "1", *models, *flags]
        process = subprocess.Popen(command, cwd=folder, stderr=log.open("w"), text=True, env=os.environ | environment)
        started.append(process)
        return Server(process, wait_until_up(process, log), log)

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def models(onnx_files: dict[str, str], dsr_file: Path) -> list[str]:
    """The flags that name the models for made-up faces."""
    return ["--edgeface", onnx_files["edgeface"], "--chain", onnx_files["chain"], "--dsr", str(dsr_file)]


@pytest.fixture
def start_server(models: list[str], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with servers(tmp_path, models) as start:
        yield start


@pytest.fixture(scope="module")
def server(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for several tests."""
    with servers(tmp_path_factory.mktemp("server"), models) as start:
        yield start()


def wait_until_up(process: subprocess.Popen[str], log: Path) -> int:
    """The port it listens on, once it answers."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        _, found, rest = log.read_text().partition("running on http://127.0.0.1:")
        if found:
            port = int(rest.split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                assert answer.status == 200
            return port
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
