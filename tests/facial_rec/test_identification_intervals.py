"""Figures of all resamples at once against the plain functions, resample by resample."""

from __future__ import annotations

import numpy as np
import pytest

from facial_rec import identification_intervals, identification_metrics
from facial_rec.bootstrap import resample_subjects
from facial_rec.identification_intervals import Share, dir_of_resamples, shares_of_resamples
from facial_rec.identification_metrics import Probes
from facial_rec.reliability import Support

FPIRS = {"strict": 0.02, "loose": 0.2, "all": 1.0}


def made_probes(seed: int, count: int, decimals: int | None) -> tuple[Probes, np.ndarray]:
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random(count) < 0.5, rng.geometric(0.7, count), 0)
    own = np.where(ranks > 0, rng.normal(0.5, 0.2, count), -np.inf)
    best = np.where(ranks == 1, own, np.maximum(own, -1) * (ranks > 0) + np.abs(rng.normal(0.3, 0.2, count)))
    if decimals is not None:
        best, own = best.round(decimals), own.round(decimals)
    return Probes(best, own, ranks), rng.integers(0, 30, count)


@pytest.mark.parametrize("decimals", [None, 1])
def test_every_resample_equals_the_plain_function(decimals: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification_intervals, "CHUNK", 7)
    probes, people = made_probes(0, 200, decimals)
    draws = resample_subjects(30, 40, seed=1)
    shares = {
        "rank1": Share(probes.ranks == 1, probes.mated, "misses"),
        "false": Share(probes.best >= 0.4, ~probes.mated, "hits"),
    }
    found = shares_of_resamples(shares, people, draws) | dir_of_resamples(probes, people, draws, FPIRS)
    for row, draw in enumerate(draws):
        weights = draw[people].astype(float)
        assert found["rank1"][row] == pytest.approx(identification_metrics.rank_k_rate(probes.ranks, 1, weights))
        assert found["false"][row] == pytest.approx(identification_metrics.fpir_at(probes, 0.4, weights))
        curve = identification_metrics.open_set_curve(probes, weights=weights)
        for name, fpir in FPIRS.items():
            assert found[name][row] == pytest.approx(identification_metrics.dir_at_fpir(curve, fpir), abs=1e-12)


def test_one_draw_of_everyone_gives_the_figure_itself() -> None:
    probes, people = made_probes(1, 300, 2)
    once = np.ones((1, 30), dtype=np.int64)
    curve = identification_metrics.open_set_curve(probes)
    for name, rates in dir_of_resamples(probes, people, once, FPIRS).items():
        assert rates.tolist() == pytest.approx([identification_metrics.dir_at_fpir(curve, FPIRS[name])])
    one = Share(probes.ranks == 1, probes.mated, "misses")
    assert shares_of_resamples({"r": one}, people, once)["r"].tolist() == pytest.approx([one.value()])


def test_resamples_without_a_kind_of_probe_are_undefined() -> None:
    probes = Probes(np.array([0.9, 0.2]), np.array([0.9, -np.inf]), np.array([1, 0]))
    draws, people = np.array([[2, 0], [0, 2], [1, 1]]), np.array([0, 1])
    assert np.isnan(dir_of_resamples(probes, people, draws, {"d": 1.0})["d"]).tolist() == [True, True, False]
    one = {"r": Share(probes.ranks == 1, probes.mated, "misses")}
    assert np.isnan(shares_of_resamples(one, people, draws)["r"]).tolist() == [False, True, False]
    mated = Probes(np.array([0.9]), np.array([0.9]), np.array([1]))
    assert np.isnan(dir_of_resamples(mated, np.array([0]), np.array([[1]]), {"d": 0.1})["d"]).all()


def test_no_resamples_give_no_rates() -> None:
    probes, people = made_probes(2, 20, None)
    none = resample_subjects(30, 0, seed=0)
    assert dir_of_resamples(probes, people, none, FPIRS)["all"].shape == (0,)
    assert shares_of_resamples({"r": Share(probes.mated, probes.mated, "none")}, people, none)["r"].shape == (0,)


def test_support_counts_the_errors() -> None:
    hit, among = np.array([True, True, False, False, True]), np.array([True, True, True, True, False])
    found = Share(hit, among, "misses", "probes not at rank 1", "mated probes")
    assert found.support == Support(2, 4, "probes not at rank 1 among 4 mated probes")
    assert Share(hit, among, "hits", "false positives", "probes").support == Support(
        2, 4, "false positives among 4 probes"
    )
    assert Share(hit, among, "none").support is None
    assert Share(hit, among & False, "hits").value() is None
