"""The detection error trade-off (DET) curve, and where its points lie on a plot."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from common.errors import UserError
from facial_rec.metrics import Floats, Ints, roc


@dataclass(frozen=True)
class DetCurve:
    """Detection error trade-off: what each threshold costs in either kind of error."""

    thresholds: Floats
    """`(K,)`, falling; the first is infinite."""
    fmr: Floats
    """`(K,)`, rising from 0 to 1."""
    fnmr: Floats
    """`(K,)`, falling from 1 to 0."""


def det(scores: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None = None) -> DetCurve:
    """FMR and FNMR at every distinct score (A. Martin et al., "The DET Curve", Eurospeech 1997).

    Raises UserError unless both classes are there.
    """
    curve = roc(scores, genuine, weights)
    return DetCurve(curve.thresholds, curve.fmr, 1.0 - curve.tmr)


def probit(rates: ArrayLike, least: float | None = None) -> Floats:
    """Where `rates` lie on the axis of a DET plot: the inverse of the normal distribution function.

    Two normal score distributions give a straight line there. A rate of 0 lies at -inf and one of 1 at inf; to draw
    them, `least` moves rates below it up to it, and those above `1 - least` down. Raises UserError for what is no rate.
    """
    values = np.asarray(rates, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError("A rate lies in [0, 1]: its place on a probit axis is undefined elsewhere.")
    if least is not None:
        if not 0 < least < 0.5:
            raise UserError(f"The least rate drawn lies in (0, 0.5), found {least}.")
        values = values.clip(least, 1 - least)
    distinct, place = np.unique(values, return_inverse=True)
    inner = distinct[(distinct > 0) & (distinct < 1)]
    inverse = NormalDist().inv_cdf
    quantiles = np.where(distinct > 0, np.inf, -np.inf)
    quantiles[(distinct > 0) & (distinct < 1)] = [inverse(rate) for rate in inner.tolist()]
    return quantiles[place.reshape(values.shape)]


def thin(first: ArrayLike, second: ArrayLike, most: int = 300) -> Ints:
    """Indices of at most `most` points of a curve of two rates, rising, so spread that a DET plot looks the same.

    Neighbours are about equally far apart on probit axes; the first and the last point are always kept.
    """
    count = len(np.asarray(first))
    if count <= most:
        return np.arange(count)
    if most < 2:
        raise UserError(f"A curve is thinned to 2 points or more, found {most}.")
    steps = [np.abs(np.diff(probit(rates, least=1e-6))) for rates in (first, second)]
    travelled = np.append(0.0, np.cumsum(np.sum(steps, axis=0)))
    chosen = np.searchsorted(travelled, np.linspace(0, travelled[-1], most))
    return np.unique(np.concatenate([[0], chosen[1:-1], [count - 1]])).astype(np.int64)
