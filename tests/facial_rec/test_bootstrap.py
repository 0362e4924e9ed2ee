"""Intervals: reproducible, by person, and of about the right width where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from facial_rec import bootstrap


def test_draws_are_reproducible_and_add_up() -> None:
    draws = bootstrap.resample_subjects(7, 50, seed=3)
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert (draws == bootstrap.resample_subjects(7, 50, seed=3)).all()
    assert (draws != bootstrap.resample_subjects(7, 50, seed=4)).any()


def test_numbers_are_shared_between_groups() -> None:
    (first, second), count = bootstrap.number_subjects(["b", "a"], ["c", "b"])
    assert first.tolist() == [1, 0]
    assert second.tolist() == [2, 1]
    assert count == 3


def test_a_pair_of_two_people_is_weighted_by_both() -> None:
    draws = np.array([2, 3, 0])
    weights = bootstrap.pair_weights(draws, np.array([0, 0, 0, 2]), np.array([0, 1, 2, 2]))
    assert weights.tolist() == [2, 6, 0, 0]


def test_interval_covers_a_known_share_clustered_by_person() -> None:
    """200 worlds of 60 people whose 5 images all succeed or all fail: the interval holds the true share 0.3."""
    rng, covered = np.random.default_rng(0), 0
    people = np.repeat(np.arange(60), 5)
    for world in range(200):
        outcome = (rng.random(60) < 0.3)[people].astype(float)
        draws = bootstrap.resample_subjects(60, 200, seed=world)
        values = bootstrap.replicate(
            lambda w, outcome=outcome: {"share": float(w @ outcome / w.sum())}, (d[people].astype(float) for d in draws)
        )
        interval = bootstrap.percentile_interval(values["share"])
        assert interval is not None
        covered += interval[0] <= 0.3 <= interval[1]
    assert 0.90 <= covered / 200 <= 0.985


def test_undefined_figures_give_no_interval() -> None:
    assert bootstrap.percentile_interval([]) is None
    assert bootstrap.percentile_interval([1.0] * 90 + [np.nan] * 10) is None
    assert bootstrap.percentile_interval([1.0] * 99 + [np.nan]) == (1.0, 1.0)


def test_replicates_without_weight_are_undefined() -> None:
    values = bootstrap.replicate(lambda w: {"sum": float(w.sum()), "none": None}, [np.zeros(2), np.ones(2)])
    assert np.isnan(values["sum"][0])
    assert values["sum"][1] == 2.0
    assert np.isnan(values["none"]).all()


def test_no_people_is_refused() -> None:
    with pytest.raises(UserError, match="people"):
        bootstrap.resample_subjects(0, 10, seed=0)
