"""Thresholds for wanted rates, against counting; the rule of 3; people left out."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from facial_rec.pair_bootstrap import rate_interval
from pipeline.calibration import (
    Wanted,
    accept_threshold,
    calibrate_scores,
    fnmr_difference,
    held_out_decisions,
    reject_threshold,
    thresholds_of,
)
from pipeline.development_set import DevelopmentPairs, development_pairs


def made(people: int = 30, images: int = 6, seed: int = 0, gap: float = 2.0) -> tuple[np.ndarray, DevelopmentPairs]:
    """Normal scores around 0 for impostors, `gap` standard deviations of 0.1 higher for genuine pairs."""
    pairs = development_pairs([f"p{n // images:02d}" for n in range(people * images)], seed=seed)
    rng = np.random.default_rng(seed)
    return (rng.normal(size=len(pairs)) + gap * pairs.genuine) * 0.1, pairs


@pytest.mark.parametrize("fmr", [0.001, 0.01, 0.1, 0.5])
def test_accept_threshold_is_the_lowest_that_keeps_the_wanted_fmr(fmr: float) -> None:
    impostor = np.random.default_rng(0).normal(size=3000).round(3)
    threshold = accept_threshold(impostor, fmr)
    assert (impostor >= threshold).mean() <= fmr
    below = impostor[impostor < threshold].max()
    assert (impostor >= below).mean() > fmr, "one score lower is too low"


def test_accept_threshold_at_the_ends() -> None:
    assert accept_threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.5) == pytest.approx(0.25)
    assert accept_threshold(np.array([0.1, 0.2]), 0.1) == np.nextafter(0.2, 1)
    assert accept_threshold(np.full(100, 0.5), 0.5) > 0.5, "of equal scores all or none"
    assert accept_threshold(np.arange(3000) / 3000, 0.001) == pytest.approx(2996.5 / 3000), "0.001 of 3,000 is 3"


@pytest.mark.parametrize("fnmr", [0.01, 0.05, 0.5])
def test_reject_threshold_is_the_highest_that_keeps_the_wanted_fnmr(fnmr: float) -> None:
    genuine = np.random.default_rng(1).normal(size=2000).round(3)
    threshold = reject_threshold(genuine, fnmr)
    assert (genuine < threshold).mean() <= fnmr
    assert (genuine < np.nextafter(threshold, 9)).mean() > fnmr


def test_figures_equal_counting() -> None:
    scores, pairs = made()
    wanted = Wanted(fmr=0.01, fnmr=0.1, bootstrap=50)
    found = calibrate_scores(scores, pairs, wanted)
    genuine, figures = pairs.genuine, found.figures
    assert found.accept is not None
    assert found.reject is not None
    assert found.reject < found.accept
    assert found.reason is None
    assert figures["threshold"] == found.accept
    same, different = scores >= found.accept, scores < found.reject
    assert figures["fmr"] == pytest.approx(same[~genuine].mean())
    assert figures["fmr"] <= 0.01
    assert figures["fnmr"] == pytest.approx((~same)[genuine].mean())
    assert figures["called_different"] == pytest.approx(different[genuine].mean())
    assert figures["called_different"] <= 0.1
    assert figures["answered_genuine"] == pytest.approx((same | different)[genuine].mean())
    assert figures["answered_impostor"] == pytest.approx((same | different)[~genuine].mean())
    assert figures["fnmr_at_default"] == pytest.approx((scores < 0.35)[genuine].mean())
    assert figures["fmr_ci95"][0] < figures["fmr"] < figures["fmr_ci95"][1]
    assert figures["genuine"] + figures["impostor"] == len(pairs)
    # 0.35 is 3.5 standard deviations up: 3.8 false matches are expected of it.
    assert "fmr_at_default" in figures["withheld"] or "fmr_at_default" in figures["few_errors"]
    assert 0.5 < figures["fmr_held_out"] / 0.01 < 2


def test_intervals_are_those_of_the_rates() -> None:
    scores, pairs = made(people=12)
    figures = calibrate_scores(scores, pairs, Wanted(fmr=0.05, fnmr=0.1, bootstrap=100, seed=2)).figures
    people = pairs.people[pairs.first], pairs.people[pairs.second]
    for name, wrong, among in (
        ("fmr", scores >= figures["threshold"], ~pairs.genuine),
        ("fnmr", scores < figures["threshold"], pairs.genuine),
    ):
        expected = rate_interval(wrong & among, among, *people, repetitions=100, seed=2)
        assert figures[f"{name}_ci95"] == pytest.approx(expected, rel=1e-4)


def test_thresholds_that_meet_leave_nothing_undecided() -> None:
    scores, pairs = made(gap=8.0)
    found = calibrate_scores(scores, pairs, Wanted(fmr=0.01, fnmr=0.1, bootstrap=0))
    assert found.accept == found.reject
    assert found.figures["answered_genuine"] == found.figures["answered_impostor"] == 1.0
    assert found.figures["fmr_ci95"] is None


def test_with_fewer_than_three_expected_errors_there_is_no_threshold() -> None:
    scores, pairs = made(people=6, images=3)  # 135 impostor and 18 genuine pairs
    found = calibrate_scores(scores, pairs, Wanted(fmr=0.01, fnmr=0.1, bootstrap=0))
    assert found.accept is None
    assert found.reject is None
    assert found.reason is not None
    assert "1.35 false matches expected at a rate of 0.01 among 135 impostor pairs: fewer than 3" in found.reason
    assert found.figures["threshold"] is None
    assert "fmr" not in found.figures
    only_accept = calibrate_scores(scores, pairs, Wanted(fmr=0.1, fnmr=0.1, bootstrap=0))
    assert only_accept.accept is not None
    assert only_accept.reject is None
    assert only_accept.figures["few_errors"]["threshold"] == pytest.approx(13.5)
    assert "1.8 false non-matches" in str(only_accept.reason)


def test_a_recogniser_that_answers_one_to_everything_gets_no_threshold() -> None:
    _, pairs = made()
    found = calibrate_scores(np.ones(len(pairs)), pairs, Wanted(fmr=0.01, bootstrap=0))
    assert found.accept is None
    assert found.reason == "more impostor pairs than wanted have a score of 1"


def test_held_out_thresholds_never_saw_the_people_they_decide_on() -> None:
    scores, pairs = made(people=20)
    wanted = Wanted(fmr=0.05, seed=1)
    held = held_out_decisions(scores, pairs, wanted)
    assert held is not None
    accepted, used = held
    assert used[pairs.genuine].all(), "a genuine pair lies in one fold"
    assert not accepted[~used].any()
    fold = np.random.default_rng(1).permutation(20) % 5
    a, b = fold[pairs.people[pairs.first]], fold[pairs.people[pairs.second]]
    rest = (a != 2) & (b != 2)
    accept, _ = thresholds_of(scores[rest], pairs.genuine[rest], wanted)
    inside = (a == 2) & (b == 2)
    assert (accepted[inside] == (scores[inside] >= accept)).all()


def test_held_out_needs_people() -> None:
    scores, pairs = made(people=9)
    assert held_out_decisions(scores, pairs, Wanted(fmr=0.05)) is None


def test_difference_of_two_methods() -> None:
    scores, pairs = made()
    better = scores + 0.05 * pairs.genuine
    wanted = Wanted(fmr=0.01, bootstrap=200)
    threshold = accept_threshold(scores[~pairs.genuine], 0.01)
    gap, interval = fnmr_difference(scores, better, (threshold, threshold), pairs, wanted)
    missed = [(one < threshold)[pairs.genuine].mean() for one in (scores, better)]
    assert gap == pytest.approx(missed[0] - missed[1])
    assert interval is not None
    assert 0 < interval[0] < gap < interval[1]
    same, interval = fnmr_difference(scores, scores, (threshold, threshold), pairs, wanted)
    assert same == 0
    assert interval == (0, 0)
    assert fnmr_difference(scores, better, (threshold, threshold), pairs, Wanted(bootstrap=0))[1] is None


@pytest.mark.parametrize("rates", [(0, 0.05), (1, 0.05), (0.001, -1), (float("nan"), 0.05)])
def test_rates_out_of_range_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="expected a share between 0 and 1"):
        Wanted(*rates)
