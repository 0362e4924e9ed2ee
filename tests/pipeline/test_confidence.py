"""Measures of confidence: one that knows, one that does not, and what refusing probes gains."""

from __future__ import annotations

import numpy as np
import pytest

from facial_rec.risk_coverage import aurc, risk_coverage
from pipeline.confidence import Refusal, choose_measure, compare, refuse_worst
from pipeline.development_set import DevelopmentPairs, development_pairs


@pytest.fixture(scope="module")
def pairs() -> DevelopmentPairs:
    return development_pairs([f"p{n // 8:02d}" for n in range(240)])


@pytest.fixture(scope="module")
def blurred(pairs: DevelopmentPairs) -> np.ndarray:
    """`(M,)`: a quarter of the images is spoilt, whoever is on it."""
    return np.random.default_rng(0).random(len(pairs.people)) < 0.25


@pytest.fixture(scope="module")
def wrong(pairs: DevelopmentPairs, blurred: np.ndarray) -> np.ndarray:
    """Genuine pairs with a spoilt probe are missed half the time, others hardly ever; a few false matches."""
    chance = np.where(pairs.genuine, np.where(blurred[pairs.first], 0.5, 0.03), 0.002)
    return np.random.default_rng(1).random(len(pairs)) < chance


def test_comparison_equals_the_curve_of_balanced_pairs(pairs: DevelopmentPairs, wrong: np.ndarray) -> None:
    confidence = np.random.default_rng(2).random(len(pairs)) - 0.3 * wrong
    found = compare(confidence, wrong, pairs, repetitions=0)
    genuine = pairs.genuine
    weights = np.where(genuine, 0.5 / genuine.sum(), 0.5 / (~genuine).sum())
    exact = risk_coverage(confidence, wrong, weights)
    assert found.random == pytest.approx(exact.random, rel=1e-5)
    assert found.random == pytest.approx((wrong[genuine].mean() + wrong[~genuine].mean()) / 2, rel=1e-5)
    assert found.aurc == pytest.approx(aurc(exact), rel=0.05), "cut into 100 groups, it is nearly the same"
    assert found.gain_ci95 is None


def test_a_confidence_that_knows_gains_and_one_that_does_not_may_be_zero(
    pairs: DevelopmentPairs, blurred: np.ndarray, wrong: np.ndarray
) -> None:
    rng = np.random.default_rng(3)
    knows = compare(rng.random(len(pairs)) - blurred[pairs.first], wrong, pairs, 200)
    assert knows.gain_ci95 is not None
    assert 0 < knows.gain_ci95[0] < knows.gain < knows.gain_ci95[1]
    blind = compare(rng.random(len(pairs.people))[pairs.first], wrong, pairs, 200)
    assert blind.gain_ci95 is not None
    assert blind.gain_ci95[0] < 0 < blind.gain_ci95[1]
    record = knows.record()
    assert record["gain"] == pytest.approx(record["aurc_random"] - record["aurc"])
    assert len(record["coverage"]) == len(record["risk"]) <= 100


def test_refusing_bad_probes_helps_and_refusing_any_does_not(
    pairs: DevelopmentPairs, blurred: np.ndarray, wrong: np.ndarray
) -> None:
    rng = np.random.default_rng(4)
    answered = rng.random(len(pairs)) < 0.9
    quality = (rng.random(len(blurred)) - blurred)[pairs.first]
    found = refuse_worst(quality, 0.2, answered, wrong & answered, pairs, 200)
    assert found is not None
    assert found.helps
    assert found.refused == pytest.approx(0.2, abs=0.02)
    kept = answered & (quality >= found.cutoff)
    genuine = pairs.genuine

    def risk(among: np.ndarray) -> float:
        return (wrong[among & genuine].mean() + wrong[among & ~genuine].mean()) / 2

    assert found.risk == pytest.approx(risk(answered), rel=1e-5)
    assert found.gain == pytest.approx(risk(answered) - risk(kept), rel=1e-4)
    blind = refuse_worst(rng.random(len(blurred))[pairs.first], 0.2, answered, wrong & answered, pairs, 200)
    assert blind is not None
    assert not blind.helps


def test_refusing_everybody_of_a_class_has_no_risk(pairs: DevelopmentPairs, wrong: np.ndarray) -> None:
    assert refuse_worst(np.where(pairs.genuine, 0.0, 1.0), 0.5, np.ones(len(pairs), bool), wrong, pairs, 0) is None


def refusal(gain: float, low: float) -> Refusal:
    return Refusal(cutoff=1.0, refused=0.05, risk=0.1, gain=gain, gain_ci95=(low, gain + 1))


def test_the_measure_is_chosen_that_gains_most_where_it_helps() -> None:
    assert choose_measure({"norm": [refusal(0.1, -0.1)], "agreement": [None]}) is None
    assert choose_measure({}) is None
    helps = {"norm": [refusal(0.1, 0.05), refusal(0.9, -0.1)], "agreement": [refusal(0.2, 0.01), None]}
    assert choose_measure(helps) == "agreement"
