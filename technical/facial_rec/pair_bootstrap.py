"""Intervals for figures of pairs: people are resampled, and a pair of two people depends on both.

Neither simple bootstrap fits a list of pairs. Weighting an impostor pair by both its people (the pigeonhole bootstrap,
A. B. Owen, Annals of Applied Statistics 1(2), 2007) counts the pair's own chance three times: a product of two Poisson
weights has variance 3. Resampling pairs as if they were independent misses that a person who is easily confused spoils
every pair he is in. The variance wanted is the dyadic-cluster-robust one (P. M. Aronow, C. Samii, V. A. Assenova,
Political Analysis 23(4), 2015): pairs that share a person covary, others do not. It is had from three resamplings:

    people      genuine pairs weighted by their person, impostor pairs by both      G + D + 2 I
    mixed       genuine pairs by their person, impostor pairs independently         G + I
    impostors   genuine pairs as they are, impostor pairs independently             I

(G: variance from the genuine pairs, D: dyadic variance from the impostor pairs, I: theirs were they independent), so
`people - 2 impostors` is G + D; it is taken no smaller than `mixed`, which it is when people do not matter. The
interval is `mixed`'s percentile interval, stretched about the estimate by the ratio of the standard deviations. All
pairs of the same two people are one unit. `benchmarks/interval_coverage.py` measures how often such intervals hold the
truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from facial_rec.bootstrap import LEVEL, MOST_UNDEFINED, Interval

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]
"""`(B, N)`: the weight of each pair in each of B resamples."""
Ints = NDArray[np.int64]

KINDS = ("people", "mixed", "impostors")
CHUNK_WEIGHTS = 120_000  # resamples x pairs worked on at once: what stays in a core's cache
KEPT_DRAWS = 50_000_000  # draws that are kept for the next method, of two bytes each
THREADS = 2
LEAST_PEOPLE = 2


@dataclass(frozen=True)
class Replicates:
    """One figure in every resample, `(B,)` each, NaN where undefined; see the module for the three kinds."""

    people: Floats
    mixed: Floats
    impostors: Floats

    def __sub__(self, other: Replicates) -> Replicates:
        """The paired difference of two figures: valid when both come from one `PairResampler`."""
        return Replicates(self.people - other.people, self.mixed - other.mixed, self.impostors - other.impostors)

    def interval(self, estimate: float | None, level: float = LEVEL) -> Interval | None:
        """The interval about `estimate`; None without one, or with more than 5 % of the resamples undefined."""
        kinds = [values[np.isfinite(values)] for values in (self.people, self.mixed, self.impostors)]
        enough = (1 - MOST_UNDEFINED) * len(self.people)
        if estimate is None or not len(self.people) or any(len(values) < max(1.0, enough) for values in kinds):
            return None
        people, mixed, impostors = (float(values.var()) for values in kinds)
        stretch = math.sqrt(max(people - 2 * impostors, mixed) / mixed) if mixed > 0 else 1.0
        low, high = np.quantile(kinds[1], [(1 - level) / 2, (1 + level) / 2])
        return float(estimate + stretch * (low - estimate)), float(estimate + stretch * (high - estimate))


Figures = Callable[[Weights], dict[str, Floats]]
"""From the weights of B resamples to every figure, `(B,)` each."""


class PairResampler:
    """Weights of the pairs in resamples of people. The same seed and pairs give the same resamples for every method.

    `first` and `second`, `(N,)`, number the two people of each pair, equal in a genuine pair. Raises UserError for
    lengths that differ, no pairs, or fewer than 0 repetitions.
    """

    def __init__(self, first: ArrayLike, second: ArrayLike, repetitions: int, seed: int) -> None:
        self.first, self.second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
        if self.first.shape != self.second.shape or self.first.ndim != 1 or not self.first.size:
            raise UserError(
                f"Resampling pairs needs two people a pair, found shapes {self.first.shape} and {self.second.shape}."
            )
        if repetitions < 0:
            raise UserError(f"{repetitions} resamples: expected 0 or more.")
        self.repetitions, self.seed = repetitions, seed
        self.people = int(max(self.first.max(), self.second.max())) + 1
        self.same = self.first == self.second
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        couples, self.couple = np.unique(low * self.people + high, return_inverse=True)
        self.couples = len(couples)
        self._step = max(1, CHUNK_WEIGHTS // len(self.first))
        self._drawn: dict[int, tuple[NDArray[np.uint16], NDArray[np.uint16]]] = {}

    def replicate(self, figures: Figures, order: NDArray[np.int64] | None = None) -> dict[str, Replicates]:
        """`figures` in every resample, by name. With `order` the weights' columns are the pairs in that order."""
        columns = np.arange(len(self.first)) if order is None else order
        same = self.same[columns]
        starts = range(0, self.repetitions, self._step)

        def chunk(start: int) -> list[dict[str, Floats]]:
            people, impostors = self._weights(start, columns)
            return [figures(weights) for weights in (people, np.where(same, people, impostors), impostors)]

        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(chunk, starts))
        names = list(parts[0][0]) if parts else []
        joined = {
            name: [np.concatenate([part[kind][name] for part in parts]) for kind in range(len(KINDS))] for name in names
        }
        return {name: Replicates(*kinds) for name, kinds in joined.items()}

    def draws(self) -> Iterator[NDArray[np.uint16]]:
        """How often each person is drawn, `(b, people)` chunk by chunk: for figures of images, not of pairs."""
        for start in range(0, self.repetitions, self._step):
            yield self._draw(start)[0]

    def _draw(self, start: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """How often each person, and each couple, is drawn in the chunk of resamples from `start`."""
        if start not in self._drawn:
            count = min(self._step, self.repetitions - start)
            rng = np.random.default_rng([self.seed, start])
            people = rng.multinomial(self.people, np.full(self.people, 1 / self.people), size=count)
            couples = rng.poisson(1.0, (count, 0 if self.same.all() else self.couples))
            drawn = people.astype(np.uint16), couples.astype(np.uint16)
            if self.repetitions * (self.people + self.couples) > KEPT_DRAWS:
                return drawn
            self._drawn[start] = drawn
        return self._drawn[start]

    def _weights(self, start: int, columns: Ints) -> tuple[Weights, Weights]:
        draws, drawn_couples = self._draw(start)
        first, second, same = self.first[columns], self.second[columns], self.same[columns]
        counts = draws.astype(np.float32)
        people = counts[:, first] * np.where(same, np.float32(1), counts[:, second])
        if same.all():
            return people, np.ones_like(people)
        couples = drawn_couples.astype(np.float32)
        return people, np.where(same, np.float32(1), couples[:, self.couple[columns]])


def rate_interval(
    errors: ArrayLike,
    trials: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    repetitions: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """95 % interval of `sum(errors) / sum(trials)` over pairs, people resampled, within [0, 1].

    `errors` and `trials` are counts (or 0 and 1) of each pair `(N,)`, `first` and `second` its people's numbers, equal
    for genuine pairs. Sparse and all-against-all lists are both fine; a million pairs of few people are quick, since
    pairs of the same two people are added up first. None without trials and with fewer than two people, of whom
    resampling can say nothing.
    """
    wrong, tried = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    one, two = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if not wrong.shape == tried.shape == one.shape == two.shape:
        raise UserError(f"A rate needs arrays of one length, found {[a.shape for a in (wrong, tried, one, two)]}.")
    used = tried > 0
    if not used.any():
        return None
    (one, two), wrong, tried = _renumber(one[used], two[used]), wrong[used], tried[used]
    people = int(max(one.max(), two.max())) + 1
    if people < LEAST_PEOPLE:
        return None
    couples, index = np.unique(np.minimum(one, two) * people + np.maximum(one, two), return_inverse=True)
    wrong, tried = np.bincount(index, wrong).astype(np.float32), np.bincount(index, tried).astype(np.float32)

    def figures(weights: Weights) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"rate": (weights @ wrong / (weights @ tried)).astype(np.float64)}

    resampler = PairResampler(couples // people, couples % people, repetitions, seed)
    replicates = resampler.replicate(figures)
    if not replicates:
        return None
    interval = replicates["rate"].interval(float(wrong.sum() / tried.sum()))
    return None if interval is None else (max(0.0, interval[0]), min(1.0, interval[1]))


def _renumber(*people: Ints) -> Sequence[Ints]:
    """The same people numbered from 0 without gaps: who stands in no pair would only dilute the draws."""
    _, index = np.unique(np.concatenate(people), return_inverse=True)
    return np.split(index, np.cumsum([len(one) for one in people])[:-1])
