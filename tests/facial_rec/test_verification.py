"""The figures of many resamples at once against one at a time; the rules; what a record holds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facial_rec import metrics
from facial_rec.pair_bootstrap import PairResampler, Weights
from facial_rec.verification import Comparisons, differences, entry, with_intervals


def made(seed: int, count: int = 600, decimals: int | None = None, folds: int = 5) -> Comparisons:
    rng = np.random.default_rng(seed)
    genuine = rng.random(count) < 0.45
    scores = rng.normal(np.where(genuine, 0.5, 0.1), 0.2)
    return Comparisons(
        scores if decimals is None else scores.round(decimals), genuine, np.arange(count) * folds // count
    )


def resampled(comparisons: Comparisons, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """What `Comparisons.replicate` computes, for given weights `(B, N)` in the pairs' own order."""
    found: dict[str, np.ndarray] = {}

    class Given(PairResampler):
        def _weights(self, start: int, columns: np.ndarray) -> tuple[Weights, Weights]:
            chosen = weights[start : start + self._step, columns].astype(np.float32)
            return chosen, chosen

    everybody = np.arange(len(comparisons.scores))
    given = Given(
        everybody, np.where(comparisons.genuine, everybody, (everybody + 1) % len(everybody)), len(weights), 0
    )
    for name, replicates in comparisons.replicate(given, threshold).items():
        found[name] = replicates.people
    return found


@pytest.mark.parametrize("decimals", [None, 2, 1], ids=["distinct", "some-ties", "many-ties"])
@pytest.mark.parametrize("threshold", [0.3, -9.0, 9.0])
def test_many_weightings_at_once_equal_one_at_a_time(decimals: int | None, threshold: float) -> None:
    comparisons = made(1, decimals=decimals)
    weights = np.random.default_rng(0).integers(1, 4, (7, 600))
    found = resampled(comparisons, weights, threshold)
    for row, one in enumerate(weights):
        expected = metrics.verification_figures(
            comparisons.scores, comparisons.genuine, comparisons.folds, threshold, one
        ) | {"d_prime": metrics.d_prime(comparisons.scores, comparisons.genuine, one)}
        del expected["accuracy_std"]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=2e-5), name


def test_pairs_left_out_of_a_resample() -> None:
    """Zero weights: all figures agree but accuracy, whose threshold may move within an empty gap."""
    comparisons = made(2)
    weights = np.random.default_rng(0).poisson(1.0, (9, 600))
    found = resampled(comparisons, weights, 0.3)
    for row, one in enumerate(weights):
        expected = metrics.verification_figures(comparisons.scores, comparisons.genuine, comparisons.folds, 0.3, one)
        for name in found.keys() - {"d_prime"}:
            assert found[name][row] == pytest.approx(expected[name], abs=0.02 if name == "accuracy" else 2e-5), name


def test_a_resample_without_one_class_is_undefined() -> None:
    comparisons = made(3)
    weights = np.stack([comparisons.genuine, ~comparisons.genuine, comparisons.folds != 0]).astype(float)
    found = resampled(comparisons, weights, 0.3)
    assert np.isnan(found["eer"]).tolist() == [True, True, False]
    assert np.isnan(found["tar@fmr=1e-2"]).tolist() == [True, True, False]
    assert np.isnan(found["fmr@threshold"]).tolist() == [True, False, False]
    assert np.isnan(found["fnmr@threshold"]).tolist() == [False, True, False]
    assert np.isnan(found["accuracy"]).tolist() == [False, False, True]


def test_figures_with_too_few_errors_are_withheld_with_their_interval() -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(400) < 200
    scores = np.where(genuine, 0.8, 0.0) + 0.1 * rng.random(400)
    scores[0], scores[399] = 0.3, 0.5  # one miss, one false match
    comparisons = Comparisons(scores, genuine, np.arange(400) % 2)
    people = np.arange(400)
    resampler = PairResampler(people, np.where(genuine, people, (people + 1) % 400), 30, 0)
    found = entry(comparisons, 0.35, comparisons.replicate(resampler, 0.35))
    assert found["figures"]["fnmr@threshold"] is None
    assert found["figures"]["fnmr@threshold_ci95"] is None
    assert found["withheld"]["fnmr@threshold"]["reason"].startswith("1 misses among 200 genuine pairs")
    assert found["withheld"]["fnmr@threshold"]["upper95"] == pytest.approx(0.0235, abs=5e-4)
    assert "0.2 false matches expected" in found["withheld"]["tar@fmr=1e-3"]["reason"]
    assert found["figures"]["d_prime"] > 0
    assert found["figures"]["reject_all_accuracy"] == 0.5
    json.dumps(found, allow_nan=False)


