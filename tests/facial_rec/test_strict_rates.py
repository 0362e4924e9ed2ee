"""TAR at strict rates against the plain function, resample by resample, and the rules of 3 and 30."""

from __future__ import annotations

import numpy as np
import pytest

from facial_rec import metrics, strict_rates
from facial_rec.pair_bootstrap import PairResampler
from facial_rec.strict_rates import STRICT_POINTS, StrictComparisons
from facial_rec.verification import Comparisons, entry


def made(count: int, decimals: int | None = None) -> StrictComparisons:
    rng = np.random.default_rng(0)
    genuine = np.arange(count) % 10 == 0
    scores = rng.normal(np.where(genuine, 0.6, 0.1), 0.12)
    return StrictComparisons(scores if decimals is None else scores.round(decimals), genuine, np.zeros(count, int))


def test_other_figures_are_as_before() -> None:
    ours, plain = made(2000), made(2000)
    expected = Comparisons(plain.scores, plain.genuine, plain.folds).figures(0.35)
    found = ours.figures(0.35)
    assert {name: found[name] for name in expected} == expected
    curve = metrics.roc(ours.scores, ours.genuine)
    assert {name: found[name] for name in STRICT_POINTS} == {
        name: metrics.tar_at_fmr(curve, fmr) for name, fmr in STRICT_POINTS.items()
    }


def test_strict_rates_need_many_pairs() -> None:
    found = entry(made(40_000), 0.35, {})
    assert found["figures"]["tar@fmr=1e-4"] is not None
    assert found["few_errors"]["tar@fmr=1e-4"] == pytest.approx(3.6)
    assert found["figures"]["tar@fmr=1e-5"] is None
    assert "0.36 false matches expected among 36,000 pairs" in found["withheld"]["tar@fmr=1e-5"]["reason"]


@pytest.mark.parametrize("decimals", [None, 1])
def test_every_resample_is_the_plain_function(decimals: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_rates, "STRICT_POINTS", {"loose": 0.05, "strict": 0.01})
    comparisons, rng = made(400, decimals), np.random.default_rng(1)
    first = rng.integers(0, 20, 400)
    second = np.where(comparisons.genuine, first, (first + rng.integers(1, 20, 400)) % 20)
    resampler = PairResampler(first, second, 25, seed=2)
    found = comparisons.replicate(resampler, 0.35)

    def brute(weights: np.ndarray) -> dict[str, np.ndarray]:
        curves = [metrics.roc(comparisons.scores, comparisons.genuine, row) for row in weights.astype(float)]
        points = {"loose": 0.05, "strict": 0.01}
        return {name: np.array([metrics.tar_at_fmr(c, fmr) for c in curves]) for name, fmr in points.items()}

    expected = resampler.replicate(brute)
    for name in ("loose", "strict"):
        np.testing.assert_allclose(found[name].people, expected[name].people, atol=1e-6)
        np.testing.assert_allclose(found[name].impostors, expected[name].impostors, atol=1e-6)
    assert "eer" in found


def test_one_class_has_no_rate() -> None:
    only = StrictComparisons(np.array([0.1, 0.2]), np.array([True, True]), np.zeros(2, int))
    assert only.figures(0.35)["tar@fmr=1e-4"] is None
