"""Hostile uploads: each gets a clear 4xx, quickly, and the API goes on answering."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipeline.api_app import create_app
from pipeline.api_guard import Access
from pipeline.api_service import Service

PhotoFile = Callable[..., bytes]
Make = Callable[..., TestClient]
MIB = 1024 * 1024


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few kilobytes that says it has 900 million pixels, and has a thousand black rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000 * (1 + 3 * side)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


BLACK = Image.new("RGB", (200, 200))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


def slow_jpeg(scans: int) -> bytes:
    """A JPEG of little length that takes long: each scan goes over all pixels once more."""
    usual = encoded(Image.new("L", (4992, 4992)), "JPEG", progressive=True)
    last = usual.rindex(b"\xff\xda")
    return usual[:-2] + usual[last:-2] * scans + usual[-2:]


HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "bomb.png": (bomb(), 413, "too_many_pixels"),
    "wide.png": (encoded(Image.new("1", (25_001, 1000)), "PNG"), 413, "too_many_pixels"),
    "cut.jpg": (encoded(NOISE, "JPEG")[:4000], 422, "unusable_photo"),
    "slow.jpg": (slow_jpeg(50), 422, "unusable_photo"),
    "cut.png": (encoded(NOISE, "PNG")[:4000], 422, "unusable_photo"),
    "drawing.svg": (SVG, 415, "not_an_image"),
    "page.jpg": (b"<!doctype html><script>alert(1)</script>", 415, "not_an_image"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not_an_image"),
    "picture.gif": (encoded(BLACK, "GIF"), 415, "not_an_image"),
    "picture.tiff": (encoded(BLACK, "TIFF"), 415, "not_an_image"),
    "moving.png": (encoded(BLACK, "PNG", save_all=True, append_images=[NOISE]), 422, "unusable_photo"),
    "empty.jpg": (b"", 422, "unusable_photo"),
    "one.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), 422, "no_face"),
    "dark.webp": (encoded(BLACK, "WEBP"), 422, "no_face"),
    "large.jpg": (bytes(8 * MIB + 1), 413, "too_large"),
    "huge.jpg": (bytes(50 * MIB), 413, "too_large"),
    "../../etc/passwd": (b"root", 415, "not_an_image"),
    "a\\..\\b\x00.png": (b"root", 415, "not_an_image"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("route", ["/verify", "/embed"])
def test_hostile_files(client: TestClient, photo: PhotoFile, route: str, name: str) -> None:
    content, status, error = HOSTILE[name]
    files = (
        {"image1": photo((0, 0, 90)), "image2": (name, content)} if route == "/verify" else {"image": (name, content)}
    )
    begin = time.monotonic()
    response = client.post(route, files=files)
    assert (response.status_code, response.json()["error"]) == (status, error), response.text
    assert time.monotonic() - begin < 5
    assert name not in response.text
    assert client.post("/embed", files={"image": photo((0, 0, 90))}).status_code == 200


def test_nothing_is_written_to_the_disk(client: TestClient, photo: PhotoFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("tempfile._TemporaryFile", refuse, raising=False)
    large = photo((0, 0, 90)) + bytes(6 * MIB)  # a PNG may be followed by anything
    assert client.post("/embed", files={"image": large}).status_code == 200


def test_bodies_that_are_no_forms(client: TestClient, photo: PhotoFile) -> None:
    assert client.post("/verify").status_code == 415
    assert client.post("/verify", json={"image1": "x"}).status_code == 415
    assert client.post("/verify", data={"metric": "cosine"}).status_code == 415  # urlencoded
    for kind in ("multipart/form-data", "multipart/form-data; boundary="):
        refused = client.post("/verify", content=b"--x\r\n", headers={"Content-Type": kind})
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_form"), kind
    broken = client.post(
        "/verify", content=b"--x\r\nnot a header\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert broken.status_code == 400
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xc3\xa4\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    refused = client.post("/verify", content=field, headers=kind)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_form")


def test_fields_are_checked_by_name(client: TestClient, photo: PhotoFile) -> None:
    a, b = photo((0, 0, 90)), photo((0, 1, 90))
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"image1": a}, {}, "image2"),
        ({"image1": a, "image2": b}, {"metric": "manhattan"}, "metric"),
        ({"image1": a, "image2": b}, {"metric": ["cosine", "cosine"]}, "metric"),
        ({"image1": a, "image2": b}, {"aligned": "perhaps"}, "aligned"),
        ({"image1": a, "image2": b}, {"other": "1"}, "other"),
        ({"image1": a}, {"image2": "text"}, "image2"),
        ({"image1": a, "metric": b"cosine"}, {}, "metric"),
    ]
    for files, data, field in cases:
        refused = client.post("/verify", files=files, data=data)
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid"), refused.text
        assert field in refused.json()["message"]
    for field, value in (("size", "7"), ("size", "65"), ("size", "1e1")):
        assert client.post("/upscale", files={"image": a}, data={field: value}).status_code == 422
    assert client.post("/identify", files={"image": a}, data={"top": "0"}).status_code == 422
    two = client.post("/embed", files=[("image", ("a", a)), ("image", ("b", b))])
    assert (two.status_code, two.json()["error"]) == (400, "bad_form")
    long = client.post("/verify", files={"image1": a, "image2": b}, data={"metric": "c" * 3000})
    assert (long.status_code, long.json()["error"]) == (400, "bad_form")
    assert "PNG" not in refused.text


def test_too_many_faces(make: Make, photo: PhotoFile) -> None:
    client = make(max_faces=2)
    assert client.post("/embed", files={"image": photo(*[(n, 0, 30) for n in range(2)])}).status_code == 200
    refused = client.post("/embed", files={"image": photo(*[(n, 0, 30) for n in range(3)])})
    assert (refused.status_code, refused.json()["error"]) == (422, "too_many_faces")


def test_an_aligned_face_is_square(client: TestClient, photo: PhotoFile) -> None:
    refused = client.post("/embed", files={"image": photo((0, 0, 90))}, data={"aligned": "true"})
    assert (refused.status_code, refused.json()["error"]) == (422, "not_aligned")


def test_a_body_without_a_length_is_counted(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(MIB)

    begin = time.monotonic()
    refused = client.post("/embed", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
    assert time.monotonic() - begin < 5


def asking(service: Service, *requests: Any, base: str = "http://localhost") -> list[httpx.Response]:
    """The answers to concurrent requests; each is called with a client."""

    async def ask() -> list[httpx.Response]:
        app = create_app(service, Access(loopback=True))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base, timeout=30) as client,
        ):
            return await asyncio.gather(*(one(client) for one in requests))

    return asyncio.run(ask())


def test_concurrent_requests_share_batches(service: Callable[..., Service], small_face: PhotoFile) -> None:
    made = service()
    calls: list[int] = []
    embed = made.recogniser.embed

    def slowly(crops: Any) -> Any:
        calls.append(len(crops))
        time.sleep(0.1)  # meanwhile the others arrive
        return embed(crops)

    made.recogniser.embed = slowly  # type: ignore[method-assign]

    def ask(person: int) -> Any:
        files = {"image1": small_face(person, 0), "image2": small_face(person % 4, 1)}
        return lambda client: client.post("/verify", files=files, data={"aligned": "true"})

    answers = asking(made, *(ask(person) for person in range(16)))
    assert [one.json()["match"] for one in answers] == [person < 4 for person in range(16)]
    assert sum(calls) == 32
    assert len(calls) < 16
    assert max(calls) > 2


def test_a_full_queue_is_429(
    service: Callable[..., Service], small_face: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service(queue=2)
    look = made.looker.recogniser.find
    monkeypatch.setattr(made.recogniser, "find", lambda *values: (time.sleep(0.3), look(*values))[1])

    def ask(client: httpx.AsyncClient) -> Any:
        return client.post("/embed", files={"image": small_face(0, 0)}, data={"aligned": "true"})

    answers = asking(made, *[ask] * 6)
    assert sorted(one.status_code for one in answers) == [200, 200, 429, 429, 429, 429]
    refused = next(one for one in answers if one.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"] == "busy"
    assert (made.queue.taken, made.senders.taken, made.held.taken) == (0, 0, 0)
    assert [one.status_code for one in asking(made, ask)] == [200]


def test_few_bytes_are_held_at_a_time(service: Callable[..., Service], photo: PhotoFile) -> None:
    made = service(held_bytes=100_000)

    def ask(client: httpx.AsyncClient) -> Any:
        return client.post("/embed", files={"image": photo((0, 0, 90)) + bytes(150_000)})

    (refused,) = asking(made, ask)
    assert (refused.status_code, refused.json()["error"]) == (429, "busy")
    assert made.held.taken == 0


def test_an_answer_that_takes_too_long(
    service: Callable[..., Service], small_face: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service(answer_seconds=0.2)
    monkeypatch.setattr(made.recogniser, "find", lambda *_: time.sleep(0.6))

    def ask(client: httpx.AsyncClient) -> Any:
        return client.post("/embed", files={"image": small_face(0, 0)}, data={"aligned": "true"})

    (late,) = asking(made, ask)
    assert (late.status_code, late.json()["error"]) == (503, "too_slow")


def test_an_enrolment_is_kept_outside_of_the_limited_time(
    service: Callable[..., Service], small_face: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was kept could be answered "too slow", and be kept again when it is sent again."""
    made = service()
    enrol = made.people.enrol
    held: list[int] = []

    def noted(*values: Any) -> Any:
        held.append(made.held.taken)
        return enrol(*values)

    def ask(client: httpx.AsyncClient) -> Any:
        form = {"aligned": "true", "name": "Ann"}
        return client.post("/people", files={"image": small_face(0, 0)}, data=form)

    monkeypatch.setattr(made.people, "enrol", noted)
    (answer,) = asking(made, ask)
    assert answer.status_code == 201, answer.text
    assert held == [0], "the upload's bytes are given back where its time ends"


