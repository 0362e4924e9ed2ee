"""Risk against coverage: what is gained by leaving the least certain answers out.

R. El-Yaniv, Y. Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 11, 2010. Answers are taken in
order of falling confidence; coverage is the share taken so far, risk the share of wrong ones among them. AURC, the area
under the curve, is the mean risk over all coverages (Y. Geifman, G. Uziel, R. El-Yaniv, "Bias-Reduced Uncertainty
Estimation for Deep Neural Classifiers", ICLR 2019). A confidence that knows nothing takes wrong answers as often early
as late: its expected curve is flat at the risk of answering everything, and so is its AURC.

Answers of equal confidence are taken together, as the random order among them would on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """One point per distinct confidence, the most certain first."""

    coverage: Floats
    """`(K,)`, rising to 1."""
    risk: Floats
    """`(K,)` share of wrong answers among those covered."""
    confidence: Floats
    """`(K,)`, falling: the lowest confidence that is covered."""

    @property
    def random(self) -> float:
        """Risk of answering everything: the flat curve, and the AURC, of a confidence that knows nothing."""
        return float(self.risk[-1])

    def risk_at(self, coverage: float) -> float:
        """Risk at the smallest coverage of the curve that is at least `coverage`."""
        return float(self.risk[min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.risk) - 1)])


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike, weights: ArrayLike | None = None) -> RiskCoverage:
    """The curve of N answers: how certain each is `(N,)`, and whether it is wrong `(N,)`.

    `weights` counts an answer more than once, or not at all. Raises UserError for no answers, NaN, and lengths that
    differ.
    """
    values, errors = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or errors.shape != values.shape or counts.shape != values.shape:
        shapes = (values.shape, errors.shape, counts.shape)
        raise UserError(f"Confidences, errors and weights must be of one length, found shapes {shapes}.")
    if np.isnan(values).any() or np.isnan(errors).any():
        raise UserError("Confidences or errors hold NaN: no risk can be given.")
    if not counts.sum() > 0 or (counts < 0).any():
        raise UserError("No answers: there is no risk to measure.")
    order = np.argsort(-values, kind="stable")
    values, errors, counts = values[order], errors[order], counts[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    covered = np.cumsum(counts)[last_of_ties]
    missed = np.cumsum(counts * errors)[last_of_ties]
    present = covered > 0
    covered, missed = covered[present], missed[present]
    return RiskCoverage(covered / covered[-1], missed / covered, values[last_of_ties][present])


def aurc(curve: RiskCoverage) -> float:
    """Area under the risk-coverage curve: the mean of its risk over coverage, 0 for no wrong answer.

    Within a group of equal confidence the risk runs from the point before to the group's own; it is summed as the wrong
    answers grow linearly with coverage there, which is what a random order within the group gives on average.
    """
    start = np.append(0.0, curve.coverage[:-1])
    wrong_before = np.append(0.0, (curve.risk * curve.coverage)[:-1])
    wrong_after = curve.risk * curve.coverage
    width = curve.coverage - start
    # Risk within a group is (a + b c) / c with b the group's own risk: its integral is a log(end / start) + b width.
    slope = np.divide(wrong_after - wrong_before, width, out=np.zeros_like(width), where=width > 0)
    level = wrong_before - slope * start
    growth = np.zeros_like(width)
    growth[1:] = np.log(curve.coverage[1:] / start[1:])
    return float(np.sum(level * growth + slope * width))


def thinned(curve: RiskCoverage, points: int = 100) -> RiskCoverage:
    """At most `points` points, evenly spaced in coverage, the last always among them: for a chart."""
    wanted = np.searchsorted(curve.coverage, np.linspace(1 / points, 1.0, points) - 1e-12)
    rows = np.unique(np.minimum(wanted, len(curve.coverage) - 1))
    return RiskCoverage(curve.coverage[rows], curve.risk[rows], curve.confidence[rows])
