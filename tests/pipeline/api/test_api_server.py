"""The server as a process: slow senders, huge uploads, memory, many clients, and its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from uvicorn.protocols.http.flow_control import FlowControl

from dsr.synthetic import render_scene
from pipeline import api_server

README = Path(__file__).resolve().parents[3] / "technical" / "pipeline" / "README.md"
PhotoFile = Callable[..., bytes]
StartServer = Callable[..., Any]
MIB = 1024 * 1024
BOUNDARY = "boundary-of-the-form"


def form(files: dict[str, bytes], fields: dict[str, str]) -> bytes:
    """A `multipart/form-data` body."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="a"', content) for name, content in files.items()]
    rows = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + value + b"\r\n"
        for name, value in parts
    ]
    return b"".join([*rows, f"--{BOUNDARY}--\r\n".encode()])


def post(server: Any, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the JSON answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


@pytest.fixture
def pair(small_face: PhotoFile) -> Callable[[int, int], bytes]:
    """A form for /verify: aligned faces of two people."""
    return lambda one, other: form({"image1": small_face(one, 0), "image2": small_face(other, 1)}, {"aligned": "true"})


def head(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: multipart/form-data; boundary={BOUNDARY}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def drip(server: Any, content: bytes, seconds: float) -> tuple[bytes, float]:
    """Send a byte every tenth of a second until the server answers or hangs up; its answer, and after how long."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(0.1)
        for byte in content:
            if time.monotonic() - begin > seconds:
                return b"", seconds
            try:
                client.send(bytes([byte]))
                found = client.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                return b"closed", time.monotonic() - begin
            return found or b"closed", time.monotonic() - begin
    raise AssertionError("too little to send")


def test_slow_senders_are_sent_away(start_server: StartServer, pair: Callable[[int, int], bytes]) -> None:
    server = start_server("--upload-seconds", "1.5", "--head-seconds", "2", "--senders", "4")
    lines = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 1000
    slow_body = head("/verify", 5000) + form({"image1": bytes(2000)}, {})[:1000]
    with ThreadPoolExecutor(4) as pool:
        late_head = pool.submit(drip, server, lines, 20)
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        begin = time.monotonic()
        for one in sockets:
            one.sendall(slow_body)
        assert post(server, "/verify", pair(0, 0))[0] == 200, "one place is left for others"
        for one in sockets:
            one.settimeout(10)
            assert one.recv(4096).startswith(b"HTTP/1.1 408"), "the body never ends"
            one.close()
        assert time.monotonic() - begin < 8
        answer, seconds = late_head.result()
    assert answer.startswith(b"HTTP/1.1 408")
    assert seconds < 10
    assert post(server, "/verify", pair(0, 0))[0] == 200


def json_of(answer: bytes) -> Any:
    """What the body holds; None until it is whole."""
    try:
        return json.loads(answer.partition(b"\r\n\r\n")[2])
    except ValueError:
        return None


def test_a_connection_is_kept_for_the_next_request(start_server: StartServer) -> None:
    server = start_server("--head-seconds", "1")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(2):
            client.settimeout(10)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer or not json_of(answer):
                answer += (piece := client.recv(65536))
                assert piece, "closed"
            assert answer.startswith(b"HTTP/1.1 200")
            client.settimeout(2)
            with pytest.raises(TimeoutError):  # nothing is sent that nobody asked for
                client.recv(1)
        client.settimeout(10)
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 408"), "what has begun must end"


def test_who_does_not_read_the_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "UNREAD_SECONDS", 0.05)
    cut = []

    async def talk() -> None:
        protocol = object.__new__(api_server.PromptProtocol)
        protocol.loop = asyncio.get_running_loop()
        protocol.transport = SimpleNamespace(abort=lambda: cut.append(True))  # type: ignore[assignment]
        protocol.flow = FlowControl(protocol.transport)
        protocol.pause_writing()
        protocol.resume_writing()  # was read in time
        await asyncio.sleep(0.2)
        assert not cut
        protocol.pause_writing()
        await asyncio.sleep(0.2)

    asyncio.run(talk())
    assert cut == [True]


def test_50_megabytes_are_refused_and_forgotten(server: Any, pair: Callable[[int, int], bytes]) -> None:
    for _ in range(3):
        post(server, "/verify", pair(0, 1))
    before = server.memory()
    for _ in range(4):
        begin = time.monotonic()
        status, answer = post(server, "/embed", form({"image": bytes(50 * MIB)}, {}))
        assert (status, answer["error"]) == (413, "too_large")
        assert time.monotonic() - begin < 5
    assert server.memory() - before < 30 * MIB
    assert post(server, "/verify", pair(0, 0))[1]["match"] is True


def test_many_clients_none_lost_and_none_wrong(server: Any, pair: Callable[[int, int], bytes]) -> None:
    cases = [(pair(one, other), one == other) for one in range(4) for other in range(4)]

    def ask(number: int) -> bool:
        body, match = cases[number % len(cases)]
        status, answer = post(server, "/verify", body)
        return status == 200 and answer["match"] == match

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(160)))


def test_sigterm_answers_what_is_in_flight(start_server: StartServer, pair: Callable[[int, int], bytes]) -> None:
    server = start_server(DSR_API_TOKEN="correct-horse-battery")
    assert post(server, "/people", b"")[0] == 401
    body = pair(0, 0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head("/verify", len(body)) + body[:100])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(ConnectionError):
            post(server, "/verify", body)
        client.sendall(body[100:])
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"match":true' in answer
    assert server.process.wait(20) == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "correct-horse" not in log


def examples(language: str) -> list[str]:
    """The code of the API's section in the README."""
    section = README.read_text().partition("\n## The verify API\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_the_examples_of_the_readme_run(server: Any, tmp_path: Path) -> None:
    for name, shot in (("a.jpg", 0), ("b.jpg", 1), ("party.jpg", 2), ("small.jpg", 3)):
        Image.fromarray(render_scene(0, 3, shot)[0]).save(tmp_path / name, quality=95)
    ways = {"bash": ["bash", "-ec"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
    needed = {"bash": "curl", "python": sys.executable, "js": "node"}  # curl and node are not everywhere
    for language, way in ways.items():
        (code,) = examples(language)
        code = code.replace("http://localhost:8000", server.address).replace("curl ", "curl -sSf ")
        if shutil.which(needed[language]):
            done = subprocess.run([*way, code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert "true" in done.stdout.lower(), "they match"
    if shutil.which("curl"):
        assert (tmp_path / "restored.png").read_bytes().startswith(b"\x89PNG")
