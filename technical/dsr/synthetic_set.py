"""A whole synthetic data set: which people go to which split, and their pictures drawn by several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from dsr.split_writer import Sample
from dsr.synthetic import render_aligned


def divide(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """How many of `count` people go to train, val and test, for the `fractions` of val and test.

    A fraction of 0 means that the split is not made; any other gets at least one person. Raises UserError for
    impossible fractions and for too few people.
    """
    if any(not 0 <= fraction < 1 for fraction in fractions.values()) or sum(fractions.values()) >= 1:
        given = ", ".join(f"--{split}-fraction {fraction}" for split, fraction in fractions.items())
        raise UserError(f"{given}: expected fractions from 0 to below 1 that leave something for training.")
    held = {split: max(1, round(count * fraction)) for split, fraction in fractions.items() if fraction > 0}
    train = count - sum(held.values())
    if train < 1:
        raise UserError(
            f"{count} people cannot be split into train, {', '.join(held)}: a split would be empty, since nobody may "
            "be in two. Add people, or set a fraction to 0 to leave its split out."
        )
    return {"train": train, **held}


def person_name(identity: int) -> str:
    """Subject name of a synthetic person: no underscore, since it ends at the last one in a file name."""
    return f"synthetic{identity:05d}"


def draw_set(seed: int, people: Mapping[int, str], images: int, workers: int) -> Iterator[Sample]:
    """Draw `images` aligned pictures of each person in `people` (identity number to split), in that order.

    `workers` is the number of processes, 0 for one a core. The pictures do not depend on it.
    """
    workers = min(workers or available_cores(), len(people))
    draw = partial(_draw_person, seed, images)
    if workers <= 1:
        yield from _samples(people, map(draw, people))
        return
    # Spawned and not forked: the caller may already run torch's threads.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from _samples(people, pool.imap(draw, people))


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _samples(people: Mapping[int, str], drawn: Iterator[NDArray[np.uint8]]) -> Iterator[Sample]:
    for (identity, split), pictures in zip(people.items(), drawn, strict=True):
        for number, pixels in enumerate(pictures, start=1):
            yield Sample(split, person_name(identity), number, pixels)


def _draw_person(seed: int, images: int, identity: int) -> NDArray[np.uint8]:
    """`(images, 112, 112, 3)`."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores already
    try:
        return np.stack([render_aligned(seed, identity, image) for image in range(images)])
    finally:
        cv2.setNumThreads(threads)
