"""Verification figures from similarity scores: pure functions on numpy arrays.

Throughout, a higher score means more alike and a pair is accepted when `score >= threshold`; `genuine` is true where
both images show one person. FMR is the share of impostor pairs accepted, FNMR the share of genuine pairs rejected
(ISO/IEC 19795-1). `weights` counts a pair more than once, as the bootstrap does; without it every pair counts once.

Bad input (empty, NaN, lengths that differ) raises UserError. A figure that needs a class which is absent is None, or
UserError where a whole curve is asked for, as each docstring says. Nothing takes longer than sorting the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

Figures = dict[str, float | None]
TAR_POINTS = {"tar@fmr=1e-2": 1e-2, "tar@fmr=1e-3": 1e-3}


def unit_rows(embeddings: ArrayLike) -> Floats:
    """Embeddings `(N, D)` scaled to length one. Raises UserError for NaN, infinities and zero vectors."""
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2:
        raise UserError(f"Embeddings must have shape (N, D), found {rows.shape}.")
    if not np.isfinite(rows).all():
        raise UserError("The recogniser gave NaN or infinite embeddings. Are its weights damaged?")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise UserError("The recogniser gave an embedding of length zero: its cosine with anything is undefined.")
    return rows / lengths


def cosine_pairs(first: ArrayLike, second: ArrayLike) -> Floats:
    """Cosine similarity of row i of `first` with row i of `second`: `(N, D), (N, D) -> (N,)`."""
    a, b = unit_rows(first), unit_rows(second)
    if a.shape != b.shape:
        raise UserError(f"Paired embeddings must have one shape, found {a.shape} and {b.shape}.")
    return np.einsum("nd,nd->n", a, b)


@dataclass(frozen=True)
class RocCurve:
    """Accepting more and more: one point per distinct score, highest first, after the point that rejects all."""

    thresholds: Floats
    """`(K,)`, falling; the first is infinite."""
    fmr: Floats
    """`(K,)`, rising from 0 to 1."""
    tmr: Floats
    """`(K,)` true match rate, 1 - FNMR, rising from 0 to 1."""


def roc(scores: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None = None) -> RocCurve:
    """The ROC curve with every distinct score as a threshold. Raises UserError unless both classes are there."""
    values, labels, counts = _checked(scores, genuine, weights)
    order = np.argsort(-values, kind="stable")
    values, labels, counts = values[order], labels[order], counts[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    accepted_genuine = np.cumsum(counts * labels)[last_of_ties]
    accepted_impostor = np.cumsum(counts * ~labels)[last_of_ties]
    if accepted_genuine[-1] <= 0 or accepted_impostor[-1] <= 0:
        raise UserError("A ROC curve needs genuine and impostor pairs: only one of the two is here.")
    return RocCurve(
        thresholds=np.append(np.inf, values[last_of_ties]),
        fmr=np.append(0.0, accepted_impostor / accepted_impostor[-1]),
        tmr=np.append(0.0, accepted_genuine / accepted_genuine[-1]),
    )


def auc(curve: RocCurve) -> float:
    """Area under the ROC curve: the chance that a genuine pair outscores an impostor pair, a tie counting half."""
    return float(np.trapezoid(curve.tmr, curve.fmr))


def eer(curve: RocCurve) -> float:
    """Equal error rate: FMR where it equals FNMR, interpolated linearly between the curve's two points around it."""
    gap = curve.fmr - (1.0 - curve.tmr)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(curve.fmr[before] + share * (curve.fmr[after] - curve.fmr[before]))


def tar_at_fmr(curve: RocCurve, fmr: float) -> float:
    """The highest true match rate of a threshold whose FMR is at most `fmr`; nothing is interpolated.

    0 when even the highest score is an impostor's and one false match is already too many.
    """
    if not 0 < fmr <= 1:
        raise UserError(f"A false match rate lies in (0, 1], found {fmr}.")
    return float(curve.tmr[last_within(curve.fmr, fmr)])


