"""Timing contenders against each other, for `pipeline.benchmark`: on so many threads, turn by turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facial_rec.timing import time_in_turns
from facial_rec.weights import first_sentence
from pipeline.benchmark_contenders import REFERENCE, Call, Contender, Setting, opener_of
from pipeline.benchmark_gallery import DIM, SHA256, empty, fill, first_search, probes_of, recall, searching
from pipeline.gallery import Gallery, open_gallery
from pipeline.networks import set_threads

MAY_FAIL = ("torchscript", "compile")
"""Runtimes that a machine may not have: no compiler, an operator that this device lacks."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """What was measured of a contender."""

    contender: Contender
    threads: int
    ms: float | None
    """Median milliseconds of a call; None where it does not run here."""
    ratio: float | None
    """To `REFERENCE` on as many threads, in the same rounds."""
    first_call_s: float | None = None
    """Seconds of the first call, in which `compile` compiles."""
    why_not: str | None = None
    """Why it does not run here."""
    first_search_ms: float | None = None
    """Of a gallery: the first search after opening it."""
    recall: float | None = None
    """Of a gallery: share of the exact five best people that it found."""

    @property
    def ms_a_face(self) -> float | None:
        """Milliseconds by the faces in a batch."""
        return None if self.ms is None else self.ms / self.contender.batch

    @property
    def ratio_a_face(self) -> float | None:
        """`ratio` by the faces in a batch."""
        return None if self.ratio is None else self.ratio / self.contender.batch

    def record(self) -> dict[str, Any]:
        """As JSON values, without what was not measured."""
        found = asdict(self)
        named = {"name": self.contender.name, **found.pop("contender")}
        values = {**named, **found, "ms_a_face": self.ms_a_face, "ratio_a_face": self.ratio_a_face}
        return {name: value for name, value in values.items() if value is not None}


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Torch, OpenCV and numpy's BLAS on so many threads; onnxruntime's sessions are told when they are opened."""
    set_threads(threads)
    cv2.setNumThreads(threads)
    with threadpool_limits(limits=threads):
        yield


def time_contenders(contenders: Sequence[Contender], setting: Setting, rounds: int) -> list[Row]:
    """A row each. `contenders` take turns, `REFERENCE` among them."""
    calls: dict[Contender, Call] = {}
    first: dict[Contender, float] = {}
    why_not: dict[Contender, str] = {}
    for contender in contenders:
        if contender.runtime == "compile":
            print(f"compiling {contender.name}, batch {contender.batch}, {setting.threads} thread(s)", flush=True)
        started = time.perf_counter()
        try:
            call = opener_of(contender)(contender, setting)
            call()
        except RuntimeError as error:
            if contender.runtime not in MAY_FAIL:
                raise
            why_not[contender] = first_sentence(error)
            continue
        first[contender], calls[contender] = time.perf_counter() - started, call
    medians = time_in_turns(calls, rounds, torch.device(setting.device), warm_up=1, settle=True)
    return [
        Row(one, setting.threads, None, None, why_not=why_not[one])
        if one in why_not
        else Row(one, setting.threads, medians[one], medians[one] / medians[REFERENCE], first[one])
        for one in contenders
    ]


def time_galleries(size: int, setting: Setting, rounds: int, url: str | None) -> list[Row]:
    """A search with one probe among `size` embeddings: SQLite, and the server at `url`, which is emptied again."""
    with ExitStack() as stack:
        places: dict[str, str | Path] = {"sqlite": setting.files.gallery(size)}
        if url is not None:
            places["postgresql"] = url
            stack.callback(_empty, url)
        stores: dict[str, Gallery] = {}
        for name, where in places.items():
            with open_gallery(where, SHA256, DIM) as filled:
                fill(filled, size)
            stores[name] = stack.enter_context(open_gallery(where, SHA256, DIM))
        probes = probes_of(size)
        first = {name: first_search(gallery, probes) for name, gallery in stores.items()}
        calls = {name: searching(gallery, probes) for name, gallery in stores.items()}
        calls[REFERENCE.name] = opener_of(REFERENCE)(REFERENCE, setting)
        medians = time_in_turns(calls, rounds, CPU, warm_up=1, settle=True)
        found = {name: gallery.search(probes) for name, gallery in stores.items()}
    return [
        Row(
            Contender("gallery", name, size),
            setting.threads,
            medians[name],
            medians[name] / medians[REFERENCE.name],
            first_search_ms=first[name],
            recall=recall(found[name], found["sqlite"]),
        )
        for name in stores
    ]


def _empty(url: str) -> None:
    with open_gallery(url, SHA256, DIM) as gallery:
        empty(gallery)
