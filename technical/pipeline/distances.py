"""Two embeddings of length 1 as a distance, and the distance at which they count as one person. Pure functions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]

LARGEST_DISTANCE: dict[Metric, float] = {"cosine": 0.65, "euclidean": 1.140}
"""A match lies at this distance or nearer. Both mean a cosine similarity of 0.35, the convention of this project."""


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The cosine of two vectors of length 1, from -1 to 1."""
    return float(np.clip(first.astype(np.float64) @ second.astype(np.float64), -1.0, 1.0))


def distance(first: NDArray[np.float32], second: NDArray[np.float32], metric: Metric) -> float:
    """`cosine`: 1 - s, from 0 to 2; `euclidean`: the length of the difference, sqrt(2 - 2 s), from 0 to 2."""
    if metric == "cosine":
        return 1.0 - similarity(first, second)
    return float(np.linalg.norm(first.astype(np.float64) - second.astype(np.float64)))
