"""Downloads: whole and of the right bytes, or not kept. The server is this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import UserError
from common.fetch import fetch_file, require_sha256

CONTENT = b"a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model.onnx").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/model.onnx"
        server.shutdown()


def test_a_file_is_fetched(address: str, tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "model.onnx"
    assert fetch_file(address, target, SHA256) == target
    assert target.read_bytes() == CONTENT


def test_another_file_is_not_kept(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"what {address} sent has sha256 {SHA256}, expected 00"):
        fetch_file(address, tmp_path / "kept" / "model.onnx", "00")
    assert not list((tmp_path / "kept").iterdir())


def test_unreachable_says_where_to_put_it(address: str, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "model.onnx"
    with pytest.raises(UserError, match="could not be fetched") as caught:
        fetch_file(address + ".gone", target, SHA256)
    assert f"put it at {target}" in str(caught.value)
    assert not target.exists()


def test_checksum_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    require_sha256(path, hashlib.sha256(b"x").hexdigest())
    with pytest.raises(UserError, match=str(path)):
        require_sha256(path, SHA256)
