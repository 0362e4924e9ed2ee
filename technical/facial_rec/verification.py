"""All figures of a list of scored pairs, with people-resampled intervals, baselines and what may not be claimed.

The single figures are in `facial_rec.metrics`; here they are computed in a thousand resamples at once, judged by the
rules of 3 and 30, and put into the form that records and reports hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from facial_rec import metrics
from facial_rec.det import thin
from facial_rec.metrics import TAR_POINTS, Bools, Figures, Floats, Ints
from facial_rec.pair_bootstrap import PairResampler, Replicates, Weights
from facial_rec.reliability import Judged, Support, judge

WITHOUT_INTERVAL = ("accuracy_std",)
NO_RATES = ("d_prime", "psnr", "lpips", "identity_loss")
CURVE_POINTS = 240
HISTOGRAM_BINS = 60
TOLERANCE = 1e-6  # float32 sums of weights: a rate of exactly 3 / 3000 must count as 1e-3


@dataclass(frozen=True)
class Comparisons:
    """Scored pairs and whose they are."""

    scores: Floats
    """`(N,)` cosines."""
    genuine: Bools
    """`(N,)`."""
    folds: Ints
    """`(N,)` fold of each pair; one and the same number where there are no folds."""

    def figures(self, threshold: float) -> Figures:
        """Every verification figure and the two baselines, as fractions."""
        figures = metrics.verification_figures(self.scores, self.genuine, self.folds, threshold)
        return figures | {
            "d_prime": metrics.d_prime(self.scores, self.genuine),
            "reject_all_accuracy": metrics.reject_all_accuracy(self.genuine),
            "accept_all_accuracy": metrics.accept_all_accuracy(self.genuine),
        }

    def judged(self, threshold: float) -> Judged:
        """The figures after the rules of 3 and 30."""
        figures = self.figures(threshold)
        return judge(figures, self.support(figures))

    def support(self, figures: Figures) -> dict[str, Support]:
        """The errors behind each figure.

        Accuracy: wrong decisions. FMR, FNMR: false matches, misses. EER: misses and false matches at it, the fewer of
        the two; the AUC rests on the same pairs. TAR at an FMR: the expected false matches or the misses, the fewer.
        """
        genuine, impostor = int(self.genuine.sum()), int((~self.genuine).sum())
        pairs = genuine + impostor
        among_genuine, among_impostor = f"among {genuine:,} genuine pairs", f"among {impostor:,} impostor pairs"
        support: dict[str, Support] = {}
        by_fold = metrics.kfold_accuracy(self.scores, self.genuine, self.folds)
        if by_fold is not None:
            wrong = Support(by_fold.wrong, pairs, f"wrong decisions among {pairs:,} pairs")
            support |= {"accuracy": wrong, "accuracy_std": wrong}
        if (rate := figures.get("eer")) is not None:
            fewer = min(genuine, impostor)
            at_eer = Support(rate * fewer, fewer, f"errors of a kind at the EER among {fewer:,} pairs", observed=False)
            support |= {"eer": at_eer, "auc": at_eer}
        for name, fmr in TAR_POINTS.items():
            if (rate := figures.get(name)) is not None:
                expected = Support(fmr * impostor, impostor, f"false matches expected {among_impostor}", observed=False)
                misses = Support((1 - rate) * genuine, genuine, f"misses {among_genuine}", observed=False)
                support[name] = min(expected, misses, key=lambda one: one.errors)
        if (rate := figures.get("fmr@threshold")) is not None:
            support["fmr@threshold"] = Support(rate * impostor, impostor, f"false matches {among_impostor}")
        if (rate := figures.get("fnmr@threshold")) is not None:
            support["fnmr@threshold"] = Support(rate * genuine, genuine, f"misses {among_genuine}")
        return support

    def replicate(self, resampler: PairResampler, threshold: float) -> dict[str, Replicates]:
        """The figures in every resample of people; `resampler` must be of the same pairs in the same order."""
        order = np.argsort(-self.scores, kind="stable")
        table = _Table(self.scores[order], self.genuine[order], self.folds[order], threshold)
        return resampler.replicate(table.figures, order)

    def curve(self) -> dict[str, list[float | None]] | None:
        """At most 240 points of the DET curve, for charts; None with one class only."""
        if self.genuine.all() or not self.genuine.any():
            return None
        roc = metrics.roc(self.scores, self.genuine)
        chosen = thin(roc.fmr, 1 - roc.tmr, CURVE_POINTS)
        thresholds = roc.thresholds[chosen]
        return {
            "fmr": [round(float(v), 8) for v in roc.fmr[chosen]],
            "fnmr": [round(float(1 - v), 8) for v in roc.tmr[chosen]],
            "thresholds": [round(float(v), 6) if np.isfinite(v) else None for v in thresholds],
        }

    def histogram(self) -> dict[str, list[float] | list[int]]:
        """How many pairs of each kind lie in each of 60 equal bins between the lowest and the highest score.

        The bins cover 0.001 at least, so that their edges differ in the six digits they are given with.
        """
        low, high = float(self.scores.min()), float(self.scores.max())
        edges = np.linspace(low, high if high - low >= 1e-3 else low + 1e-3, HISTOGRAM_BINS + 1)
        counts = {
            name: np.histogram(self.scores[kind], edges)[0].tolist()
            for name, kind in (("genuine", self.genuine), ("impostor", ~self.genuine))
        }
        return {"edges": [round(float(edge), 6) for edge in edges], **counts}


def entry(comparisons: Comparisons, threshold: float, replicates: dict[str, Replicates]) -> dict[str, Any]:
    """`figures` with `<figure>_ci95` beside each, `withheld`, `few_errors`, `curve` and `histogram`, ready for JSON."""
    judged = comparisons.judged(threshold)
    return {
        "figures": with_intervals(judged.figures, replicates),
        "withheld": judged.withheld,
        "few_errors": judged.few_errors,
        "curve": comparisons.curve(),
        "histogram": comparisons.histogram(),
    }


def with_intervals(figures: Figures, replicates: dict[str, Replicates]) -> dict[str, Any]:
    """Each figure followed by its `_ci95`: a pair, or None for a withheld or undefined one; none without replicates."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        found[name] = value
        if name in replicates:
            interval = replicates[name].interval(value)
            if interval is not None and name not in NO_RATES:
                interval = max(0.0, interval[0]), min(1.0, interval[1])
            found[f"{name}_ci95"] = interval
    return found