def test_photos_need_not_wait_for_the_gallery(
    service: Callable[..., Service], small_face: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service(answer_seconds=5.0)
    held = threading.Event()
    monkeypatch.setattr(made.people, "known", lambda: held.wait(20) and [])

    def ask(client: httpx.AsyncClient) -> Any:
        async def verified() -> Any:
            await asyncio.sleep(0.2)
            try:
                return await client.post("/embed", files={"image": small_face(0, 0)}, data={"aligned": "true"})
            finally:
                held.set()

        return verified()

    waiting = [lambda client: client.get("/people")] * (2 * (os.cpu_count() or 1))
    answer, *others = asking(made, ask, *waiting)
    assert answer.status_code == 200
    assert {one.status_code for one in others} == {200}


def test_a_slow_upload_is_ended(service: Callable[..., Service]) -> None:
    made = service(upload_seconds=0.2)

    def ask(client: httpx.AsyncClient) -> Any:
        async def body() -> Any:
            yield b"--x\r\n"
            await asyncio.sleep(1)

        return client.post("/embed", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})

    (late,) = asking(made, ask)
    assert (late.status_code, late.json()["error"]) == (408, "too_slow")
    assert made.senders.taken == 0


def test_a_mistake_of_ours_is_answered_and_leaks_nothing(
    make: Make, service: Callable[..., Service], photo: PhotoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.api_routes.embed_answer", lambda *_: 1 / 0)
    answer = make().post("/embed", files={"image": photo((0, 0, 90))})
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert "division" not in answer.text
