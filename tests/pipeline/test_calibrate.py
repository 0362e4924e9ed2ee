"""The command from images to a threshold file that recognition can read, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.files import read_json, sha256_of
from common.images import write_png
from facial_rec.thresholds import SizeThresholds, Thresholds
from pipeline.calibrate import Config, Scored, choose_view, main, size_thresholds
from pipeline.calibration import Calibrated, Wanted, calibrate_scores
from pipeline.confidence import Refusal
from pipeline.degradations import View
from pipeline.development_set import development_pairs
from pipeline.report_record import read_records


@pytest.fixture
def cfg(tmp_path: Path, edgeface: Path, dsr: Path) -> Config:
    root = tmp_path / "faces"
    rng = np.random.default_rng(0)
    for person in range(12):
        pattern = rng.integers(30, 220, (7, 7, 3)).repeat(16, 0).repeat(16, 1)
        for photo in range(4):
            face = (pattern + rng.normal(0, 40, pattern.shape)).clip(0, 255).astype(np.uint8)
            write_png(root / f"p{person}" / f"p{person}_{photo}.png", face)
    return Config(
        images=root,
        edgeface=str(edgeface),
        dsr=str(dsr),
        vlr_size=(16, 8),
        fmr=0.05,
        fnmr=0.1,
        out=tmp_path / "thresholds.json",
        json=tmp_path / "record.json",
        cache=tmp_path / "cache.sqlite",
        bootstrap=40,
    )


def test_end_to_end(cfg: Config, edgeface: Path, dsr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(cfg)
    read = Thresholds.load(cfg.out)
    assert read == made
    read.check_made_for(sha256_of(edgeface), sha256_of(dsr))
    assert [row.size for row in read.sizes] == [8, 16, None]
    assert [row.method for row in read.sizes][-1] == "hr"
    assert (read.protocol, read.wanted_fmr, read.development_set.people) == ("lr-hr", 0.05, 12)
    assert "--vlr-size 16 8" in read.command
    assert all(-1 <= row.reject <= row.accept <= 1 for row in read.sizes if row.accept and row.reject)
    printed = capsys.readouterr().out
    for words in ("48 images of 12 people, 72 genuine and 1,056 impostor pairs", "8 bicubic", "HR", "FMR at 0.35"):
        assert words in printed
    assert "In brackets: 95 % intervals" in printed


def test_the_record_is_one_the_report_reads(cfg: Config) -> None:
    main(cfg)
    record = read_json(cfg.json or Path())
    entries = record["calibration"]
    assert [entry["method"] for entry in entries] == ["bicubic", "dsr"]
    assert [row["size"] for row in entries[0]["sizes"]] == [8, 16, None]
    for entry in entries:
        for row in entry["sizes"]:
            assert row["fmr"] is None or row["fmr"] <= 0.05
            assert {"fmr_at_default", "fnmr_at_default", "withheld", "few_errors"} <= set(row)
    used = [row for entry in entries for row in entry["sizes"] if row["method_in_use"] == entry["method"]]
    assert all(row["risk_coverage"]["coverage"][-1] == pytest.approx(1) for row in used)
    measures = [one["measure"] for entry in entries for one in entry["measures"]]
    assert {"margin", "norm"} <= set(measures)
    assert len(read_records([cfg.json or Path()]).sections["calibration"]) == 2


def test_without_dsr_and_with_both_sides_low(cfg: Config, edgeface: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(replace(cfg, dsr="none", protocol="lr-lr", vlr_size=(16,), json=None, bootstrap=0))
    assert [row.method for row in made.sizes] == ["bicubic", "hr"]
    made.check_made_for(sha256_of(edgeface), None)
    assert made.quality_measure is None, "without intervals nothing is shown to help"
    assert "In brackets" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_file(cfg: Config) -> None:
    first, second = main(cfg), main(cfg)
    assert replace(first, date="") == replace(second, date="")


def test_bicubic_is_used_only_where_it_is_better_beyond_doubt() -> None:
    rng = np.random.default_rng(0)
    pairs = development_pairs([f"p{n // 6:02d}" for n in range(180)])
    faces = rng.normal(size=(30, 64))[pairs.people]
    wanted = Wanted(fmr=0.01, bootstrap=100)

    def used(noise_of_dsr: float, noise_of_bicubic: float) -> str:
        noise = {"hr": 0.5, "dsr": noise_of_dsr, "bicubic": noise_of_bicubic}
        vectors = {
            View(method, None if method == "hr" else 16): faces + rng.normal(0, level, faces.shape)
            for method, level in noise.items()
        }
        scored = Scored(pairs, vectors, "lr-hr")
        calibrated = {view: calibrate_scores(scored.scores(view), pairs, wanted) for view in vectors}
        return choose_view(scored, calibrated, 16, wanted).method

    assert used(1.0, 3.0) == "dsr"
    assert used(3.0, 1.0) == "bicubic"
    assert used(2.0, 2.0) == "dsr"


def test_a_cutoff_is_stored_only_where_it_helps() -> None:
    calibrated = Calibrated(0.4, 0.2, None, {})
    helps = Refusal(cutoff=7.0, refused=0.05, risk=0.1, gain=0.02, gain_ci95=(0.01, 0.03))
    assert size_thresholds(View("dsr", 16), calibrated, helps) == SizeThresholds(16, "dsr", 0.4, 0.2, 7.0)
    for refusal in (None, replace(helps, gain_ci95=(-0.01, 0.05)), replace(helps, gain_ci95=None)):
        assert size_thresholds(View("dsr", 16), calibrated, refusal).quality_cutoff is None


def test_quality_of_a_pair_is_its_probes() -> None:
    pairs = development_pairs(["a", "a", "b"])
    vectors = {
        View("hr"): np.eye(3),
        View("bicubic", 16): np.diag([1.0, 2.0, 3.0]),
        View("dsr", 16): np.array([[4.0, 0, 0], [3, 4, 0], [0, 0, 6]]),
    }
    one_side, both = Scored(pairs, vectors, "lr-hr"), Scored(pairs, vectors, "lr-lr")
    lengths, agreement = np.array([4.0, 5.0, 6.0]), np.array([1.0, 0.8, 1.0])
    view = View("dsr", 16)
    assert one_side.quality("norm", view) == pytest.approx(lengths[pairs.first])
    assert one_side.quality("agreement", view) == pytest.approx(agreement[pairs.first])
    lower = np.minimum(agreement[pairs.first], agreement[pairs.second])
    assert both.quality("agreement", view) == pytest.approx(lower)
    assert one_side.quality("agreement", View("hr")) is None


def test_too_few_people_leave_sizes_without_threshold(cfg: Config, capsys: pytest.CaptureFixture[str]) -> None:
    made = main(replace(cfg, fmr=0.001, bootstrap=0))
    assert all(row.accept is None and row.reason for row in made.sizes)
    assert made.decide(0.99, 16).answer == "cannot tell"
    assert Thresholds.load(cfg.out) == made
    assert "fewer than 3" in capsys.readouterr().out


def test_lfw_is_refused_before_anything_is_computed(cfg: Config, tmp_path: Path) -> None:
    assert cfg.images is not None
    cfg.images.rename(tmp_path / "lfw_112")
    with pytest.raises(UserError, match="looks like LFW"):
        main(replace(cfg, images=tmp_path / "lfw_112"))
    assert not cfg.out.exists()


def test_training_faces_are_warned_of(cfg: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cfg.images is not None
    cfg.images.rename(tmp_path / "train_processed")
    main(replace(cfg, images=tmp_path / "train_processed", bootstrap=0, json=None))
    assert "looks like the training split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vlr_size": ()}, "at least one size"),
        ({"vlr_size": (16, 16)}, "each once"),
        ({"vlr_size": (7,)}, "7 pixels: expected 8 to 64"),
        ({"refuse": 0.0}, "--refuse 0.0"),
        ({"fmr": 2.0}, "--fmr 2.0"),
        ({"bootstrap": -1}, "--bootstrap -1"),
        ({"images": Path("absent")}, "absent does not exist"),
    ],
)
def test_refusals(cfg: Config, change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(cfg, **change))
