"""Identification figures against a brute-force count, with ties, weights and bad input."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from facial_rec import identification_metrics as metrics
from facial_rec.identification_metrics import Probes

INF = np.inf

every_kind = pytest.mark.parametrize("decimals", [None, 2, 1], ids=["distinct", "some-ties", "many-ties"])


def made_probes(seed: int, count: int = 200, decimals: int | None = None, people: int = 8) -> Probes:
    """Mated and non-mated probes against `people` enrolled ones; few `decimals` make many ties."""
    rng = np.random.default_rng(seed)
    table = rng.normal(0.1, 0.2, (count, people))
    own = np.where(rng.random(count) < 0.6, rng.integers(0, people, count), -1)
    mated = own >= 0
    table[mated, own[mated]] += 0.35
    table = table if decimals is None else table.round(decimals)
    right = np.where(mated, table[np.arange(count), own], -INF)
    return Probes(table.max(axis=1), right, metrics.subject_ranks(table, own))


def every_threshold(probes: Probes) -> list[float]:
    return [INF, *np.unique(np.concatenate([probes.best, probes.own[probes.mated]]))[::-1]]


@pytest.mark.parametrize("decimals", [None, 1])
def test_subject_ranks_equal_a_sort(decimals: int | None) -> None:
    rng = np.random.default_rng(12)
    scores = rng.random((50, 9)) if decimals is None else rng.random((50, 9)).round(decimals)
    own = rng.integers(0, 9, 50)
    for rank, row, column in zip(metrics.subject_ranks(scores, own), scores, own, strict=True):
        others = np.delete(row, column)
        assert rank == 1 + sum(other >= row[column] for other in others)


def test_ranks_of_probes_without_a_right_person() -> None:
    scores = np.array([[0.9, 0.1], [-np.inf, 0.3], [0.2, 0.7]])
    assert metrics.subject_ranks(scores, [-1, 0, 1]).tolist() == [0, 0, 1]


def test_the_same_answer_to_everything_earns_no_rank_1() -> None:
    ranks = metrics.subject_ranks(np.full((4, 5), 0.7), [0, 1, 2, 3])
    assert metrics.rank_k_rate(ranks, 1) == 0.0
    assert metrics.rank_k_rate(ranks, 5) == 1.0


def test_rank_k_rate() -> None:
    assert metrics.rank_k_rate([1, 2, 6, 0], 1) == pytest.approx(1 / 3)
    assert metrics.rank_k_rate([1, 2, 6, 0], 5) == pytest.approx(2 / 3)
    assert metrics.rank_k_rate([1, 2, 6, 0], 5, [0, 1, 1, 9]) == pytest.approx(1 / 2)
    assert metrics.rank_k_rate([0, 0], 1) is None


@pytest.mark.parametrize(
    ("scores", "own", "words"),
    [([[0.1, np.nan]], [0], "NaN"), ([[0.1, 0.2]], [0, 1], "Expected scores"), ([0.1], [0], "Expected scores")],
)
def test_subject_ranks_refuses(scores: list, own: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        metrics.subject_ranks(scores, own)


@every_kind
@pytest.mark.parametrize("most", [1, 3, 8, 50])
def test_cmc_is_every_rank_k_rate(decimals: int | None, most: int) -> None:
    ranks = made_probes(0, decimals=decimals).ranks
    weights = np.random.default_rng(1).integers(0, 4, len(ranks)).astype(float)
    for chosen in (None, weights):
        curve = metrics.cmc(ranks, most, chosen)
        assert curve is not None
        assert curve.tolist() == pytest.approx([metrics.rank_k_rate(ranks, k, chosen) for k in range(1, most + 1)])
    assert (np.diff(curve) >= -1e-12).all()


def test_cmc_without_mated_probes_is_none_and_needs_a_rank() -> None:
    assert metrics.cmc([0, 0]) is None
    assert metrics.cmc([1, 2, 0], 2, [0.0, 0.0, 1.0]) is None
    with pytest.raises(UserError, match="1 rank or more, found 0"):
        metrics.cmc([1], 0)


@every_kind
@pytest.mark.parametrize("k", [1, 3, None])
def test_error_rates_are_counts(decimals: int | None, k: int | None) -> None:
    probes = made_probes(2, decimals=decimals)
    for threshold in every_threshold(probes)[::7]:
        false = [best >= threshold for best, rank in zip(probes.best, probes.ranks, strict=True) if not rank]
        missed = [
            own < threshold or (k is not None and rank > k)
            for own, rank in zip(probes.own, probes.ranks, strict=True)
            if rank
        ]
        assert metrics.fpir_at(probes, threshold) == pytest.approx(np.mean(false))
        assert metrics.fnir_at(probes, threshold, k) == pytest.approx(np.mean(missed))


@every_kind
@pytest.mark.parametrize("k", [1, 3, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_open_set_curve_is_the_rates_of_every_threshold(decimals: int | None, k: int | None, weighted: bool) -> None:
    probes = made_probes(3, decimals=decimals)
    weights = np.random.default_rng(5).integers(0, 4, 200).astype(float) if weighted else None
    curve = metrics.open_set_curve(probes, k, weights)
    for threshold, fpir, fnir in zip(curve.thresholds, curve.fpir, curve.fnir, strict=True):
        assert fpir == pytest.approx(metrics.fpir_at(probes, threshold, weights), abs=1e-12)
        assert fnir == pytest.approx(metrics.fnir_at(probes, threshold, k, weights), abs=1e-12)
    assert (curve.fpir[0], curve.fnir[0], curve.fpir[-1]) == (0, 1, 1)
    rank_k = 1.0 if k is None else metrics.rank_k_rate(probes.ranks, k, weights)
    assert 1 - curve.fnir[-1] == pytest.approx(rank_k)


@every_kind
@pytest.mark.parametrize("fpir", [1.0, 0.3, 0.05, 0.01])
def test_dir_is_the_best_of_all_thresholds(decimals: int | None, fpir: float) -> None:
    probes = made_probes(4, decimals=decimals)
    curve = metrics.open_set_curve(probes)
    rates = [(metrics.fpir_at(probes, t), metrics.fnir_at(probes, t)) for t in every_threshold(probes)]
    assert metrics.dir_at_fpir(curve, fpir) == pytest.approx(max(1 - fnir for false, fnir in rates if false <= fpir))


def test_dir_counts_a_rate_that_is_exactly_the_target() -> None:
    strangers = np.linspace(0, 0.5, 1000)
    ranks = np.append(np.zeros(1000, int), [1, 1, 1])
    own = np.append(np.full(1000, -INF), [0.49951, 0.4998, 0.1])  # the best stranger scores 0.5, the next 0.4995
    probes = Probes(np.append(strangers, own[1000:]), own, ranks)
    assert metrics.dir_at_fpir(metrics.open_set_curve(probes), 1e-3) == pytest.approx(2 / 3)


def test_open_set_with_weights_is_that_of_repeated_probes() -> None:
    probes, weights = made_probes(6, decimals=2), np.random.default_rng(7).integers(0, 4, 200)
    repeated = Probes(probes.best.repeat(weights), probes.own.repeat(weights), probes.ranks.repeat(weights))
    for fpir in (0.3, 0.05):
        weighted = metrics.dir_at_fpir(metrics.open_set_curve(probes, weights=weights), fpir)
        assert weighted == pytest.approx(metrics.dir_at_fpir(metrics.open_set_curve(repeated), fpir))


def test_one_kind_of_probe_gives_none_and_no_curve() -> None:
    mated, strangers = (
        Probes(*np.array([[0.5], [0.5]]), np.array([1])),
        Probes(*np.array([[0.5], [-INF]]), np.array([0])),
    )
    assert metrics.fpir_at(mated, 0.3) is None
    assert metrics.fnir_at(strangers, 0.3) is None
    assert metrics.fnir_at(mated, 0.3) == 0.0
    assert metrics.fpir_at(strangers, 0.3) == 1.0
    for probes in (mated, strangers):
        with pytest.raises(UserError, match="mated and non-mated"):
            metrics.open_set_curve(probes)


@pytest.mark.parametrize(
    ("best", "own", "ranks", "words"),
    [
        ([np.nan], [0.1], [0], "NaN"),
        ([0.1], [np.nan], [1], "NaN"),
        ([], [], [], "No probes"),
        ([0.1, 0.2], [0.1], [1], "one length"),
        ([[0.1]], [[0.1]], [[1]], "one length"),
    ],
)
def test_bad_probes_are_refused(best: list, own: list, ranks: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Probes(np.array(best), np.array(own), np.array(ranks))
    Probes(np.array([0.1]), np.array([np.nan]), np.array([0]))  # a non-mated probe has no own score


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    for figure in (metrics.rank_k_rate, metrics.cmc):
        with pytest.raises(UserError, match=r"[Ww]eights"):
            figure([1, 2], 1, weights)


@pytest.mark.parametrize("fpir", [0.0, -1.0, 2.0, float("nan")])
def test_dir_refuses_a_rate_that_is_none(fpir: float) -> None:
    with pytest.raises(UserError, match="false positive identification rate"):
        metrics.dir_at_fpir(metrics.open_set_curve(made_probes(8)), fpir)


def test_a_million_probes() -> None:
    rng = np.random.default_rng(9)
    ranks = np.where(rng.random(1_000_000) < 0.5, rng.geometric(0.8, 1_000_000), 0)
    own = np.where(ranks > 0, rng.normal(0.6, 0.1, 1_000_000), -INF)
    probes = Probes(np.maximum(own, rng.normal(0.3, 0.1, 1_000_000)), own, ranks)
    assert metrics.dir_at_fpir(metrics.open_set_curve(probes), 1.0) == pytest.approx(0.8, abs=0.01)
    assert metrics.cmc(ranks)[49] == pytest.approx(1.0)
