"""`/people` and `/identify` with the people in PostgreSQL: as with a file, for several servers and clients at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from starlette.testclient import TestClient

PhotoFile = Callable[..., bytes]


def test_people_are_kept_found_and_deleted_as_in_a_file(
    make: Callable[..., TestClient], photo: PhotoFile, database: str
) -> None:
    found: list[Any] = []
    for gallery in (None, database):
        client = make(gallery=gallery)
        assert client.post("/identify", files={"image": photo((0, 0, 90))}).json()["error"] == "nobody_enrolled"
        two = [("image", photo((0, number, 90))) for number in (0, 1)]
        assert client.post("/people", data={"name": "Ann/Lee"}, files=two).status_code == 201
        assert client.post("/people", data={"name": "Bob"}, files={"image": photo((1, 0, 90))}).status_code == 201
        answer = client.post("/identify", files={"image": photo((0, 3, 80), (1, 2, 20), (5, 0, 60))})
        found.append([(face["name"], face["verdict"], face["candidates"]) for face in answer.json()["faces"]])
    assert [name for name, *_ in found[1]] == ["Ann/Lee", "Bob", None]
    for (_, verdict, candidates), (_, *in_a_file) in zip(found[1], found[0], strict=True):
        assert verdict["answer"] == in_a_file[0]["answer"]
        scores = {one["name"]: one["score"] for one in in_a_file[1]}
        assert {one["name"]: one["score"] for one in candidates} == pytest.approx(scores, abs=2e-6)

    other = make(gallery=database)  # another server
    everybody = [{"name": "Ann/Lee", "embeddings": 2}, {"name": "Bob", "embeddings": 1}]
    assert other.get("/people").json() == {"people": everybody}
    assert other.delete("/people/Ann%2FLee").json() == {"name": "Ann/Lee", "embeddings": 2}
    assert client.get("/people").json() == {"people": everybody[1:]}
    assert client.delete("/people/Ann%2FLee").status_code == 404
    answer = client.post("/identify", files={"image": photo((0, 3, 80))})
    assert [one["name"] for one in answer.json()["faces"][0]["candidates"]] == ["Bob"]


def test_a_database_that_goes_away_is_503_and_names_nothing(
    make: Callable[..., TestClient], photo: PhotoFile, postgres: str, database: str
) -> None:
    client = make(gallery=database)
    client.post("/people", data={"name": "Ann"}, files={"image": photo((0, 0, 90))})
    name = database.split("/")[3].split("?")[0]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    refused = client.get("/people")
    assert (refused.status_code, name in refused.text) == (503, False)
    assert client.post("/embed", files={"image": photo((0, 0, 90))}).status_code == 200
    assert client.get("/people").json()["people"] == [{"name": "Ann", "embeddings": 1}], "connected again"
    assert make(gallery=database).get("/people").json()["people"] == [{"name": "Ann", "embeddings": 1}]


def test_many_clients_at_once(start_server: Callable[..., Any], small_face: PhotoFile, database: str) -> None:
    """A server in a process of its own, whose threads share what it has of the database."""
    server = start_server("--gallery", database)
    with httpx.Client(base_url=server.address, timeout=60) as client:

        def ask(route: str, person: int, **fields: str) -> httpx.Response:
            return client.post(route, files={"image": small_face(person, 0)}, data={"aligned": "true", **fields})

        with ThreadPoolExecutor(6) as pool:
            enrolled = list(pool.map(lambda person: ask("/people", person, name=f"P{person}"), range(8)))
            found = list(pool.map(lambda number: ask("/identify", number % 8), range(24)))
        assert [one.status_code for one in enrolled] == [201] * 8
        assert [one.json()["faces"][0]["name"] for one in found] == [f"P{number % 8}" for number in range(24)]
        assert len(client.get("/people").json()["people"]) == 8
    assert "postgresql://" not in server.log.read_text()
