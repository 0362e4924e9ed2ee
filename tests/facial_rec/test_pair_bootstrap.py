"""Resampling of pairs: the same for every method, by person, and of the right width in lists of either kind."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from facial_rec import pair_bootstrap
from facial_rec.pair_bootstrap import PairResampler, Replicates, rate_interval


def total(weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"first": weights[:, 0].astype(float), "sum": weights.sum(axis=1).astype(float)}


def test_seed_and_pairs_decide_the_resamples_whatever_the_order() -> None:
    people = np.arange(50)
    one = PairResampler(people, (people + 3) % 50, 40, seed=1)
    plain = one.replicate(total)["sum"]
    turned = PairResampler(people, (people + 3) % 50, 40, seed=1).replicate(total, order=people[::-1].copy())["sum"]
    for kind in pair_bootstrap.KINDS:
        np.testing.assert_array_equal(getattr(plain, kind), getattr(turned, kind))
    other = PairResampler(people, (people + 3) % 50, 40, seed=2).replicate(total)["sum"]
    assert (plain.people != other.people).any()


def test_the_three_kinds_weigh_pairs_as_the_module_says() -> None:
    seen: list[np.ndarray] = []

    def look(weights: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(weights)
        return {"n": weights.sum(axis=1).astype(float)}

    resampler = PairResampler([0, 0, 1, 2], [0, 1, 0, 3], 5, seed=0)
    resampler.replicate(look)
    people, mixed, impostors = seen
    draws = np.concatenate(list(resampler.draws()))
    np.testing.assert_array_equal(people[:, 0], draws[:, 0])
    np.testing.assert_array_equal(people[:, 1], draws[:, 0] * draws[:, 1])
    np.testing.assert_array_equal(people[:, 1], people[:, 2])  # the same two people, either way round
    np.testing.assert_array_equal(mixed[:, 0], draws[:, 0])
    np.testing.assert_array_equal(mixed[:, 1:], impostors[:, 1:])
    np.testing.assert_array_equal(impostors[:, 1], impostors[:, 2])  # one unit
    assert (impostors[:, 0] == 1).all()


def test_chunks_do_not_change_what_one_resample_is(monkeypatch: pytest.MonkeyPatch) -> None:
    people = np.arange(30)
    resampler = PairResampler(people, (people + 1) % 30, 64, seed=0)
    assert np.concatenate(list(resampler.draws())).shape == (64, 30)
    monkeypatch.setattr(pair_bootstrap, "THREADS", 1)
    first = resampler.replicate(total)["sum"].mixed
    monkeypatch.setattr(pair_bootstrap, "THREADS", 3)
    np.testing.assert_array_equal(first, resampler.replicate(total)["sum"].mixed)


def covered(first: np.ndarray, second: np.ndarray, effect: float, worlds: int) -> float:
    """How often the interval of a rate holds its true value 0.2, in worlds where people differ by `effect`."""
    from scipy.stats import norm

    people, hits = int(max(first.max(), second.max())) + 1, 0
    for world in range(worlds):
        rng = np.random.default_rng(world)
        own = rng.normal(size=people)
        both = np.where(first == second, np.sqrt(2) * own[first], own[first] + own[second])
        score = effect * both + np.sqrt(1 - 2 * effect**2) * rng.normal(size=len(first))
        interval = rate_interval(score > norm.isf(0.2), np.ones(len(first)), first, second, 200, world)
        assert interval is not None
        hits += interval[0] <= 0.2 <= interval[1]
    return hits / worlds


def test_coverage_of_a_sparse_impostor_list() -> None:
    people = np.random.default_rng(0).permutation(2000)
    assert 0.90 <= covered(people[:1000], people[1000:], 0.4, 150) <= 0.99


def test_coverage_of_all_against_all() -> None:
    first, second = np.triu_indices(60, 1)
    assert 0.87 <= covered(first, second, 0.3, 150) <= 0.99


def test_coverage_of_genuine_pairs_clustered_by_person() -> None:
    people = np.repeat(np.arange(200), 6)
    assert 0.89 <= covered(people, people, 0.6, 400) <= 0.99


def test_rate_interval_adds_up_pairs_of_the_same_people() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 20, 3000), 20 + rng.integers(0, 20, 3000)
    wrong = (rng.random(3000) < 0.1).astype(float)
    whole = rate_interval(wrong, np.ones(3000), first, second)
    doubled = rate_interval(np.tile(wrong, 2), np.ones(6000), np.tile(first, 2), np.tile(second, 2))
    assert whole == pytest.approx(doubled)
    assert rate_interval(wrong, np.zeros(3000), first, second) is None
    assert rate_interval([1, 0], [1, 1], [7, 7], [7, 7]) is None, "one person, drawn again and again, is no sample"
    assert rate_interval(np.zeros(3000), np.ones(3000), first, second) == (0.0, 0.0)


def test_undefined_resamples_give_no_interval() -> None:
    good, bad = np.ones(100), np.concatenate([np.ones(90), np.full(10, np.nan)])
    assert Replicates(good, good, good).interval(1.0) == (1.0, 1.0)
    assert Replicates(bad, good, good).interval(1.0) is None
    assert Replicates(good, good, good).interval(None) is None
    assert Replicates(*[np.array([])] * 3).interval(1.0) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="two people a pair"):
        PairResampler([0, 1], [0], 10, 0)
    with pytest.raises(UserError, match="two people a pair"):
        PairResampler([], [], 10, 0)
    with pytest.raises(UserError, match="-1 resamples"):
        PairResampler([0], [1], -1, 0)
    with pytest.raises(UserError, match="one length"):
        rate_interval([1], [1, 1], [0], [1])