def differences(
    ours: Figures, base: Figures, replicates: dict[str, Replicates], base_replicates: dict[str, Replicates]
) -> dict[str, Any]:
    """`ours - base` figure by figure with the interval of the paired difference; None where either is None."""
    found: dict[str, Any] = {}
    for name, value in ours.items():
        if name.endswith(("_ci95", "_all_accuracy")) or name not in base:
            continue
        other = base[name]
        gap = None if value is None or other is None else value - other
        found[name] = gap
        if name in replicates and name in base_replicates:
            found[f"{name}_ci95"] = (replicates[name] - base_replicates[name]).interval(gap)
    return found


class _Table:
    """Pairs sorted by falling score, and every figure for many weightings of them at once."""

    def __init__(self, scores: Floats, genuine: Bools, folds: Ints, threshold: float) -> None:
        self.genuine = genuine.astype(np.float32)
        self.impostor = 1 - self.genuine
        self.sign = self.genuine - self.impostor
        self.last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last of each run of ties
        self.accepted = int(np.searchsorted(-scores, -threshold, side="right"))
        self.moments = np.stack([scores, scores**2]).astype(np.float32)
        numbers = np.unique(folds)
        self.folds = [_Fold(scores, genuine, folds == number) for number in numbers] if len(numbers) > 1 else []

    def figures(self, weights: Weights) -> dict[str, Floats]:
        """`(B, N)` weights -> `(B,)` of each figure, NaN where a class has no weight."""
        gained, false = (np.cumsum(weights * kind, axis=1, dtype=np.float32) for kind in (self.genuine, self.impostor))
        with np.errstate(invalid="ignore", divide="ignore"):
            tmr, fmr = (_from_zero(sums[:, self.last] / sums[:, -1:]) for sums in (gained, false))
            found = {"auc": np.asarray(np.trapezoid(tmr, fmr, axis=1)), "eer": _eer(fmr, tmr)}
            found |= {name: _tar(fmr, tmr, rate) for name, rate in TAR_POINTS.items()}
            found["fmr@threshold"] = self._at(false)
            found["fnmr@threshold"] = 1 - self._at(gained)
            found["d_prime"] = self._d_prime(weights)
            if self.folds:
                signed = weights * self.sign
                sums = _from_zero(np.cumsum(signed, axis=1)), weights.sum(axis=1)
                found["accuracy"] = np.mean([fold.accuracy(weights, signed, *sums) for fold in self.folds], axis=0)
        absent = (gained[:, -1] <= 0) | (false[:, -1] <= 0)
        for name in ("auc", "eer", *TAR_POINTS, "d_prime"):
            found[name] = np.where(absent, np.nan, found[name])
        return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}

    def _at(self, sums: Weights) -> Weights:
        accepted = sums[:, self.accepted - 1] if self.accepted else np.zeros(len(sums), np.float32)
        return accepted / sums[:, -1]

    def _d_prime(self, weights: Weights) -> Weights:
        means, variances = [], []
        for kind in (self.genuine, self.impostor):
            total = weights @ kind
            first, second = (weights @ (kind * moment) / total for moment in self.moments)
            means.append(first)
            variances.append(np.maximum(second - first**2, 0))
        return np.abs(means[0] - means[1]) / np.sqrt((variances[0] + variances[1]) / 2)


