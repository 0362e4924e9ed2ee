"""What the API answers to hostile uploads, how quickly, with how much memory, and whether it goes on answering.

    python benchmarks/api_uploads.py --edgeface edgeface.onnx --chain chain.onnx

Starts its own server and sends `/verify` a photo of nobody beside each of the files. Ends with an error where an answer
is another than it should be, a good pair is not answered as before, or a file was left in the server's folder.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from api_process import BOUNDARY, FORM, Server, form_of, photo_of, running_server
from PIL import Image

from common import cli
from common.errors import UserError
from facial_rec.tables import format_table
from pipeline.recogniser import CHAIN, EDGEFACE

HEADER = ("upload", "bytes", "status", "seconds", "memory before", "peak", "after, MB")
HEAD = f"POST /verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
PROMISED = 100_000  # bytes that the slow sender says it will send
PAUSE = 0.5  # between two of the bytes that it sends
MIB = 1024 * 1024


@dataclass(frozen=True)
class Config:
    """Which models."""

    edgeface: str = EDGEFACE
    """EdgeFace as ONNX, looked up in checkpoints/ too."""
    chain: str = CHAIN
    """DSR and EdgeFace as ONNX, looked up in checkpoints/ too."""
    upload_seconds: float = 15.0
    """How long the server waits for an upload."""
    head_seconds: float = 10.0
    """How long it waits for the head of one."""


@dataclass(frozen=True)
class Case:
    """A file to send."""

    what: str
    content: bytes
    expected: int
    name: str = "b.jpg"


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where nothing did."""

    status: int
    message: str
    match: bool | None = None


def main(cfg: Config) -> None:
    """Print the table. Raises UserError, after it, for an answer that is not as it should be."""
    limits = ("--upload-seconds", str(cfg.upload_seconds), "--head-seconds", str(cfg.head_seconds))
    with running_server(cfg.edgeface, cfg.chain, "--threads", "1", *limits) as server:
        good = Case("a good photo", photo_of(0, 1, 250), 200)
        first = post(server.port, good)
        before = server.memory()
        rows, wrong = [], []
        for case in (good, *hostile_files(good.content)):
            rows.append(
                measured(server, case.what, f"{len(case.content):,}", lambda case=case: post(server.port, case))
            )
            wrong += [] if rows[-1][2] == str(case.expected) else [case.what]
            wrong += [] if post(server.port, good) == first else [f"a good photo after '{case.what}'"]
        for what, start in slow_senders().items():
            rows.append(measured(server, what, "", lambda start=start: send_slowly(server.port, start)))
            wrong += [] if rows[-1][2] == "408" else [what]
        wrong += [] if post(server.port, good) == first else ["a good photo at the end"]
        left = sorted(path.name for path in server.folder.iterdir() if path.name != "log")
        after = server.memory()
    print(format_table(HEADER, [row[:-1] for row in rows]) + "\n")
    print("\n".join(f"{what}: {message}" for what, *_, message in rows) + "\n")
    print(f"After each a good pair was compared; memory at the start {before:.0f} MB, at the end {after:.0f} MB.")
    print(f"Files that the server left: {', '.join(left) or 'none'}.")
    if wrong or left:
        raise UserError(f"not as they should be: {', '.join([*wrong, *left])}")


def measured(server: Server, what: str, size: str, ask: Callable[[], Answer]) -> list[str]:
    """A row of the table, and the message."""
    server.forget_peak()
    before, begin = server.memory(), time.perf_counter()
    answer = ask()
    seconds = time.perf_counter() - begin
    memory = [f"{value:.0f}" for value in (before, server.peak(), server.memory())]
    return [what, size, str(answer.status), f"{seconds:.2f}", *memory, answer.message]


def hostile_files(photo: bytes) -> list[Case]:
    """What no server should fall over."""
    html = b"<!doctype html><script>alert(1)</script>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    return [
        Case("bomb: PNG of 15,000x15,000", png(15_000), 413, "b.png"),
        Case("truncated JPEG", photo[: len(photo) // 2], 422),
        Case("SVG", svg, 415, "b.svg"),
        Case("HTML named .jpg", html, 415),
        Case("0 bytes", b"", 422),
        Case("1x1", png(1), 422, "b.png"),
        Case("9 MiB", bytes(9 * MIB), 413),
        Case("50 MB", bytes(50_000_000), 413),
        Case("text named ../../../etc/passwd", b"root", 415, "../../../etc/passwd"),
        Case("text named a NUL and C:\\", b"root", 415, "C:\\..\\b\0.jpg"),
        Case("a photo named ../../b.jpg", photo, 200, "../../b.jpg"),
    ]


def png(side: int) -> bytes:
    """A black PNG."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, format="PNG")
    return file.getvalue()


def slow_senders() -> dict[str, bytes]:
    """How a request begins that then goes on with a byte at a time."""
    whole = f"{HEAD}Content-Length: {PROMISED}\r\n\r\n--{BOUNDARY}\r\n"
    return {"slow sender of a photo": whole.encode(), "slow sender of a head": f"{HEAD}X-More: ".encode()}


def post(port: int, case: Case) -> Answer:
    """Send a good photo and the file of the case; a server that answers before the end is listened to."""
    form = form_of(image1=("a.jpg", photo_of(0, 0, 250)), image2=(case.name, case.content))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):  # it has answered, and takes no more
            connection.sendall(f"{HEAD}Content-Length: {len(form)}\r\n\r\n".encode() + form)
        return read_answer(connection)


def send_slowly(port: int, start: bytes) -> Answer:
    """Send a byte now and then until there is an answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(start)
        connection.settimeout(PAUSE)
        for _ in range(PROMISED):
            try:
                connection.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                connection.sendall(b"x")
        connection.settimeout(60)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """The answer on this connection."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, f"no answer ({type(error).__name__})")
    said = json.loads(content) if content else {}
    return Answer(response.status, said.get("message", response.reason), said.get("match"))


if __name__ == "__main__":
    cli.run(main, Config)