def test_wrong_decisions_are_counted_in_folds_of_any_size() -> None:
    """Three wrong in a fold of 40 pairs among nine of 28 or 29: the mean over folds would make 2.25 of them."""
    folds = np.repeat(np.arange(10), [40, *[29] * 8, 28])
    genuine = np.arange(300) % 2 == 0
    scores = np.where(genuine, 0.8, 0.1)
    scores[[0, 2, 4]] = 0.1
    judged = Comparisons(scores, genuine, folds).judged(0.5)
    assert judged.few_errors["accuracy"] == 3
    assert judged.figures["accuracy"] == pytest.approx(1 - 3 / 400)


def test_flagged_figures_keep_their_value() -> None:
    comparisons = made(4)
    judged = comparisons.judged(0.55)
    expected = comparisons.figures(0.55)["fmr@threshold"]
    errors = round(float(np.sum(~comparisons.genuine & (comparisons.scores >= 0.55))))
    assert 3 <= errors < 30
    assert judged.figures["fmr@threshold"] == expected
    assert judged.few_errors["fmr@threshold"] == errors


def test_one_class_gives_what_it_can() -> None:
    scores = np.linspace(0, 1, 100)
    comparisons = Comparisons(scores, np.zeros(100, bool), np.zeros(100, np.int64))
    people = np.arange(100)
    resampler = PairResampler(people, (people + 1) % 100, 30, 0)
    found = entry(comparisons, 0.5, comparisons.replicate(resampler, 0.5))
    assert found["figures"]["fmr@threshold"] == 0.5
    assert found["figures"]["fmr@threshold_ci95"][0] < 0.5 < found["figures"]["fmr@threshold_ci95"][1]
    assert found["figures"]["eer"] is None
    assert found["curve"] is None
    assert sum(found["histogram"]["impostor"]) == 100


@pytest.mark.parametrize("width", [0.0, 2e-7, 5e-5, 9.9e-4, 1.0])
def test_edges_of_the_histogram_rise_however_close_the_scores_are(width: float) -> None:
    scores = 0.3 + np.linspace(0, width, 100)
    found = Comparisons(scores, np.arange(100) % 2 == 0, np.zeros(100, np.int64)).histogram()
    assert np.all(np.diff(found["edges"]) > 0)
    assert (sum(found["genuine"]), sum(found["impostor"])) == (50, 50)


def test_curve_is_thin_and_ends_where_the_roc_does() -> None:
    curve = made(5, 5000).curve()
    assert curve is not None
    assert len(curve["fmr"]) <= 240
    assert (curve["fmr"][0], curve["fnmr"][0], curve["thresholds"][0]) == (0, 1, None)
    assert (curve["fmr"][-1], curve["fnmr"][-1]) == (1, 0)


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    base = made(6)
    better = Comparisons(base.scores + 0.02 * rng.normal(size=600) + 0.03 * base.genuine, base.genuine, base.folds)
    people = np.arange(600)
    resampler = PairResampler(people, np.where(base.genuine, people, (people + 7) % 600), 200, 0)
    replicates = [one.replicate(resampler, 0.3) for one in (better, base)]
    figures = [with_intervals(one.judged(0.3).figures, r) for one, r in zip((better, base), replicates, strict=True)]
    gap = differences(figures[0], figures[1], *replicates)
    assert gap["eer"] == pytest.approx(figures[0]["eer"] - figures[1]["eer"])
    low, high = gap["eer_ci95"]
    assert low < gap["eer"] < high < 0
    alone = figures[0]["eer_ci95"]
    assert high - low < (alone[1] - alone[0]) / 2
