"""The API under load on this machine: requests a second, waiting times, memory; no answer may be lost or wrong.

    python benchmarks/api_load.py --edgeface edgeface.onnx --chain chain.onnx

Starts its own server. Each request compares two made-up photos (nobody's) and the expected answer is what the server
says to the same pair when it has nothing else to do. Server and clients share this machine, so both count.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from api_process import FORM, form_of, photo_of, running_server

from common import cli
from common.errors import UserError
from common.progress import progress_bar
from facial_rec.tables import format_table
from pipeline.recogniser import CHAIN, EDGEFACE

HEADER = ("clients", "requests", "a second", "p50, ms", "p99, ms", "lost", "wrong", "memory, MB")
CLOSE = 1e-4  # the same pair in another batch: the distance moves by rounding only
Answer = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What to ask, and how often."""

    edgeface: str = EDGEFACE
    """EdgeFace as ONNX, looked up in checkpoints/ too."""
    chain: str = CHAIN
    """DSR and EdgeFace as ONNX, looked up in checkpoints/ too."""
    clients: tuple[int, ...] = (1, 8, 32)
    """Requests at a time."""
    requests: int = 400
    """Requests for each of them."""
    side: int = 250
    """Width of the photos, whose faces are about 0.4 of it wide; each pair has a photo of 60 pixels too."""
    threads: int = 1
    """Threads of each network; photos are looked at in one thread a core whatever this is."""


@dataclass(frozen=True)
class Asked:
    """What came of one request."""

    seconds: float
    status: int
    answer: Answer


def main(cfg: Config) -> None:
    """Print the table. Raises UserError for an answer that is lost or wrong, after the table."""
    forms = [pair_of(person, other, cfg.side) for person in range(4) for other in (person, person + 1)]
    with running_server(cfg.edgeface, cfg.chain, "--threads", str(cfg.threads)) as server:
        port = server.port
        first_answers = [ask(port, form) for form in forms]
        if refused := [one for one in first_answers if one.status != 200]:
            raise UserError(f"--side {cfg.side}: a pair is refused ({refused[0].answer}). Give a larger one.")
        expected = [one.answer for one in first_answers]
        first = server.memory()
        rows, bad = [], 0
        for clients in cfg.clients:
            begin = time.perf_counter()
            asked = asked_by(clients, cfg.requests, lambda number: ask(port, forms[number % len(forms)]))
            seconds = time.perf_counter() - begin
            lost = sum(one.status != 200 for one in asked)
            wrong = sum(
                one.status == 200 and not agrees(one.answer, expected[number % len(forms)])
                for number, one in enumerate(asked)
            )
            bad += lost + wrong
            half, late = np.percentile([1000 * one.seconds for one in asked], [50, 99])
            rate = len(asked) / seconds
            figures = (f"{rate:.1f}", f"{half:.0f}", f"{late:.0f}", str(lost), str(wrong), f"{server.memory():.0f}")
            rows.append([str(clients), str(len(asked)), *figures])
    print(format_table(HEADER, rows))
    matches = sum(one["match"] for one in expected)
    print(f"memory before: {first:.0f} MB; of the {len(forms)} pairs asked for, {matches} are a match")
    if bad:
        raise UserError(f"{bad} answers were lost or wrong.")


def asked_by(clients: int, count: int, one: Callable[[int], Asked]) -> list[Asked]:
    """What came of `count` requests, `clients` at a time."""
    with ThreadPoolExecutor(clients) as pool, progress_bar(count, f"{clients} at a time", "request") as progress:
        return [answer for answer in pool.map(one, range(count)) if progress.update() or True]


def agrees(answer: Answer, expected: Answer) -> bool:
    """Whether two answers to one pair say the same, but for rounding in the distance."""
    near = abs(answer["distance"] - expected["distance"]) < CLOSE
    faces = all(answer[name] == expected[name] for name in ("face1", "face2", "match"))
    return near and faces


def ask(port: int, form: bytes) -> Asked:
    """Ask once, on a connection of its own; status 0 where none came."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/verify", form, {"Content-Type": FORM})
        response = connection.getresponse()
        status, content = response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        status, content = 0, {}
    finally:
        connection.close()
    return Asked(time.perf_counter() - begin, status, content)


def pair_of(person: int, other: int, side: int) -> bytes:
    """A form for /verify: a large photo of one person and a small one of another, or of the same."""
    return form_of(image1=("a.jpg", photo_of(person, 0, side)), image2=("b.jpg", photo_of(other, 1, 60)))


if __name__ == "__main__":
    cli.run(main, Config)
