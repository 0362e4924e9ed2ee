"""Identification figures as records hold them: judged by the rules of 3 and 30, with intervals over probe people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from facial_rec import bootstrap
from facial_rec.det import thin
from facial_rec.identification_intervals import Share, dir_of_resamples, shares_of_resamples
from facial_rec.identification_metrics import DIR_POINTS, cmc, dir_at_fpir, open_set_curve
from facial_rec.metrics import Figures, Floats, Ints
from facial_rec.reliability import Judged, Support, judge
from pipeline.identification import Matches

RANKS = (1, 5, 10)
CMC_RANKS = 50


@dataclass(frozen=True)
class Resampling:
    """Resamples of the people on the probes, the same for every method that is measured on these probes.

    The gallery is held fixed: intervals tell how a figure varies with other probe people, not with other enrolled ones.
    """

    people: Ints
    """`(P,)` number of the person on each probe."""
    draws: bootstrap.Resamples
    """`(B, S)` how often each person is drawn."""

    @classmethod
    def of(cls, matches: Matches, repetitions: int, seed: int) -> Resampling:
        """Resamples of the people in `matches`."""
        (people,), count = bootstrap.number_subjects([str(subject) for subject in matches.subjects])
        return cls(people, bootstrap.resample_subjects(count, repetitions, seed))


@dataclass(frozen=True)
class Measured:
    """The figures of one method."""

    judged: Judged
    replicates: dict[str, Floats]
    """`(B,)` of each figure that has an interval."""

    def record(self) -> dict[str, Any]:
        """`figures` with `<figure>_ci95` beside each (None for a withheld one), `withheld` and `few_errors`."""
        figures: dict[str, Any] = {}
        for name, value in self.judged.figures.items():
            figures[name] = value
            if len(self.replicates.get(name, ())):
                kept = value is not None
                figures[f"{name}_ci95"] = bootstrap.percentile_interval(self.replicates[name]) if kept else None
        return {"figures": figures, "withheld": self.judged.withheld, "few_errors": self.judged.few_errors}

    def minus(self, base: Measured) -> dict[str, Any]:
        """Paired differences with their intervals, from the same resamples; None where either figure is."""
        found: dict[str, Any] = {}
        for name, value in self.judged.figures.items():
            other = base.judged.figures[name]
            gap = None if value is None or other is None else value - other
            found[name] = gap
            if len(self.replicates.get(name, ())):
                replicates = self.replicates[name] - base.replicates[name]
                found[f"{name}_ci95"] = None if gap is None else bootstrap.percentile_interval(replicates)
        return found


def measure_shares(shares: Mapping[str, Share], resampling: Resampling, with_interval: Iterable[str]) -> Measured:
    """Figures that are shares of the probes."""
    support = {name: one.support for name, one in shares.items()}
    judged = judge({name: one.value() for name, one in shares.items()}, _known(support))
    chosen = {name: shares[name] for name in with_interval}
    return Measured(judged, shares_of_resamples(chosen, resampling.people, resampling.draws))


def measure_closed_set(matches: Matches, resampling: Resampling) -> Measured:
    """`rank1`, `rank5` and `rank10`; the errors behind them are the probes not identified."""
    shares = {f"rank{k}": _rank_share(matches, k) for k in RANKS}
    return measure_shares(shares, resampling, shares)


def measure_open_set(matches: Matches, threshold: float, resampling: Resampling) -> Measured:
    """`dir@fpir=1e-2` and `1e-3` (rank 1), `rank1`, `fpir@threshold` and `fnir@threshold` (rank 1).

    Behind a DIR stand the false positives expected at its FPIR or the mated probes missed, the fewer of the two; behind
    the rates at the threshold the errors observed. A DIR is None without mated or without non-mated probes.
    """
    probes, mated = matches.probes, matches.mated
    shares = {
        "rank1": _rank_share(matches, 1),
        "fpir@threshold": Share(probes.best >= threshold, ~mated, "hits", "false positives", "non-mated probes"),
        "fnir@threshold": Share(~probes.found(threshold), mated, "hits", "misses", "mated probes"),
    }
    figures: Figures = dict.fromkeys(DIR_POINTS)
    if mated.any() and not mated.all():
        curve = open_set_curve(probes)
        figures = {name: dir_at_fpir(curve, fpir) for name, fpir in DIR_POINTS.items()}
    support = _known({name: one.support for name, one in shares.items()}) | _dir_support(matches, figures)
    judged = judge(figures | {name: one.value() for name, one in shares.items()}, support)
    replicates = dir_of_resamples(probes, resampling.people, resampling.draws, DIR_POINTS)
    return Measured(judged, replicates | shares_of_resamples(shares, resampling.people, resampling.draws))


def _rank_share(matches: Matches, k: int) -> Share:
    error = "probes not at rank 1" if k == 1 else f"probes not among the first {k}"
    return Share(matches.mated & (matches.ranks <= k), matches.mated, "misses", error, "mated probes")


def _dir_support(matches: Matches, figures: Figures) -> dict[str, Support]:
    mated, nonmated = int(matches.mated.sum()), int((~matches.mated).sum())
    support = {}
    for name, fpir in DIR_POINTS.items():
        false = Support(
            fpir * nonmated, nonmated, f"false positives expected among {nonmated:,} non-mated probes", False
        )
        missed = Support((1 - (figures[name] or 0.0)) * mated, mated, f"misses among {mated:,} mated probes", False)
        support[name] = min(false, missed, key=lambda one: one.errors)
    return support


def _known(support: Mapping[str, Support | None]) -> dict[str, Support]:
    return {name: one for name, one in support.items() if one is not None}


def cmc_record(matches: Matches) -> dict[str, list[Any]] | None:
    """The CMC curve up to rank 50; None without mated probes."""
    rates = cmc(matches.ranks, CMC_RANKS)
    if rates is None:
        return None
    return {"rank": list(range(1, CMC_RANKS + 1)), "rate": [round(float(rate), 8) for rate in rates]}


def open_set_record(matches: Matches) -> dict[str, list[float]] | None:
    """At most 300 points of FPIR against FNIR at rank 1; None without mated or without non-mated probes."""
    if matches.mated.all() or not matches.mated.any():
        return None
    curve = open_set_curve(matches.probes)
    chosen = thin(curve.fpir, curve.fnir)
    rates = {"fpir": curve.fpir, "fnir": curve.fnir}
    return {name: [round(float(rate), 8) for rate in values[chosen]] for name, values in rates.items()}
