"""From scores of a development set to thresholds, and what they cost: pure numpy.

Two thresholds a resolution (see `facial_rec.thresholds`): `threshold`, the lowest whose FMR is at most the wanted one,
and `reject`, the highest below which at most the wanted share of genuine pairs lies, never above `threshold`. Both
follow the rule of 3 and 30 (`facial_rec.reliability`) by the errors expected at the wanted rates.

On the pairs they were chosen on, thresholds keep their promise by construction. What they do to people they have not
seen is measured by leaving people out: thresholds from the pairs among four fifths of the people, errors counted among
the pairs within the last fifth, five times (`fmr_held_out`, `fnmr_held_out`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import UserError
from facial_rec.bootstrap import Interval
from facial_rec.metrics import Bools, Floats
from facial_rec.pair_bootstrap import PairResampler, Weights
from facial_rec.reliability import LEAST_ERRORS, Support, judge
from facial_rec.thresholds import DEFAULT_THRESHOLD
from pipeline.development_set import DevelopmentPairs

FOLDS = 5
_SLACK = 1e-9  # 0.001 * 3000 is a hair below 3 in floating point


@dataclass(frozen=True)
class Wanted:
    """What the thresholds must keep to, and how its uncertainty is measured."""

    fmr: float = 1e-3
    fnmr: float = 0.05
    bootstrap: int = 1000
    """Resamples of people behind the intervals; 0 leaves them out."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("--fmr", self.fmr), ("--fnmr", self.fnmr)):
            if not 0 < value < 1:
                raise UserError(f"{name} {value}: expected a share between 0 and 1, such as 0.001.")


def accept_threshold(impostor: Floats, fmr: float) -> float:
    """The lowest threshold that at most the share `fmr` of the impostor scores reaches.

    Halfway between the two scores around it; just above the highest score when not one may be accepted. At most 1,
    unless a score of 1 itself must be rejected.
    """
    falling = -np.sort(-impostor)
    allowed = int(fmr * len(falling) + _SLACK)
    while 0 < allowed < len(falling) and falling[allowed - 1] == falling[allowed]:
        allowed -= 1  # of equal scores all or none are accepted
    if allowed == 0:
        return float(np.nextafter(falling[0], np.inf))
    return float(falling[allowed - 1] + falling[allowed]) / 2 if allowed < len(falling) else -1.0


def reject_threshold(genuine: Floats, fnmr: float) -> float:
    """The highest threshold below which at most the share `fnmr` of the genuine scores lies."""
    rising = np.sort(genuine)
    allowed = int(fnmr * len(rising) + _SLACK)
    return float(rising[min(allowed, len(rising) - 1)])


@dataclass(frozen=True)
class Calibrated:
    """The thresholds of one method and resolution."""

    accept: float | None
    reject: float | None
    reason: str | None
    """Why one of them is missing."""
    figures: dict[str, Any]
    """`threshold`, `reject`, every rate with its `_ci95`, `withheld` and `few_errors`: a row of the record."""


def calibrate_scores(scores: Floats, pairs: DevelopmentPairs, wanted: Wanted) -> Calibrated:
    """Thresholds for `scores` `(N,)` of the development pairs, with the rates they give and those of 0.35.

    `fmr` and `fnmr` are at `threshold`; `called_different` is the share of genuine pairs below `reject`;
    `answered_genuine` and `answered_impostor` the shares that get an answer at all.
    """
    genuine = pairs.genuine
    counts = {"genuine": int(genuine.sum()), "impostor": int((~genuine).sum())}
    support = {
        "threshold": _expected(wanted.fmr, counts["impostor"], "false matches", "impostor"),
        "reject": _expected(wanted.fnmr, counts["genuine"], "false non-matches", "genuine"),
    }
    accept, reject = thresholds_of(scores, genuine, wanted)
    table = _Rates(pairs)
    table.add("fmr_at_default", scores >= DEFAULT_THRESHOLD, ~genuine, "false matches among {:,} impostor pairs")
    table.add("fnmr_at_default", scores < DEFAULT_THRESHOLD, genuine, "false non-matches among {:,} genuine pairs")
    if accept is not None:
        table.add("fmr", scores >= accept, ~genuine, "false matches among {:,} impostor pairs")
        table.add("fnmr", scores < accept, genuine, "false non-matches among {:,} genuine pairs")
        answered = scores >= accept
        if reject is not None:
            answered |= scores < reject
            table.add("called_different", scores < reject, genuine, "false non-matches among {:,} genuine pairs")
        table.add("answered_genuine", answered, genuine)
        table.add("answered_impostor", answered, ~genuine)
        held_out = held_out_decisions(scores, pairs, wanted)
        if held_out is not None:
            accepted, used = held_out
            table.add("fmr_held_out", accepted, used & ~genuine, "false matches among {:,} held-out impostor pairs")
            table.add("fnmr_held_out", ~accepted, used & genuine, "false non-matches among {:,} held-out genuine pairs")
    judged = judge({"threshold": accept, "reject": reject, **table.values}, support | table.support)
    reasons = [
        f"{behind.errors:g} {behind.what}: fewer than {LEAST_ERRORS}"
        for behind in support.values()
        if behind.errors < LEAST_ERRORS - _SLACK
    ]
    if accept is None and not reasons:
        reasons = ["more impostor pairs than wanted have a score of 1"]
    figures: dict[str, Any] = {
        **judged.figures,
        **table.intervals(wanted),
        **{f"{name}_ci95": None for name in judged.withheld},
    }
    figures |= {"withheld": judged.withheld, "few_errors": judged.few_errors}
    return Calibrated(accept, reject, "; ".join(reasons) or None, counts | figures)


