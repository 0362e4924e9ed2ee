"""How well N faces, sorted into clusters, agree with whose they are: pure functions on numpy arrays.

Both kinds compare two labelings of the same faces; only which faces share a label counts. Pairwise figures look at
pairs of faces: precision is the share of the pairs in one cluster that are of one person, recall the share of the pairs
of one person that are in one cluster. They grow with the square of a person's photos. BCubed figures look at each face:
precision is the share of its cluster that is its own person (itself included), recall the share of its person that is
in its cluster, both averaged over faces (E. Amigó et al., "A comparison of extrinsic clustering evaluation metrics
based on formal constraints", Information Retrieval 12, 2009). F is the harmonic mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError


@dataclass(frozen=True)
class Agreement:
    """Precision, recall and F, each from 0 to 1."""

    precision: float
    recall: float

    @property
    def f(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def pairwise(clusters: ArrayLike, people: ArrayLike) -> Agreement:
    """Over pairs of faces. Without a pair in any cluster the precision is 1, without a pair of any person the recall.

    `clusters` and `people` `(N,)` are labels of any kind. Raises UserError for lengths that differ and for no face.
    """
    table, _, _ = _contingency(clusters, people)
    together = _pairs(table).sum()
    in_cluster, of_person = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    return Agreement(
        float(together / in_cluster) if in_cluster else 1.0, float(together / of_person) if of_person else 1.0
    )


def bcubed(clusters: ArrayLike, people: ArrayLike) -> Agreement:
    """Over faces; arguments and errors as for `pairwise`."""
    table, rows, columns = _contingency(clusters, people)
    shared = table[rows, columns]
    return Agreement(
        float((shared / table.sum(axis=1)[rows]).mean()), float((shared / table.sum(axis=0)[columns]).mean())
    )


def _contingency(
    clusters: ArrayLike, people: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """Faces by cluster (rows) and person (columns), and each face's row and column."""
    first, second = np.asarray(clusters), np.asarray(people)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise UserError(f"Expected a cluster and a person for each face, found shapes {first.shape}, {second.shape}.")
    names, rows = np.unique(first, return_inverse=True)
    others, columns = np.unique(second, return_inverse=True)
    table = np.zeros((len(names), len(others)), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table, rows, columns


def _pairs(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return counts * (counts - 1) // 2
