"""YuNet's file is downloaded the first time: whole and the published one, or not kept. The server is this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import onnx.parser
import pytest

from common.errors import UserError
from facial_rec import detector_yunet
from facial_rec.detector import load_detector

# Something that OpenCV takes for a network; it finds nothing.
_GRAPH = "made_up (float[1, 3, 320, 320] x) => (float[1, 3, 320, 320] y) {y = Relu(x)}"
MODEL = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {_GRAPH}').SerializeToString()


class Shelf(BaseHTTPRequestHandler):
    """Serves the file, another one, or half of it; counts what it is asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        content = b"another file" if self.path == "/another" else MODEL
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path == "/cut" else content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server's address; the detector looks for its file in an empty folder, and takes `MODEL` for the published."""
    Shelf.asked.clear()
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(detector_yunet, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(detector_yunet, "SHA256", hashlib.sha256(MODEL).hexdigest())
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_published_file_is_fetched_once(shelf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_yunet, "ADDRESS", f"{shelf}/right")
    for _ in range(2):
        assert load_detector("yunet").name == "yunet"
    assert (tmp_path / "checkpoints" / detector_yunet.FILE).read_bytes() == MODEL
    assert Shelf.asked == ["/right"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/another", r"what http.*/another sent has sha256 .* expected .*another file or damaged"),
        ("/cut", r"what http.*/cut sent has sha256 .* expected .*another file or damaged"),
        ("/gone", r"/gone could not be fetched \(HTTP Error 404.*put it at .*checkpoints"),
    ],
)
def test_anything_else_is_not_kept(
    path: str, words: str, shelf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_yunet, "ADDRESS", shelf + path)
    with pytest.raises(UserError, match=words):
        load_detector("yunet")
    assert not list((tmp_path / "checkpoints").iterdir())
    monkeypatch.setattr(detector_yunet, "ADDRESS", f"{shelf}/right")
    assert load_detector("yunet").name == "yunet", "a failed download stands in nobody's way"
