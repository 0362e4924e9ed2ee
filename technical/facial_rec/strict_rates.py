"""The TAR at the strict false match rates that large template sets are reported at, with intervals."""

from __future__ import annotations

import numpy as np

from facial_rec import metrics
from facial_rec.metrics import Figures, Floats
from facial_rec.pair_bootstrap import PairResampler, Replicates, Weights
from facial_rec.reliability import Support
from facial_rec.verification import TOLERANCE, Comparisons

STRICT_POINTS = {"tar@fmr=1e-4": 1e-4, "tar@fmr=1e-5": 1e-5, "tar@fmr=1e-6": 1e-6}


class StrictComparisons(Comparisons):
    """`Comparisons` with `tar@fmr=1e-4`, `1e-5` and `1e-6` besides; None with one class only."""

    def figures(self, threshold: float) -> Figures:
        both = bool(self.genuine.any() and not self.genuine.all())
        curve = metrics.roc(self.scores, self.genuine) if both else None
        strict = {name: metrics.tar_at_fmr(curve, fmr) if curve else None for name, fmr in STRICT_POINTS.items()}
        return super().figures(threshold) | strict

    def support(self, figures: Figures) -> dict[str, Support]:
        """As for the other TARs: the false matches expected or the misses, the fewer of the two."""
        genuine, impostor = int(self.genuine.sum()), int((~self.genuine).sum())
        support = super().support(figures)
        for name, fmr in STRICT_POINTS.items():
            if (rate := figures.get(name)) is not None:
                false = Support(fmr * impostor, impostor, f"false matches expected among {impostor:,} pairs", False)
                missed = Support((1 - rate) * genuine, genuine, f"misses among {genuine:,} genuine pairs", False)
                support[name] = min(false, missed, key=lambda one: one.errors)
        return support

    def replicate(self, resampler: PairResampler, threshold: float) -> dict[str, Replicates]:
        order = np.argsort(-self.scores, kind="stable")
        scores, genuine = self.scores[order], self.genuine[order].astype(np.float32)
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last of each run of ties

        def tars(weights: Weights) -> dict[str, Floats]:
            false = np.cumsum(weights * (1 - genuine), axis=1, dtype=np.float64)[:, last]
            gained = np.pad(np.cumsum(weights * genuine, axis=1, dtype=np.float64)[:, last], ((0, 0), (1, 0)))
            rows = np.arange(len(weights))
            with np.errstate(invalid="ignore", divide="ignore"):
                found = {}
                for name, fmr in STRICT_POINTS.items():
                    allowed = (false <= fmr * (1 + TOLERANCE) * false[:, -1:]).sum(axis=1)
                    rate = gained[rows, allowed] / gained[:, -1]
                    found[name] = np.where(false[:, -1] > 0, rate, np.nan)
            return found

        return super().replicate(resampler, threshold) | resampler.replicate(tars, order)
