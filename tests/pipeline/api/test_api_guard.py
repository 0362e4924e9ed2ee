"""Who may ask: tokens, web pages elsewhere, names of the server; the headers that go out, and what is logged."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from common.errors import UserError
from pipeline import api_guard
from pipeline.api import Config, load_dsr, main, read_token
from pipeline.api_guard import CONTENT_SECURITY_POLICY, Access, is_loopback
from pipeline.recogniser import Recogniser, RecogniserSettings

PhotoFile = Callable[..., bytes]
Make = Callable[..., TestClient]
TOKEN = "correct-horse-battery"


def on_people(client: TestClient, photo: bytes, **headers: str | bytes) -> list[int]:
    """The statuses of enrolling, listing and deleting."""
    answers = [
        client.post("/people", data={"name": "Ann"}, files={"image": photo}, headers=headers),
        client.get("/people", headers=headers),
        client.delete("/people/Ann", headers=headers),
    ]
    return [one.status_code for one in answers]


def test_people_need_the_token_where_there_is_one(make: Make, photo: PhotoFile) -> None:
    image = photo((0, 0, 90))
    for loopback in (True, False):
        client = make(Access(loopback, TOKEN))
        assert on_people(client, image) == [401] * 3
        for wrong in ("Bearer wrong", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", b"Bearer \xe9"):
            assert on_people(client, image, authorization=wrong) == [401] * 3
        assert on_people(client, image, authorization=f"Bearer {TOKEN}") == [201, 200, 200]
        assert on_people(client, image, authorization=f"bearer {TOKEN}") == [201, 200, 200], "any case, RFC 9110"
        refused = client.get("/people")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post("/embed", files={"image": image}).status_code == 200


def test_candidates_are_for_those_who_may_list_people(make: Make, photo: PhotoFile, tmp_path: Path) -> None:
    gallery = str(tmp_path / "known.sqlite")
    owner, closed = make(gallery=gallery), make(Access(loopback=False), gallery=gallery)
    for number, name in enumerate(("Ann", "Bob")):
        owner.post("/people", data={"name": name}, files={"image": photo((number, 0, 90))})
    guarded = make(Access(loopback=False, token=TOKEN), gallery=gallery)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for client, given, listed in ((owner, {}, 2), (closed, {}, 0), (guarded, {}, 0), (guarded, headers, 2)):
        files = {"image": photo((0, 1, 90), (5, 0, 90))}
        known, stranger = client.post("/identify", files=files, headers=given).json()["faces"]
        assert (known["name"], stranger["name"]) == ("Ann", None)
        assert len(stranger["candidates"]) == listed
        assert [one["name"] for one in known["candidates"]][: 1 + (listed > 0)] == ["Ann", "Bob"][: 1 + (listed > 0)]
        assert len(known["candidates"]) == max(1, listed)


def test_people_are_closed_to_the_network_without_a_token(make: Make, photo: PhotoFile) -> None:
    client = make(Access(loopback=False))
    assert on_people(client, photo((0, 0, 90))) == [403] * 3
    assert client.get("/healthz").json()["people"] is False
    assert client.post("/embed", files={"image": photo((0, 0, 90))}).status_code == 200
    assert on_people(make(Access(loopback=True)), photo((0, 0, 90))) == [201, 200, 200]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *((host, True) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")),
        *((host, False) for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", "")),
    ],
)
def test_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) == here


def test_pages_elsewhere_may_not_ask(make: Make, photo: PhotoFile) -> None:
    client, image = make(), photo((0, 0, 90))
    for headers in (
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:9000"},
        {"sec-fetch-site": "cross-site"},
    ):
        refused = client.post("/people", data={"name": "Ann"}, files={"image": image}, headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (403, "cross_origin"), headers
        assert "access-control-allow-origin" not in refused.headers
    asked = client.options(
        "/verify", headers={"origin": "https://example.org", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in asked.headers
    assert (
        client.get("/healthz", headers={"origin": "https://example.org"}).headers.get("access-control-allow-origin")
        is None
    )
    own = client.post("/embed", files={"image": image}, headers={"origin": "http://localhost:8000"})
    assert own.status_code == 200


def test_one_page_elsewhere_may_be_let_in(make: Make, photo: PhotoFile) -> None:
    client = make(Access(loopback=True, origins=("https://example.org",)))
    for origin, status in (("https://example.org", 200), ("https://example.org.evil.test", 403)):
        answer = client.post("/embed", files={"image": photo((0, 0, 90))}, headers={"origin": origin})
        assert answer.status_code == status
        assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
    for wrong in (
        "*",
        "http://[",
        "example.org",
        "https://example.org/page",
        "ftp://example.org",
        "https://Example.org",
    ):
        with pytest.raises(UserError, match="--allow-origin"):
            Access(loopback=True, origins=(wrong,))


def test_other_names_of_the_server(make: Make) -> None:
    client = make()
    for host, status in (
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.test:8000", 400),
        ("", 400),
        ("[", 400),
    ):
        answer = client.get("/healthz", headers={"host": host})
        assert answer.status_code == status, host
    for name in ("faces.test", "Faces.Test"):
        assert make(Access(True, hosts=(name,))).get("/", headers={"host": "faces.test"}).status_code == 200
    assert make(Access(False)).get("/", headers={"host": "faces.test"}).status_code == 200


def test_headers(client: TestClient, photo: PhotoFile) -> None:
    for path in ("/", "/docs", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe-inline" not in policy
        assert "'unsafe-eval'" not in policy
        assert "http" not in policy
    assert client.post("/embed", files={"image": photo((0, 0, 90))}).headers["cache-control"] == "no-store"
    assert client.get("/nothing").json() == {"error": "not_found", "message": "Not Found"}
    for path, allowed in (("/verify", "POST"), ("/people", "GET, POST"), ("/people/Ann", "DELETE"), ("/docs", "GET")):
        refused = client.put(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)


def test_the_page_is_built_for_the_same_policy() -> None:
    rules = (Path(api_guard.__file__).parent / "web" / "csp.ts").read_text().partition("RULES = [")[2].partition("]")[0]
    assert [*re.findall(r'"([^"]+)"', rules), "frame-ancestors 'none'"] == CONTENT_SECURITY_POLICY.split("; ")


def test_the_log_names_nobody(make: Make, photo: PhotoFile, caplog: pytest.LogCaptureFixture) -> None:
    client, image = make(Access(True, TOKEN)), photo((0, 0, 90))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with caplog.at_level(logging.DEBUG):
        client.post("/people", data={"name": "Secretname"}, files={"image": ("Secretname.png", image)}, headers=headers)
        client.post("/embed", files={"image": image})
        client.delete("/people/Secretname", headers=headers)
        client.get("/Secretname")
    lines = [record.getMessage() for record in caplog.records if record.name == "pipeline.api"]
    assert [line.rsplit(",")[0] for line in lines] == [
        "POST /people 201",
        "POST /embed 200",
        "DELETE /people/{name:path} 200",
        "GET no route 404",
    ]
    said = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert "Secretname" not in said
    assert TOKEN not in said
    assert "PNG" not in said


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSR_API_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("DSR_API_TOKEN", "")
    assert read_token(None) is None
    monkeypatch.setenv("DSR_API_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text("from-the-file-instead\n")
    assert read_token(tmp_path / "token") == "from-the-file-instead"
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(UserError, match="is empty: expected a token"):
        read_token(tmp_path / "empty")
    with pytest.raises(UserError, match="cannot be read"):
        read_token(tmp_path)
    for weak in ("short", "sixteen letters \xe9"):
        with pytest.raises(UserError, match="token is too short or no plain text"):
            Access(True, weak)


def test_a_server_that_cannot_start(
    onnx_files: dict[str, str], write_onnx: Callable[..., Path], dsr_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delenv("DSR_API_TOKEN", raising=False)
    with pytest.raises(UserError, match=r"absent\.onnx not found"):
        main(Config(edgeface=onnx_files["edgeface"], chain=str(tmp_path / "absent.onnx")))
    recogniser = Recogniser(RecogniserSettings(**onnx_files))
    assert load_dsr(str(dsr_file), recogniser) is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path)
    assert load_dsr("dsr.onnx", recogniser) is None
    with pytest.raises(UserError, match=r"other\.onnx is missing"):
        load_dsr("other.onnx", recogniser)
    with pytest.raises(UserError, match="--queue 0: expected more than 0"):
        main(Config(**onnx_files, queue=0))
    (tmp_path / "people.sqlite").write_text("no database")
    with pytest.raises(UserError, match="is not an SQLite database"):
        main(Config(**onnx_files))
