"""Identification figures in every resample of probe people at once, and the errors that stand behind them.

A resample says how often each person is drawn (`bootstrap.resample_subjects`), and weights all of the person's probes
so. The gallery is held fixed: the intervals tell how the figures would vary with other probe people, not with other
people enrolled. Where a few people hold most of the probes they come out somewhat narrow, as percentile intervals of
few clusters do; `benchmarks/identification_coverage.py` measures how often they hold the truth. A thousand resamples of
ten thousand probes take about a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from facial_rec.bootstrap import Resamples
from facial_rec.identification_metrics import Probes
from facial_rec.metrics import Bools, Floats, Ints, share
from facial_rec.reliability import Support

CHUNK = 100  # resamples worked on at once: 100 x 10,000 probes are 8 MB an array


@dataclass(frozen=True)
class Share:
    """A figure that is a share of the probes."""

    hit: Bools
    """`(P,)` the probes it counts."""
    among: Bools
    """`(P,)` the probes it is a share of."""
    errors: Literal["hits", "misses", "none"]
    """Which of the two are errors; `none` where the figure is no error rate."""
    error: str = ""
    """What such an error is, in the plural."""
    of: str = "probes"
    """What the probes it is a share of are, in the plural."""

    def value(self, weights: ArrayLike | None = None) -> float | None:
        """The share, `weights` counting a probe more than once; None without any probe of the kind."""
        counts = np.ones(len(self.hit)) if weights is None else np.asarray(weights, dtype=np.float64)
        return share(self.hit, counts * self.among)

    @property
    def support(self) -> Support | None:
        """The errors observed; None where the figure is no error rate."""
        if self.errors == "none":
            return None
        wrong = self.hit if self.errors == "hits" else ~self.hit
        trials = int(self.among.sum())
        return Support(int((wrong & self.among).sum()), trials, f"{self.error} among {trials:,} {self.of}")


def shares_of_resamples(shares: Mapping[str, Share], people: Ints, draws: Resamples) -> dict[str, Floats]:
    """Every share in every resample, `(B,)` by name, NaN where it has no probe.

    `people` `(P,)` numbers the person of each probe, `draws` `(B, S)` says how often each was drawn.
    """
    subjects = draws.shape[1]
    counts = draws.astype(np.float64)
    found: dict[str, Floats] = {}
    for name, one in shares.items():
        hits, trials = (np.bincount(people, kind, minlength=subjects) for kind in (one.hit & one.among, one.among))
        found[name] = _ratio(counts @ hits, counts @ trials)
    return found


def dir_of_resamples(
    probes: Probes, people: Ints, draws: Resamples, fpirs: Mapping[str, float], k: int | None = 1
) -> dict[str, Floats]:
    """`dir_at_fpir` of every resample, `(B,)` by name, NaN without mated or without non-mated probes.

    The threshold is chosen anew in each resample, at the FPIR that `fpirs` gives for the name.
    """
    strangers = np.flatnonzero(~probes.mated)
    strangers = strangers[np.argsort(-probes.best[strangers], kind="stable")]
    hits = np.flatnonzero(probes.found(-np.inf, k))
    hits = hits[np.argsort(-probes.own[hits], kind="stable")]
    if not len(strangers) or not probes.mated.any():
        return {name: np.full(len(draws), np.nan) for name in fpirs}
    best = probes.best[strangers]
    last_of_ties = np.append(np.flatnonzero(np.diff(best)), len(best) - 1)
    # Right persons who score above each stranger's distinct score; all of them once every stranger may be accepted.
    above = np.append(np.searchsorted(-probes.own[hits], -best[last_of_ties], side="left"), len(hits))
    parts: dict[str, list[Floats]] = {name: [] for name in fpirs}
    for start in range(0, len(draws), CHUNK):
        weights = draws[start : start + CHUNK][:, people].astype(np.float64)
        mated = weights @ probes.mated
        false = np.cumsum(weights[:, strangers], axis=1)[:, last_of_ties]
        found = np.pad(np.cumsum(weights[:, hits], axis=1), ((0, 0), (1, 0)))
        for name, fpir in fpirs.items():
            allowed = fpir * (1 + 1e-12) * false[:, -1:]  # see metrics.last_within
            position = above[(false <= allowed).sum(axis=1)]
            rate = _ratio(found[np.arange(len(found)), position], mated)
            parts[name].append(np.where(false[:, -1] > 0, rate, np.nan))
    return {name: np.concatenate(rates) if rates else np.empty(0) for name, rates in parts.items()}


def _ratio(hits: Floats, trials: Floats) -> Floats:
    return np.divide(hits, trials, out=np.full(len(hits), np.nan), where=trials > 0)