def thresholds_of(scores: Floats, genuine: Bools, wanted: Wanted) -> tuple[float | None, float | None]:
    """Accept and reject threshold of some pairs; None where fewer than 3 errors are expected at the wanted rate.

    Without an accept threshold there is no reject threshold either; nor is there one of more than 1.
    """
    impostor, own = scores[~genuine], scores[genuine]
    if wanted.fmr * len(impostor) < LEAST_ERRORS - _SLACK:
        return None, None
    accept = accept_threshold(impostor, wanted.fmr)
    if accept > 1:
        return None, None
    if wanted.fnmr * len(own) < LEAST_ERRORS - _SLACK:
        return accept, None
    return accept, min(accept, reject_threshold(own, wanted.fnmr))


def held_out_decisions(scores: Floats, pairs: DevelopmentPairs, wanted: Wanted) -> tuple[Bools, Bools] | None:
    """Which pairs are accepted at a threshold chosen without their people, `(N,)`, and which pairs were tried.

    People are dealt to `FOLDS` folds; pairs of two folds are never tried. None when the people are too few.
    """
    number = int(pairs.people.max()) + 1
    if number < 2 * FOLDS:
        return None
    fold = np.random.default_rng(wanted.seed).permutation(number) % FOLDS
    first, second = fold[pairs.people[pairs.first]], fold[pairs.people[pairs.second]]
    accepted, used = np.zeros(len(pairs), dtype=bool), first == second
    for held in range(FOLDS):
        rest = (first != held) & (second != held)
        accept, _ = thresholds_of(scores[rest], pairs.genuine[rest], wanted)
        if accept is None:
            return None
        inside = used & (first == held)
        accepted[inside] = scores[inside] >= accept
    return accepted, used


def fnmr_difference(
    ours: Floats, base: Floats, thresholds: tuple[float, float], pairs: DevelopmentPairs, wanted: Wanted
) -> tuple[float, Interval | None]:
    """FNMR of `ours` minus that of `base`, each at its own threshold, with the interval of the paired difference.

    The thresholds stay as they are: what chance there is in them is not in the interval.
    """
    missed = (ours < thresholds[0]).astype(float) - (base < thresholds[1])
    errors, trials = pairs.by_cell(missed * pairs.genuine), pairs.by_cell(pairs.genuine)
    kept = trials > 0
    errors, trials = errors[kept], trials[kept]
    estimate = float(errors.sum() / trials.sum())
    people = np.unique(pairs.cell_people[0][kept], return_inverse=True)[1]

    def figures(weights: Weights) -> dict[str, Floats]:
        return {"gap": (weights @ errors) / (weights @ trials)}

    found = PairResampler(people, people, wanted.bootstrap, wanted.seed).replicate(figures)
    return estimate, found["gap"].interval(estimate) if found else None


def _expected(rate: float, trials: int, errors: str, kind: str) -> Support:
    what = f"{errors} expected at a rate of {rate:g} among {trials:,} {kind} pairs"
    return Support(round(rate * trials, 6), trials, what, observed=False)


class _Rates:
    """Rates of the pairs, with what is needed for their intervals and support, collected by name."""

    def __init__(self, pairs: DevelopmentPairs) -> None:
        self.pairs = pairs
        self.values: dict[str, float | None] = {}
        self.support: dict[str, Support] = {}
        self._counts: dict[bool, dict[str, tuple[Floats, Floats]]] = {True: {}, False: {}}

    def add(self, name: str, hit: Bools, among: Bools, what: str | None = None) -> None:
        """The share of the pairs `among`, all genuine or all impostor, that `hit`; with `what` it is judged."""
        errors, trials = self.pairs.by_cell(hit & among), self.pairs.by_cell(among)
        total = int(trials.sum())
        self.values[name] = float(errors.sum()) / total if total else None
        self._counts[bool((among & self.pairs.genuine).any())][name] = errors, trials
        if what is not None:
            self.support[name] = Support(float(errors.sum()), total, what.format(total))

    def intervals(self, wanted: Wanted) -> dict[str, Interval | None]:
        """By `<name>_ci95`. All rates of genuine pairs share their resamples of people, and all of impostor pairs."""
        return {
            f"{name}_ci95": interval
            for counts in self._counts.values()
            for name, interval in self._of_one_kind(counts, wanted).items()
        }

    def _of_one_kind(self, counts: dict[str, tuple[Floats, Floats]], wanted: Wanted) -> dict[str, Interval | None]:
        errors, trials = (np.stack([pair[part] for pair in counts.values()], axis=1) for part in (0, 1))
        tried = trials.any(axis=1)
        errors, trials = errors[tried].astype(np.float32), trials[tried].astype(np.float32)
        people = np.stack(self.pairs.cell_people, axis=1)[tried]
        # Who stands in none of these pairs would only dilute the draws.
        first, second = np.unique(people, return_inverse=True)[1].reshape(people.shape).T

        def figures(weights: Weights) -> dict[str, Floats]:
            with np.errstate(invalid="ignore", divide="ignore"):
                shares = (weights @ errors) / (weights @ trials)
            return {name: shares[:, column].astype(np.float64) for column, name in enumerate(counts)}

        found = PairResampler(first, second, wanted.bootstrap, wanted.seed).replicate(figures)
        intervals: dict[str, Interval | None] = dict.fromkeys(counts)
        for name in found:
            interval = found[name].interval(self.values[name])
            intervals[name] = None if interval is None else (max(0.0, interval[0]), min(1.0, interval[1]))
        return intervals
