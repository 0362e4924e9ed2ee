"""The DET curve against brute force and scikit-learn; its axes against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from common.errors import UserError
from facial_rec import metrics
from facial_rec.det import det, probit, thin

every_kind = pytest.mark.parametrize("decimals", [None, 2, 1], ids=["distinct", "some-ties", "many-ties"])


def made_scores(seed: int, count: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    genuine = rng.random(count) < 0.4
    scores = rng.normal(np.where(genuine, 0.5, 0.1), 0.25)
    return (scores if decimals is None else scores.round(decimals)), genuine


@every_kind
@pytest.mark.parametrize("weighted", [False, True])
def test_det_is_the_two_error_rates_of_every_threshold(decimals: int | None, weighted: bool) -> None:
    scores, genuine = made_scores(12, 200, decimals)
    weights = np.random.default_rng(3).integers(0, 4, 200).astype(float) if weighted else None
    curve = det(scores, genuine, weights)
    assert curve.thresholds.tolist() == [np.inf, *np.unique(scores)[::-1]]
    for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert fmr == pytest.approx(metrics.fmr_at(scores, genuine, threshold, weights), abs=1e-12)
        assert fnmr == pytest.approx(metrics.fnmr_at(scores, genuine, threshold, weights), abs=1e-12)
    assert (curve.fmr[0], curve.fnmr[0], curve.fmr[-1], curve.fnmr[-1]) == (0, 1, 1, 0)


@every_kind
def test_det_holds_the_points_of_scikit_learn(decimals: int | None) -> None:
    scores, genuine = made_scores(13, 300, decimals)
    fmr, fnmr, thresholds = sk.det_curve(genuine, scores)
    curve = det(scores, genuine)
    ours = dict(zip(curve.thresholds, zip(curve.fmr, curve.fnmr, strict=True), strict=True))
    for threshold, *rates in zip(thresholds, fmr, fnmr, strict=True):
        assert ours[threshold] == pytest.approx(tuple(rates))


def test_det_needs_both_classes_and_takes_infinite_scores() -> None:
    with pytest.raises(UserError, match="only one of the two"):
        det([0.1, 0.2], [True, True])
    curve = det([np.inf, 0.5, -np.inf], [True, False, False])
    assert curve.fnmr.tolist() == [1, 0, 0, 0]
    assert curve.fmr.tolist() == [0, 0, 0.5, 1]


def test_probit_is_the_inverse_normal() -> None:
    rates = np.random.default_rng(0).random((7, 30)) ** 4
    np.testing.assert_allclose(probit(rates), stats.norm.ppf(rates), rtol=1e-9)
    assert probit([0.0, 0.5, 1.0]).tolist() == [-np.inf, 0.0, np.inf]
    np.testing.assert_allclose(probit([0.0, 0.5, 1.0], least=1e-3), stats.norm.ppf([1e-3, 0.5, 0.999]))


@pytest.mark.parametrize("rates", [[-0.1], [1.1], [np.nan]])
def test_probit_refuses_what_is_no_rate(rates: list[float]) -> None:
    with pytest.raises(UserError, match=r"A rate lies in \[0, 1\]"):
        probit(rates)
    with pytest.raises(UserError, match="least rate"):
        probit([0.5], least=0.5)


def test_thinned_curve_stays_close_to_the_whole() -> None:
    scores, genuine = made_scores(14, 50_000)
    curve = det(scores, genuine)
    kept = thin(curve.fmr, curve.fnmr)
    assert 200 <= len(kept) <= 300
    assert (kept[0], kept[-1]) == (0, len(curve.fmr) - 1)
    assert (np.diff(kept) > 0).all()
    drawn = np.stack([probit(curve.fmr, 1e-6), probit(curve.fnmr, 1e-6)])
    steps = np.abs(np.diff(drawn)).sum(axis=0)
    gaps, widest = (kind.reduceat(steps, kept[:-1]) for kind in (np.add, np.maximum))
    assert (gaps - widest).max() <= steps.sum() / 299  # points that were left out lie close to one that was kept
    assert thin([0, 0.5, 1], [1, 0.5, 0]).tolist() == [0, 1, 2]


def test_a_million_scores() -> None:
    curve = det(*made_scores(11, 1_000_000))
    assert len(curve.fmr) == 1_000_001
    assert len(thin(curve.fmr, curve.fnmr)) <= 300
