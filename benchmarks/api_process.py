"""For the measurements of the API: a server in a process of its own, its memory, photos of nobody, and forms."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from common.errors import UserError
from common.paths import find_weights
from dsr.synthetic import render_scene

START_SECONDS = 120
BOUNDARY = "boundary-of-the-form"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    port: int
    folder: Path
    """Its working directory, where it finds and should leave nothing but its log."""
    process: int

    def memory(self) -> float:
        """What it takes now, in MB."""
        return self._kept("VmRSS")

    def peak(self) -> float:
        """The most it took, in MB, since `forget_peak`."""
        return self._kept("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak` start from what it takes now."""
        self._of("clear_refs").write_text("5")

    def _kept(self, name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", self._of("status").read_text())
        assert found is not None
        return int(found[1]) * 1024 / 1e6

    def _of(self, name: str) -> Path:
        return Path(f"/proc/{self.process}/{name}")


@contextmanager
def running_server(edgeface: str, chain: str, *flags: str) -> Iterator[Server]:
    """`pipeline.api` on a port of its own, with these models. Raises UserError where it does not start."""
    models = [str(Path(find_weights(name) or name).absolute()) for name in (edgeface, chain)]
    command = ["--port", "0", "--edgeface", models[0], "--chain", models[1], *flags]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.api", *command], cwd=folder, stdout=file, stderr=file
            )
        try:
            yield Server(_port_of(process, log), Path(folder), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Where the server listens, once it does."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"running on http://[\d.]+:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise UserError(f"The server did not start: {log.read_text().strip()[-500:]}")


def photo_of(person: int, image: int, side: int) -> bytes:
    """A JPEG of nobody."""
    scene = cv2.cvtColor(render_scene(0, person, image)[0], cv2.COLOR_RGB2BGR)
    way = cv2.INTER_AREA if side < len(scene) else cv2.INTER_CUBIC
    done, data = cv2.imencode(".jpg", cv2.resize(scene, (side, side), interpolation=way))
    assert done
    return bytes(data)


def form_of(**photos: tuple[str, bytes]) -> bytes:
    """A form, of the content type `FORM`: by field, the name and the content of a file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data
        for field, (name, data) in photos.items()
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
