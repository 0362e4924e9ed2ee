"""Risk-coverage curves against a plain loop, and the cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from facial_rec.risk_coverage import aurc, risk_coverage, thinned


def test_curve_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    confidence, wrong = rng.random(200), rng.random(200) < 0.3
    curve = risk_coverage(confidence, wrong)
    ranked = [wrong[index] for index in sorted(range(200), key=lambda index: -confidence[index])]
    risks = [sum(ranked[:count]) / count for count in range(1, 201)]
    assert curve.risk == pytest.approx(risks)
    assert curve.coverage == pytest.approx(np.arange(1, 201) / 200)
    assert curve.random == pytest.approx(wrong.mean())
    assert aurc(curve) == pytest.approx(np.mean(risks), abs=0.005)


def test_weights_repeat_answers() -> None:
    rng = np.random.default_rng(1)
    confidence, wrong, times = rng.random(50), rng.random(50) < 0.4, rng.integers(0, 4, 50)
    weighted = risk_coverage(confidence, wrong, times)
    repeated = risk_coverage(np.repeat(confidence, times), np.repeat(wrong, times))
    assert weighted.risk[-1] == pytest.approx(repeated.risk[-1])
    assert aurc(weighted) == pytest.approx(aurc(repeated))


def test_a_confidence_that_knows_everything_and_one_that_knows_nothing() -> None:
    wrong = np.arange(1000) % 4 == 0
    perfect = risk_coverage(1.0 - wrong, wrong)
    assert perfect.risk.tolist() == [0.0, 0.25]
    # All mistakes come last: risk is 0 to coverage 0.75 and 1 - 0.75 / c after it.
    assert aurc(perfect) == pytest.approx(0.25 + 0.75 * np.log(0.75))
    flat = risk_coverage(np.zeros(1000), wrong)
    assert aurc(flat) == pytest.approx(flat.random) == pytest.approx(0.25)
    noise = risk_coverage(np.random.default_rng(2).random(1000), wrong)
    assert aurc(noise) == pytest.approx(0.25, abs=0.05)


def test_worst_possible_confidence_costs_more_than_random() -> None:
    wrong = np.arange(100) < 20
    assert aurc(risk_coverage(wrong, wrong)) > 0.2


def test_risk_at_a_coverage() -> None:
    curve = risk_coverage([4, 3, 2, 1], [False, False, True, True])
    assert curve.risk_at(0.5) == 0.0
    assert curve.risk_at(0.6) == pytest.approx(1 / 3)
    assert curve.risk_at(1.0) == 0.5


def test_thinning_keeps_the_ends() -> None:
    rng = np.random.default_rng(3)
    curve = risk_coverage(rng.random(5000), rng.random(5000) < 0.1)
    short = thinned(curve, 100)
    assert len(short.risk) == 100
    assert short.coverage[-1] == 1.0
    assert short.random == curve.random
    assert len(thinned(risk_coverage([1.0, 0.5], [0, 1])).risk) == 2


@pytest.mark.parametrize(
    ("confidence", "wrong", "weights", "words"),
    [
        ([], [], None, "No answers"),
        ([1.0], [True, False], None, "one length"),
        ([float("nan")], [True], None, "NaN"),
        ([1.0], [True], [0.0], "No answers"),
        ([1.0, 2.0], [True, True], [-1.0, 2.0], "No answers"),
    ],
)
def test_refusals(confidence: list[float], wrong: list[bool], weights: list[float] | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        risk_coverage(confidence, wrong, weights)
