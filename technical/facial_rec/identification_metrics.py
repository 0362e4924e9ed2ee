"""Identification figures from what P probes scored against a gallery: pure functions on numpy arrays.

A probe is mated when its person is enrolled; its rank is the place of the right person among the candidates, 0 for a
non-mated probe. A candidate is returned when its score reaches the threshold. FPIR is the share of non-mated probes
with any candidate returned; FNIR the share of mated probes whose right person is not among the best k candidates
returned; DIR, the detection and identification rate, is 1 - FNIR (ISO/IEC 19795-1:2021; P. J. Phillips et al., "An
Introduction to Evaluating Biometric Systems", Computer 33(2), 2000). `weights` counts a probe more than once.

Bad input (NaN, lengths that differ) raises UserError; a figure without the probes it needs is None, a curve UserError.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from common.errors import UserError
from facial_rec.metrics import Bools, Floats, Ints, last_within, share

DIR_POINTS = {"dir@fpir=1e-2": 1e-2, "dir@fpir=1e-3": 1e-3}


def subject_ranks(scores: ArrayLike, own: ArrayLike) -> Ints:
    """Rank of the right person: `scores` `(P, S)` of P probes against S people, `own` `(P,)` the right column.

    1 + the number of other people who score at least as high: a tie counts against the probe, so that a recogniser
    that answers the same to everything earns nothing. 0 (no rank) where `own` is -1 or the right person's score is
    -inf: a non-mated probe. Raises UserError for NaN.
    """
    table, columns = np.asarray(scores, dtype=np.float64), np.asarray(own, dtype=np.int64)
    if table.ndim != 2 or columns.shape != table.shape[:1] or not table.size:
        raise UserError(f"Expected scores (P, S) and own (P,), found {table.shape} and {columns.shape}.")
    if np.isnan(table).any():
        raise UserError("Scores hold NaN: no rank can be given.")
    mine = np.where(columns >= 0, table[np.arange(len(table)), columns], -np.inf)
    return np.where(np.isneginf(mine), 0, (table >= mine[:, None]).sum(axis=1)).astype(np.int64)


def rank_k_rate(ranks: ArrayLike, k: int, weights: ArrayLike | None = None) -> float | None:
    """Share of the mated probes (rank above 0) whose right person is among the best k; None without mated probes."""
    places, counts = _ranks(ranks, weights)
    return share(places <= k, counts * (places > 0))


def cmc(ranks: ArrayLike, most: int = 50, weights: ArrayLike | None = None) -> Floats | None:
    """Cumulative match characteristic `(most,)`: the rank-k rate of every k from 1 up; None without mated probes.

    Mated probes only: rank 0 is left out. The last rate is 1 when `most` is the size of the gallery.
    """
    if most < 1:
        raise UserError(f"A CMC curve has 1 rank or more, found {most}.")
    places, counts = _ranks(ranks, weights)
    mated = places > 0
    total = counts[mated].sum()
    if total <= 0:
        return None
    at_rank = np.bincount(places[mated].clip(max=most + 1), counts[mated], minlength=most + 2)
    return np.cumsum(at_rank[1 : most + 1]) / total


@dataclass(frozen=True)
class Probes:
    """What P probes scored. Raises UserError for NaN and for lengths that differ."""

    best: Floats
    """`(P,)` the highest score of anyone enrolled: what decides whether a non-mated probe is a false positive."""
    own: Floats
    """`(P,)` the right person's score; not read for non-mated probes."""
    ranks: Ints
    """`(P,)` rank of the right person, from 1; 0 for a non-mated probe."""

    def __post_init__(self) -> None:
        shapes = [np.shape(column) for column in (self.best, self.own, self.ranks)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise UserError(f"Best scores, own scores and ranks must be of one length, found shapes {shapes}.")
        if not len(self.best):
            raise UserError("No probes: there is nothing to measure.")
        if np.isnan(self.best).any() or np.isnan(self.own[self.ranks > 0]).any():
            raise UserError("Scores hold NaN: no figure can be given.")

    @property
    def mated(self) -> Bools:
        """`(P,)` whether the right person is enrolled."""
        return self.ranks > 0

    def found(self, threshold: float, k: int | None = 1) -> Bools:
        """`(P,)` mated probes whose right person is returned at `threshold`, among the best k (None: at any rank)."""
        return self.mated & (self.own >= threshold) & ((k is None) | (self.ranks <= (k or 0)))


def fpir_at(probes: Probes, threshold: float, weights: ArrayLike | None = None) -> float | None:
    """False positive identification rate: non-mated probes for whom anyone scores `>= threshold`; None without any."""
    return share(probes.best >= threshold, _counts(probes, weights) * ~probes.mated)


def fnir_at(probes: Probes, threshold: float, k: int | None = 1, weights: ArrayLike | None = None) -> float | None:
    """False negative identification rate: mated probes whose person is not returned among the best k; None without any.

    The right person is missed below the threshold or below rank k; `k` None sets no rank limit.
    """
    return share(~probes.found(threshold, k), _counts(probes, weights) * probes.mated)


@dataclass(frozen=True)
class OpenSetCurve:
    """Lowering the threshold: one point per distinct score, after the point that rejects all."""

    thresholds: Floats
    """`(K,)`, falling; the first is infinite."""
    fpir: Floats
    """`(K,)`, rising from 0 to 1."""
    fnir: Floats
    """`(K,)`, falling from 1 to 1 - the rank-k rate."""


def open_set_curve(probes: Probes, k: int | None = 1, weights: ArrayLike | None = None) -> OpenSetCurve:
    """FPIR and FNIR at every score that changes one of them.

    Raises UserError unless mated and non-mated probes are there.
    """
    counts = _counts(probes, weights)
    mated, hits = probes.mated, probes.found(-np.inf, k)
    totals = counts[mated].sum(), counts[~mated].sum()
    if min(totals) <= 0:
        raise UserError("An open-set curve needs mated and non-mated probes: only one of the two is here.")
    events = np.where(mated, probes.own, probes.best)
    counted = hits | ~mated
    order = np.argsort(-events[counted], kind="stable")
    values = events[counted][order]
    last_of_ties = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    found = np.cumsum((counts * hits)[counted][order])[last_of_ties]
    false = np.cumsum((counts * ~mated)[counted][order])[last_of_ties]
    return OpenSetCurve(
        thresholds=np.append(np.inf, values[last_of_ties]),
        fpir=np.append(0.0, false / totals[1]),
        fnir=np.append(1.0, 1.0 - found / totals[0]),
    )


def dir_at_fpir(curve: OpenSetCurve, fpir: float) -> float:
    """Detection and identification rate, 1 - FNIR, at the lowest threshold whose FPIR is at most `fpir`.

    Nothing is interpolated; 0 when one false positive is too many and a non-mated probe has the highest score of all.
    """
    if not 0 < fpir <= 1:
        raise UserError(f"A false positive identification rate lies in (0, 1], found {fpir}.")
    return float(1.0 - curve.fnir[last_within(curve.fpir, fpir)])


def _ranks(ranks: ArrayLike, weights: ArrayLike | None) -> tuple[Ints, Floats]:
    places = np.asarray(ranks, dtype=np.int64)
    counts = np.ones(len(places)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != places.shape:
        raise UserError(f"Ranks and weights must be of one length, found shapes {places.shape} and {counts.shape}.")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise UserError("Weights must be finite, none below 0.")
    return places, counts


def _counts(probes: Probes, weights: ArrayLike | None) -> Floats:
    return _ranks(probes.ranks, weights)[1]
