"""Which measure tells beforehand that an answer may be wrong? Compared on the development set, with intervals.

Three measures are at hand when a face is recognised: `margin`, the distance of the score from the threshold; `norm`,
the length of the probe's embedding before normalisation; `agreement`, the cosine between the probe's embeddings by way
of bicubic and of the DSR. Each orders the answers; `facial_rec.risk_coverage` says what leaving the least certain out
gains over leaving out as many at random. Genuine and impostor pairs count half each, however many there are.

Margin is what the two thresholds use already. One of the others is used on top of them, for probes that get no answer
at all, when refusing the `refused` share of probes with the lowest quality lowers the risk of the answers that the two
thresholds give, beyond the 95 % interval of that gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from facial_rec.bootstrap import Interval
from facial_rec.metrics import Bools, Floats, Ints
from facial_rec.pair_bootstrap import Figures, PairResampler, Weights
from facial_rec.risk_coverage import RiskCoverage, aurc, risk_coverage, thinned
from pipeline.development_set import DevelopmentPairs

BINS = 100
"""Confidences are cut into this many groups of equal size: resampling then costs the same for any number of pairs."""
CHART_POINTS = 100


@dataclass(frozen=True)
class Compared:
    """What one confidence measure is worth."""

    aurc: float
    random: float
    """AURC of a confidence that knows nothing: the risk of answering everything."""
    gain: float
    """`random - aurc`."""
    gain_ci95: Interval | None
    curve: RiskCoverage

    def record(self) -> dict[str, Any]:
        """For JSON."""
        curve = thinned(self.curve, CHART_POINTS)
        return {
            "aurc": self.aurc,
            "aurc_random": self.random,
            "gain": self.gain,
            "gain_ci95": self.gain_ci95,
            "coverage": curve.coverage.tolist(),
            "risk": curve.risk.tolist(),
        }


def compare(
    confidence: Floats, wrong: Bools, pairs: DevelopmentPairs, repetitions: int = 1000, seed: int = 0
) -> Compared:
    """The risk-coverage curve of answers `(N,)` to all pairs, the more certain first, and its gain over random."""
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, confidence, side="right")
    tally = _Tally(pairs, np.ones(len(pairs), dtype=bool), wrong, bins)
    level = np.arange(int(bins.max()) + 1, dtype=np.float64)

    def curve(shares: Floats, errors: Floats) -> RiskCoverage:
        risk = np.divide(errors, shares, out=np.zeros_like(errors), where=shares > 0)
        return risk_coverage(level, risk, shares)

    found = curve(*(part[0] for part in tally.balanced(tally.ones)))

    def figures(weights: Weights) -> dict[str, Floats]:
        rows = [
            curve(shares, errors) if np.isfinite(shares).all() else None
            for shares, errors in zip(*tally.balanced(weights), strict=True)
        ]
        return {"gain": np.array([np.nan if row is None else row.random - aurc(row) for row in rows])}

    gain = found.random - aurc(found)
    return Compared(aurc(found), found.random, gain, tally.interval(figures, gain, repetitions, seed), found)


@dataclass(frozen=True)
class Refusal:
    """What refusing the probes of the lowest quality does to the answers that the two thresholds give."""

    cutoff: float
    refused: float
    """Share of the answers that are no longer given."""
    risk: float
    """Share of wrong answers without refusing."""
    gain: float
    """By how much the share falls."""
    gain_ci95: Interval | None

    @property
    def helps(self) -> bool:
        """Whether the gain is above zero beyond its interval."""
        return self.gain_ci95 is not None and self.gain_ci95[0] > 0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.__dict__, "helps": self.helps}


def refuse_worst(
    quality: Floats,
    share: float,
    answered: Bools,
    wrong: Bools,
    pairs: DevelopmentPairs,
    repetitions: int = 1000,
    seed: int = 0,
) -> Refusal | None:
    """Leave out the `share` of pairs whose `quality` `(N,)` is lowest, among the `answered` ones.

    Refusing as many at random would leave the risk as it is, on average. None when a class has no answer left.
    """
    cutoff = float(np.quantile(quality, share))
    given, kept = _Tally(pairs, answered, wrong), _Tally(pairs, answered & (quality >= cutoff), wrong)

    def figures(weights: Weights) -> dict[str, Floats]:
        return {"gain": given.risk(weights) - kept.risk(weights)}

    risk, gain = float(given.risk(given.ones)[0]), float(figures(given.ones)["gain"][0])
    if not np.isfinite(gain):
        return None
    refused = 1 - float((answered & (quality >= cutoff)).sum() / answered.sum())
    return Refusal(cutoff, refused, risk, gain, given.interval(figures, gain, repetitions, seed))


class _Tally:
    """Answers and wrong ones, counted by the two people compared, by class, and by group: `(C, G)` each."""

    def __init__(self, pairs: DevelopmentPairs, counted: Bools, wrong: Bools, groups: Ints | None = None) -> None:
        self.people = pairs.cell_people
        cells, width = len(self.people[0]), 1 if groups is None else int(groups.max()) + 1
        place = pairs.cells * width + (0 if groups is None else groups)

        def count(among: Bools) -> Weights:
            return np.bincount(place[among], minlength=cells * width).reshape(cells, width).astype(np.float32)

        kinds = (counted & pairs.genuine, counted & ~pairs.genuine)
        self._counts = [(count(kind), count(kind & wrong)) for kind in kinds]
        self.ones: Weights = np.ones((1, cells), dtype=np.float32)

    def balanced(self, weights: Weights) -> tuple[Floats, Floats]:
        """Shares of all answers and of wrong ones by group, `(B, G)` each, genuine and impostor pairs half each.

        `weights` are `(B, C)`. NaN where a class has no answer.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            found = []
            for trials, wrong in self._counts:
                tried = (weights @ trials).astype(np.float64)
                found.append(np.stack([tried, weights @ wrong]) / (2 * tried.sum(axis=1, keepdims=True)))
        shares, errors = sum(found[1:], found[0])
        return shares, errors

    def risk(self, weights: Weights) -> Floats:
        """`(B,)` share of wrong answers."""
        return self.balanced(weights)[1].sum(axis=1)

    def interval(self, figures: Figures, estimate: float, repetitions: int, seed: int) -> Interval | None:
        """Of the figure `gain`, people resampled."""
        found = PairResampler(*self.people, repetitions, seed).replicate(figures)
        return found["gain"].interval(estimate) if found else None


def choose_measure(refusals: Mapping[str, list[Refusal | None]]) -> str | None:
    """The measure whose refusals gain most, added up over the sizes where they help; None when none helps anywhere."""
    gains = {name: sum(r.gain for r in rows if r is not None and r.helps) for name, rows in refusals.items()}
    best = max(gains, key=lambda name: gains[name], default=None)
    return best if best is not None and gains[best] > 0 else None