def last_within(rates: Floats, limit: float) -> int:
    """Index of the last of the rising `rates` that is at most `limit`; the first rate is 0."""
    tolerance = 1e-12  # a rate of exactly 3 / 3000 must count as 1e-3
    return int(np.searchsorted(rates, limit * (1 + tolerance), side="right")) - 1


def d_prime(scores: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """How far apart the two score distributions are, in standard deviations: `|m_g - m_i| / sqrt((v_g + v_i) / 2)`.

    m and v are mean and population variance of the genuine and of the impostor scores (J. Daugman, "Biometric decision
    landscapes", University of Cambridge TR-482, 2000). None without either class, and where it is undefined: no
    spread at all, or an infinite score.
    """
    values, labels, counts = _checked(scores, genuine, weights)
    moments = [_moments(values, counts * kind) for kind in (labels, ~labels)]
    if None in moments:
        return None
    (mean_g, variance_g), (mean_i, variance_i) = (one for one in moments if one is not None)
    spread = np.sqrt((variance_g + variance_i) / 2)
    return float(abs(mean_g - mean_i) / spread) if spread > 0 else None


def _moments(values: Floats, weights: Floats) -> tuple[float, float] | None:
    """Weighted mean and variance; None without weight or with an infinite value."""
    values, weights = values[weights > 0], weights[weights > 0]
    if not len(values) or not np.isfinite(values).all():
        return None
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights))