class _Fold:
    """One fold's accuracy at the best threshold of the others, for many weightings at once.

    `position` is a place in the list of all pairs, sorted by falling score; sums up to a place are taken from there.
    """

    def __init__(self, scores: Floats, genuine: Bools, held: Bools) -> None:
        self.held, rest = np.flatnonzero(held), np.flatnonzero(~held)
        mine = scores[self.held]
        last = np.append(np.flatnonzero(np.diff(scores[rest])), len(rest) - 1)
        distinct = scores[rest][last]
        between = (distinct[:-1] + distinct[1:]) / 2
        thresholds = np.concatenate([[np.nextafter(distinct[0], np.inf)], between, [distinct[-1]]])
        self.accepted = np.searchsorted(-mine, -thresholds, side="right")  # held pairs accepted at each candidate
        self.position = np.append(0, rest[last] + 1)
        self.held_before = np.searchsorted(self.held, self.position)
        self.impostor = (~genuine[self.held]).astype(np.float32)

    def accuracy(self, weights: Weights, signed: Weights, gains: Weights, total: Weights) -> Weights:
        """From weights `(B, N)`, negative for impostors in `signed`, whose sums from the left are `gains` `(B, N + 1)`,
        and the weights' `total` `(B,)`.

        `(B,)`; NaN where the fold, or all the others, have no weight.
        """
        held = weights[:, self.held]
        own_gains = _from_zero(np.cumsum(signed[:, self.held], axis=1))
        gain = gains[:, self.position] - own_gains[:, self.held_before]
        chosen = _middle_of_best(gain)
        right = own_gains[np.arange(len(held)), self.accepted[chosen]] + held @ self.impostor
        mine = held.sum(axis=1)
        return np.where(total > mine, right / mine, np.nan).astype(np.float32)


def _middle_of_best(gain: Weights) -> Ints:
    """The middle one of the candidates with the highest gain, `(B, K) -> (B,)`, as `metrics.best_threshold` takes it.

    The candidates run from reject-all to accept-all here and from accept-all there, so of an even number the upper of
    the two middle ones is taken.
    """
    best = gain == gain.max(axis=1, keepdims=True)
    ties = [np.flatnonzero(row) for row in best]
    return np.array([one[len(one) // 2] for one in ties])


def _from_zero(columns: Weights) -> Weights:
    return np.concatenate([np.zeros((len(columns), 1), columns.dtype), columns], axis=1)


def _eer(fmr: Weights, tmr: Weights) -> Weights:
    rows, gap = np.arange(len(fmr)), fmr - (1 - tmr)
    after = np.maximum(np.argmax(gap >= -TOLERANCE, axis=1), 1)
    low, high = gap[rows, after - 1], gap[rows, after]
    share = np.clip(-low / (high - low), 0, 1)
    return fmr[rows, after - 1] + share * (fmr[rows, after] - fmr[rows, after - 1])


def _tar(fmr: Weights, tmr: Weights, rate: float) -> Weights:
    allowed = (fmr <= rate * (1 + TOLERANCE)).sum(axis=1)
    return tmr[np.arange(len(tmr)), np.maximum(allowed - 1, 0)]
