"""A gallery in memory, and exact search in it: the people most like each probe, by a matrix product. Pure numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.gallery import Match

_SCORES_AT_ONCE = 16_000_000  # 64 MB of float32


@dataclass(frozen=True)
class Rows:
    """A gallery's embeddings in memory, those of a person next to each other."""

    vectors: NDArray[np.float32]
    """`(N, D)`."""
    owners: NDArray[np.int64]
    """`(N,)` number of the person, ascending."""
    ids: NDArray[np.int64]
    metadata: list[str]
    names: dict[int, str]
    """By the number of the person."""
    deletions: int
    """The file's count when this was read: while it stays, rows are only added."""

    def match(self, row: int, score: float) -> Match:
        """A row as the result of a search."""
        name, number = self.names[int(self.owners[row])], int(self.ids[row])
        return Match(name, score, number, json.loads(self.metadata[row]))


def no_rows(dim: int, deletions: int) -> Rows:
    """An empty gallery."""
    none = np.empty(0, dtype=np.int64)
    return Rows(np.empty((0, dim), dtype=np.float32), none, none, [], {}, deletions)


def joined(known: Rows, new: Rows) -> Rows:
    """Both, sorted by person; within a person the oldest first."""
    if not len(known.ids):
        vectors, owners, ids, metadata = new.vectors, new.owners, new.ids, new.metadata
    elif not len(new.ids):
        return replace(known, names=new.names)
    else:
        vectors = np.concatenate([known.vectors, new.vectors])
        owners, ids = np.concatenate([known.owners, new.owners]), np.concatenate([known.ids, new.ids])
        metadata = known.metadata + new.metadata
    if (np.diff(owners) < 0).any():
        order = np.argsort(owners, kind="stable")
        vectors, owners, ids = vectors[order], owners[order], ids[order]
        metadata = [metadata[row] for row in order]
    return Rows(vectors, owners, ids, metadata, new.names, new.deletions)


def best_people(
    vectors: NDArray[np.float32], owners: NDArray[np.int64], probes: NDArray[np.float32], top: int
) -> list[list[tuple[int, float]]]:
    """For each probe the row and cosine of the best embedding of each of its `top` best people, best first.

    `vectors` `(N, D)` and `probes` `(Q, D)` have rows of length 1; `owners` `(N,)`, ascending, says whose each row is.
    Of people with the same score the first comes first.
    """
    if not len(vectors):
        return [[] for _ in probes]
    starts = np.flatnonzero(np.diff(owners, prepend=owners[0] - 1))
    step = max(1, _SCORES_AT_ONCE // len(vectors))
    found = []
    for first in range(0, len(probes), step):
        scores = (probes[first : first + step] @ vectors.T).clip(-1.0, 1.0)
        people = scores if len(starts) == len(owners) else np.maximum.reduceat(scores, starts, axis=1)
        found += [_best(own, every, starts, top) for own, every in zip(people, scores, strict=True)]
    return found


def _best(
    people: NDArray[np.float32], scores: NDArray[np.float32], starts: NDArray[np.int64], top: int
) -> list[tuple[int, float]]:
    """Row and score of the `top` highest of `people` `(P,)`, the maxima of `scores` `(N,)` from `starts` `(P,)` on."""
    count = min(top, len(people))
    least = np.partition(people, len(people) - count)[len(people) - count]
    candidates = np.flatnonzero(people >= least)
    chosen = candidates[np.argsort(-people[candidates], kind="stable")][:count]
    ends = np.append(starts[1:], len(scores))
    rows = [int(starts[one] + np.argmax(scores[starts[one] : ends[one]])) for one in chosen]
    return [(row, float(people[one])) for row, one in zip(rows, chosen, strict=True)]