def fmr_at(scores: ArrayLike, genuine: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float | None:
    """Share of impostor pairs with `score >= threshold`; None without impostor pairs."""
    values, labels, counts = _checked(scores, genuine, weights)
    return share(values >= threshold, counts * ~labels)


def fnmr_at(scores: ArrayLike, genuine: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float | None:
    """Share of genuine pairs with `score < threshold`; None without genuine pairs."""
    values, labels, counts = _checked(scores, genuine, weights)
    return share(values < threshold, counts * labels)


def accuracy_at(scores: ArrayLike, genuine: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float:
    """Share of pairs decided rightly at `threshold`."""
    values, labels, counts = _checked(scores, genuine, weights)
    return float(np.sum(counts * ((values >= threshold) == labels)) / np.sum(counts))


def reject_all_accuracy(genuine: ArrayLike) -> float:
    """Accuracy of rejecting every pair: the share of impostors. An accuracy means nothing below this and accept-all."""
    return 1.0 - accept_all_accuracy(genuine)


def accept_all_accuracy(genuine: ArrayLike) -> float:
    """Accuracy of accepting every pair: the share of genuine pairs."""
    labels = np.asarray(genuine, dtype=bool)
    if not labels.size:
        raise UserError("No pairs: there is nothing to measure.")
    return float(labels.mean())


def best_threshold(scores: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The threshold with the highest accuracy on these pairs.

    Candidates lie halfway between neighbouring distinct scores; below all of them stands the lowest score itself
    (accept all), above all the next number after the highest (reject all). Among candidates of equal accuracy the
    middle one is taken (of an even number the lower of the two middle ones), so neither end of a plateau is favoured.
    """
    values, labels, counts = _checked(scores, genuine, weights)
    present = counts > 0  # a pair that a resample left out offers no candidate
    values, labels, counts = values[present], labels[present], counts[present]
    order = np.argsort(values, kind="stable")
    values, labels, counts = values[order], labels[order], counts[order]
    first_of_ties = np.append(0, np.flatnonzero(np.diff(values)) + 1)
    # Accepting from a distinct score upwards rejects what lies below: right for impostors, wrong for genuine pairs.
    gain = np.append(0.0, np.cumsum(np.where(labels, -counts, counts)))
    best = gain[np.append(first_of_ties, len(values))]
    ties = np.flatnonzero(best == best.max())
    chosen = int(ties[(len(ties) - 1) // 2])
    distinct = values[first_of_ties]
    if chosen == 0:
        return float(distinct[0])
    if chosen == len(distinct):
        return float(np.nextafter(distinct[-1], np.inf))
    below, above = distinct[chosen - 1], distinct[chosen]
    middle = below + (above - below) / 2
    return float(middle if middle > below else above)


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy fold by fold, each at the threshold chosen on the others."""

    folds: Floats
    """`(F,)` accuracy of each fold, in published order."""
    thresholds: Floats
    """`(F,)` threshold applied to each fold."""
    wrong: float
    """Decisions that were wrong in all folds together; of folds of different sizes the mean does not tell."""

    @property
    def mean(self) -> float:
        """Mean over the folds: the figure published for LFW."""
        return float(self.folds.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the folds (not the standard error, which is this / sqrt(F - 1))."""
        return float(self.folds.std())


def kfold_accuracy(
    scores: ArrayLike, genuine: ArrayLike, folds: ArrayLike, weights: ArrayLike | None = None
) -> FoldAccuracy | None:
    """Accuracy of each fold at the `best_threshold` of all the others (LFW View 2, G. B. Huang et al. 2007).

    `folds` `(N,)` numbers the fold of each pair; folds are taken in rising order. None with fewer than two folds, or
    when a resample left a fold empty.
    """
    values, labels, counts = _checked(scores, genuine, weights)
    numbers = np.asarray(folds)
    if numbers.shape != values.shape:
        raise UserError(f"{len(values)} scores need as many fold numbers, found shape {numbers.shape}.")
    distinct = np.unique(numbers)
    if len(distinct) < 2 or any(counts[numbers == fold].sum() <= 0 for fold in distinct):
        return None
    order = np.argsort(values, kind="stable")  # once: sorting what is in order already takes no time
    values, labels, counts, numbers = values[order], labels[order], counts[order], numbers[order]
    accuracies, thresholds, wrong = [], [], 0.0
    for fold in distinct:
        held, rest = numbers == fold, numbers != fold
        threshold = best_threshold(values[rest], labels[rest], counts[rest])
        thresholds.append(threshold)
        accuracies.append(accuracy_at(values[held], labels[held], threshold, counts[held]))
        wrong += (1.0 - accuracies[-1]) * float(counts[held].sum())
    return FoldAccuracy(np.array(accuracies), np.array(thresholds), wrong)


def verification_figures(
    scores: ArrayLike, genuine: ArrayLike, folds: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Figures:
    """Every verification figure, as fractions; None where a class or the folds are missing.

    Keys: `accuracy` and `accuracy_std` (k folds), `auc`, `eer`, `tar@fmr=1e-2`, `tar@fmr=1e-3`, `fmr@threshold`,
    `fnmr@threshold`.
    """
    values, labels, counts = _checked(scores, genuine, weights)
    by_fold = kfold_accuracy(values, labels, folds, counts)
    both = bool((counts * labels).any() and (counts * ~labels).any())
    curve = roc(values, labels, counts) if both else None
    figures: Figures = {
        "accuracy": by_fold.mean if by_fold else None,
        "accuracy_std": by_fold.std if by_fold else None,
        "auc": auc(curve) if curve else None,
        "eer": eer(curve) if curve else None,
    }
    figures |= {name: tar_at_fmr(curve, fmr) if curve else None for name, fmr in TAR_POINTS.items()}
    figures["fmr@threshold"] = fmr_at(values, labels, threshold, counts)
    figures["fnmr@threshold"] = fnmr_at(values, labels, threshold, counts)
    return figures


def share(hit: Bools, weights: Floats) -> float | None:
    """The part of `weights` that lies where `hit` is true; None when they sum to 0."""
    total = float(weights.sum())
    return float(np.sum(weights * hit)) / total if total > 0 else None


def _checked(scores: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Bools, Floats]:
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(genuine, dtype=bool)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or labels.shape != values.shape or counts.shape != values.shape:
        shapes: Sequence[tuple[int, ...]] = (values.shape, labels.shape, counts.shape)
        raise UserError(f"Scores, labels and weights must be of one length, found shapes {shapes}.")
    if not values.size:
        raise UserError("No pairs: there is nothing to measure.")
    if np.isnan(values).any():
        raise UserError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN: no figure can be given.")
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise UserError("Weights must be finite, none below 0 and not all 0.")
    return values, labels, counts
