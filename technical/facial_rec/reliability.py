"""Which figures may be given at all: an error rate is only as good as the number of errors behind it.

A figure with fewer than 3 expected errors is withheld, one with fewer than 30 flagged. Thirty errors are Doddington's
rule of 30 (G. R. Doddington et al., Speech Communication 31, 2000: the true rate then lies within 30 % of the observed
one with 90 % confidence), three is the rule of 3 (A. J. Mansfield, J. L. Wayman, "Best Practices in Testing
and Reporting Performance of Biometric Devices", 2002, appendix B).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from facial_rec.metrics import Figures

LEAST_ERRORS = 3
FEW_ERRORS = 30
UPPER_LEVEL = 0.95


@dataclass(frozen=True)
class Support:
    """What stands behind a figure."""

    errors: float
    """Errors observed, or expected where the figure fixes an error rate (TAR at FMR 1e-3: 1e-3 x impostor pairs)."""
    trials: int
    """Comparisons, or probes, in which such an error could happen."""
    what: str
    """What the errors are, as in "false matches among 3,000 impostor pairs"."""
    observed: bool = True
    """Whether `errors` were counted, so that an upper bound of their rate can be given in place of the figure."""


@dataclass(frozen=True)
class Judged:
    """Figures after the rule, and what it said."""

    figures: Figures
    """As given, None where withheld."""
    withheld: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By figure: `reason`, `errors`, `trials`, `upper95` (highest rate these errors are likely from; may be None)."""
    few_errors: dict[str, float] = field(default_factory=dict)
    """By flagged figure: the errors behind it, from 3 to below 30."""


def judge(figures: Figures, support: Mapping[str, Support]) -> Judged:
    """Withhold or flag `figures` by their `support`; one that has none, or is None already, is left as it is."""
    kept, withheld, few = dict(figures), {}, {}
    for name, value in figures.items():
        behind = support.get(name)
        if value is None or behind is None:
            continue
        errors = round(behind.errors, 6)  # 0.001 * 3000 is a hair below 3 in floating point
        if errors < LEAST_ERRORS:
            kept[name] = None
            withheld[name] = {
                "reason": f"{errors:g} {behind.what}: fewer than {LEAST_ERRORS}, so no figure is given",
                "errors": errors,
                "trials": behind.trials,
                "upper95": upper_bound(int(errors), behind.trials) if behind.observed else None,
            }
        elif errors < FEW_ERRORS:
            few[name] = errors
    return Judged(kept, withheld, few)


def upper_bound(errors: int, trials: int, level: float = UPPER_LEVEL) -> float | None:
    """One-sided Clopper-Pearson bound: the rate at which `errors` or fewer in `trials` have chance `1 - level`.

    For independent trials; comparisons of the same people are not, and the true bound is then higher. None without
    trials. (C. J. Clopper, E. S. Pearson, Biometrika 26, 1934.)
    """
    if trials <= 0:
        return None
    if errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(60):  # bisection to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(errors, trials, middle) > 1 - level else (low, middle)
    return high


def _at_most(errors: int, trials: int, rate: float) -> float:
    """Chance of `errors` or fewer in `trials`, each with chance `rate`."""
    if rate >= 1.0:
        return 0.0
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + (k * math.log(rate) if k else 0.0)
        + (trials - k) * math.log1p(-rate)
        for k in range(errors + 1)
    ]
    return sum(math.exp(value) for value in logs)
