"""Judged figures, intervals and differences of plain cases, and how tables show them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facial_rec import identification_metrics
from facial_rec.identification_metrics import dir_at_fpir, open_set_curve
from facial_rec.tables import judged
from pipeline.identification import Matches
from pipeline.identification_record import (
    Resampling,
    cmc_record,
    measure_closed_set,
    measure_open_set,
    open_set_record,
)


def made_matches(seed: int, mated: int, nonmated: int, miss: float = 0.2, shift: float = 0.0) -> Matches:
    rng = np.random.default_rng(seed)
    ranks = np.append(np.where(rng.random(mated) < miss, rng.integers(2, 80, mated), 1), np.zeros(nonmated, int))
    own = np.append(rng.normal(0.6 + shift, 0.15, mated), np.full(nonmated, -np.inf))
    scores = np.where(ranks == 1, own, np.maximum(own, rng.normal(0.3, 0.1, mated + nonmated)))
    subjects = np.append(rng.integers(0, 40, mated), np.arange(40, 40 + nonmated)).astype(str)
    return Matches(subjects, subjects, scores, own, ranks)


def test_closed_set_figures_are_the_plain_ones() -> None:
    matches = made_matches(0, 400, 0)
    record = measure_closed_set(matches, Resampling.of(matches, 200, 0)).record()
    for k in (1, 5, 10):
        rate = record["figures"][f"rank{k}"]
        assert rate == pytest.approx(identification_metrics.rank_k_rate(matches.ranks, k))
        low, high = record["figures"][f"rank{k}_ci95"]
        assert 0 <= low < rate < high <= 1
    assert record["withheld"] == record["few_errors"] == {}


def test_open_set_figures_are_the_plain_ones() -> None:
    matches = made_matches(1, 500, 4000)
    figures = measure_open_set(matches, 0.35, Resampling.of(matches, 100, 0)).record()["figures"]
    curve = open_set_curve(matches.probes)
    assert figures["dir@fpir=1e-2"] == pytest.approx(dir_at_fpir(curve, 1e-2))
    assert figures["dir@fpir=1e-3"] == pytest.approx(dir_at_fpir(curve, 1e-3))
    assert figures["fpir@threshold"] == pytest.approx(identification_metrics.fpir_at(matches.probes, 0.35))
    assert figures["fnir@threshold"] == pytest.approx(identification_metrics.fnir_at(matches.probes, 0.35))
    for name in ("dir@fpir=1e-2", "dir@fpir=1e-3", "rank1", "fpir@threshold", "fnir@threshold"):
        low, high = figures[f"{name}_ci95"]
        assert 0 <= low <= figures[name] <= high <= 1


@pytest.mark.parametrize(("nonmated", "state"), [(290, "withheld"), (310, "few"), (3000, "whole")])
def test_dir_stands_on_the_expected_false_positives(nonmated: int, state: str) -> None:
    matches = made_matches(2, 1000, nonmated)
    record = measure_open_set(matches, 0.35, Resampling.of(matches, 20, 0)).record()
    if state == "withheld":
        assert record["figures"]["dir@fpir=1e-2"] is record["figures"]["dir@fpir=1e-2_ci95"] is None
        assert "2.9 false positives expected among 290 non-mated" in record["withheld"]["dir@fpir=1e-2"]["reason"]
    else:
        assert record["few_errors"].get("dir@fpir=1e-2") == (pytest.approx(3.1) if state == "few" else None)


def test_ranks_stand_on_the_probes_not_identified() -> None:
    ranks = np.array([1] * 90 + [3] * 8 + [20] * 2)
    subjects = np.array([f"p{index % 20}" for index in range(100)])
    matches = Matches(subjects, subjects, np.ones(100), np.ones(100), ranks)
    record = measure_closed_set(matches, Resampling.of(matches, 50, 0)).record()
    assert record["few_errors"] == {"rank1": 10}
    assert record["withheld"].keys() == {"rank5", "rank10"}
    assert record["withheld"]["rank5"]["errors"] == 2
    assert record["figures"]["rank5"] is record["figures"]["rank5_ci95"] is None


def test_differences_are_paired() -> None:
    base, ours = made_matches(3, 600, 3000), made_matches(3, 600, 3000, shift=0.05)
    resampling = Resampling.of(base, 200, 0)
    measured = [measure_open_set(matches, 0.35, resampling) for matches in (base, ours)]
    gap = measured[1].minus(measured[0])
    figures = [one.record()["figures"] for one in measured]
    assert gap["fnir@threshold"] == pytest.approx(figures[1]["fnir@threshold"] - figures[0]["fnir@threshold"])
    assert gap["rank1"] == 0
    assert gap["rank1_ci95"] == (0, 0)  # the same probes in the same resamples
    low, high = gap["fnir@threshold_ci95"]
    assert low < gap["fnir@threshold"] < high < 0
    own = figures[1]["fnir@threshold_ci95"]
    assert high - low < own[1] - own[0]


def test_a_difference_to_a_withheld_figure_is_none() -> None:
    matches = made_matches(4, 300, 0)
    perfect = Matches(matches.subjects, matches.subjects, np.ones(300), np.ones(300), np.ones(300, int))
    resampling = Resampling.of(matches, 20, 0)
    gap = measure_closed_set(perfect, resampling).minus(measure_closed_set(matches, resampling))
    assert gap["rank1"] is gap["rank1_ci95"] is None


def test_without_resamples_there_are_no_intervals() -> None:
    matches = made_matches(5, 300, 400)
    record = measure_open_set(matches, 0.35, Resampling.of(matches, 0, 0)).record()
    assert not [name for name in record["figures"] if name.endswith("_ci95")]


def test_without_strangers_there_is_no_open_set() -> None:
    matches = made_matches(6, 300, 0)
    record = measure_open_set(matches, 0.35, Resampling.of(matches, 10, 0)).record()
    assert record["figures"]["dir@fpir=1e-2"] is record["figures"]["fpir@threshold"] is None
    assert "dir@fpir=1e-2" not in record["withheld"]
    assert open_set_record(matches) is None
    strangers = made_matches(6, 0, 30)
    assert open_set_record(strangers) is cmc_record(strangers) is None


def test_curves_are_short_and_fit_json() -> None:
    matches = made_matches(7, 3000, 3000)
    cmc, open_set = cmc_record(matches), open_set_record(matches)
    assert cmc is not None
    assert open_set is not None
    assert cmc["rank"] == list(range(1, 51))
    assert cmc["rate"][0] == pytest.approx(identification_metrics.rank_k_rate(matches.ranks, 1), abs=1e-8)
    assert len(open_set["fpir"]) == len(open_set["fnir"]) <= 300
    json.dumps([cmc, open_set], allow_nan=False)


def test_cells_bound_what_is_withheld() -> None:
    withheld = {"reason": "", "errors": 0, "trials": 9, "upper95": 0.02}
    record = {
        "figures": {"rank1": 0.5, "rank5": None, "fpir@threshold": None, "fnir@threshold": 0.1},
        "withheld": {"rank5": withheld, "fpir@threshold": withheld},
        "few_errors": {"fnir@threshold": 4},
    }
    assert [judged(record, name) for name in record["figures"]] == ["50.00", "> 98.00", "< 2.00", "10.00*"]
