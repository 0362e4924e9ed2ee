"""Galleries of made-up people for `pipeline.benchmark`: filled, searched, compared, emptied. No torch."""

from __future__ import annotations

import time
from itertools import cycle

import numpy as np

from common.progress import progress_bar
from pipeline.benchmark_contenders import Call, Contender, Setting
from pipeline.gallery import Gallery, Match, Vectors, open_gallery

SHA256 = "00" * 32  # of no model
DIM = 512
SHOTS = 4
TOP = 5
PROBES = 50


def shots_of(person: int) -> Vectors:
    """A made-up person's embeddings `(5, 512)`: a probe, and the four that a gallery holds."""
    chance = np.random.default_rng(person)
    return (chance.standard_normal(DIM) + 0.8 * chance.standard_normal((SHOTS + 1, DIM))).astype(np.float32)


def probes_of(size: int) -> Vectors:
    """A probe each of the first people in a gallery of `size` embeddings, `(Q, 512)`."""
    return np.stack([shots_of(person)[0] for person in range(min(PROBES, size // SHOTS))])


def fill(gallery: Gallery, size: int) -> None:
    """Enrol people until the gallery holds `size` embeddings, and no others; nothing when it holds so many."""
    if len(gallery) == size:
        return
    empty(gallery)  # of what an interrupted run left
    with progress_bar(size, f"gallery of {size:,}", "embedding", keep=False) as progress, gallery.transaction():
        for person in range(size // SHOTS):
            gallery.enrol(f"Person {person}", shots_of(person)[1:])
            progress.update(SHOTS)


def searching(gallery: Gallery, probes: Vectors) -> Call:
    """One search with one probe, the next one every time."""
    turn = cycle(probes)
    return lambda: gallery.search(next(turn), TOP)


def first_search(gallery: Gallery, probes: Vectors) -> float:
    """Milliseconds of the first search after opening, which may read all embeddings."""
    started = time.perf_counter()
    gallery.search(probes[:1], TOP)
    return 1000 * (time.perf_counter() - started)


def recall(found: list[list[Match]], exact: list[list[Match]]) -> float:
    """Share of the exact best people that were found."""
    pairs = zip(found, exact, strict=True)
    return float(np.mean([len({a.name for a in mine} & {b.name for b in right}) / len(right) for mine, right in pairs]))


def empty(gallery: Gallery) -> None:
    """Delete everybody."""
    with gallery.transaction():
        for person in gallery.people():
            gallery.delete(person.name)
    gallery.compact()


def opened(contender: Contender, setting: Setting) -> Call:
    """Searching a gallery file that is filled already."""
    gallery = open_gallery(setting.files.gallery(contender.size), SHA256, DIM, create=False)
    return searching(gallery, probes_of(contender.size))
