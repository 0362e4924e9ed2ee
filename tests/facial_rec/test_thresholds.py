"""The threshold file: what is written is read again, damage is named, and decisions follow the thresholds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from facial_rec.thresholds import (
    DEFAULT_THRESHOLD,
    DevelopmentSet,
    MadeFor,
    SizeThresholds,
    Thresholds,
    decide_without_file,
)

TINY = SizeThresholds(8, "dsr", None, None, reason="2 expected false matches: fewer than 3")
SMALL = SizeThresholds(12, "dsr", 0.50, 0.20, 8.0)
MIDDLE = SizeThresholds(16, "dsr", 0.40, 0.30, 6.0)
LARGE = SizeThresholds(32, "bicubic", 0.30, 0.30)
HIGH = SizeThresholds(None, "hr", 0.25, 0.25)
MADE = Thresholds(
    made_for=MadeFor("edgeface_xxs", "ab" * 32, "cd" * 32),
    protocol="lr-hr",
    degradation="canonical",
    wanted_fmr=1e-3,
    wanted_fnmr=0.05,
    development_set=DevelopmentSet("dataset/val_processed", "ef" * 32, 60, 1445),
    date="2026-11-22T09:30:00+00:00",
    command="python -m pipeline.calibrate",
    sizes=(TINY, SMALL, MIDDLE, LARGE, HIGH),
    quality_measure="norm",
)


def test_a_saved_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "thresholds.json"
    MADE.save(path)
    assert Thresholds.load(path) == MADE
    assert json.loads(path.read_text())["format"] == "dsr-edgeface-thresholds-1"
    assert [file.name for file in path.parent.iterdir()] == ["thresholds.json"], "nothing temporary is left behind"


def changed(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "thresholds.json"
    MADE.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format="dsr-edgeface-thresholds-9"), "key 'format': expected 'dsr-edgeface-thresholds-1'"),
        (lambda c: c.pop("format"), "key 'format' is missing"),
        (lambda c: c.pop("made_for"), "key 'made_for' is missing"),
        (lambda c: c["made_for"].pop("dsr_sha256"), "key 'made_for.dsr_sha256' is missing"),
        (lambda c: c["development_set"].update(people=0), "key 'development_set.people': expected a whole number"),
        (lambda c: c.update(wanted_fmr=2), "key 'wanted_fmr': expected a number from 0 to 1, found 2"),
        (lambda c: c.update(quality_measure="mood"), "key 'quality_measure': expected one of norm, agreement"),
        (lambda c: c.update(sizes=[]), "key 'sizes': expected a list with at least one size"),
        (lambda c: c["sizes"].reverse(), "key 'sizes': expected rising sizes and then null"),
        (lambda c: c["sizes"].pop(), "key 'sizes': expected rising sizes and then null"),
        (lambda c: c["sizes"][1].update(size=12.0), "key 'sizes[1].size': expected a whole number from 1, found 12.0"),
        (lambda c: c["sizes"][1].update(accept=1.5), "key 'sizes[1].accept': expected a number from -1 to 1"),
        (lambda c: c["sizes"][1].update(accept=float("nan")), "key 'sizes[1].accept': expected a number"),
        (lambda c: c["sizes"][1].update(reject=0.9), "key 'sizes[1].reject': expected at most `accept` (0.5)"),
        (lambda c: c["sizes"][0].update(reason=None), "key 'sizes[0].reason': expected a sentence"),
        (lambda c: c["sizes"][1].update(method="magic"), "key 'sizes[1].method': expected bicubic or dsr"),
        (lambda c: c["sizes"][4].update(method="dsr"), "key 'sizes[4].method': expected hr"),
        (lambda c: c["sizes"].insert(0, 3), "'sizes[0]' is no JSON object"),
    ],
)
def test_a_damaged_file_is_refused_by_key(tmp_path: Path, change: Any, words: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(UserError) as refusal:
        Thresholds.load(path)
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(("text", "words"), [("", "not valid JSON"), ("[]", "no JSON object"), ("{", "not valid JSON")])
def test_a_file_that_is_no_threshold_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        Thresholds.load(path)


def test_other_weights_are_refused() -> None:
    MADE.check_made_for("ab" * 32, "cd" * 32)
    with pytest.raises(UserError, match=r"another recogniser \(edgeface_xxs\): expected sha256 abababababab"):
        MADE.check_made_for("00" * 32, "cd" * 32)
    with pytest.raises(UserError, match=r"another DSR: expected sha256 cdcdcdcdcdcd\.\.\., found none"):
        MADE.check_made_for("ab" * 32, None)


def test_thresholds_between_calibrated_sizes() -> None:
    assert MADE.for_size(16) == MIDDLE
    between = MADE.for_size(13)
    assert between.size == 13
    assert (between.accept, between.reject, between.quality_cutoff) == pytest.approx((0.475, 0.225, 7.5))
    mixed = MADE.for_size(24)  # dsr below, bicubic above: nothing to interpolate between
    assert (mixed.size, mixed.method, mixed.accept) == (24, "dsr", 0.40)
    assert MADE.for_size(10).accept is None, "the size below has no threshold"
    for size in (33, 112, None):
        assert (MADE.for_size(size).accept, MADE.for_size(size).method) == (0.25, "hr")
    assert MADE.for_size(6).accept is None
    with pytest.raises(UserError, match="0 pixels"):
        MADE.for_size(0)


@pytest.mark.parametrize(
    ("score", "size", "quality", "answer", "reason"),
    [
        (0.40, 16, None, "same", "at least 0.400 (16 pixels)"),
        (0.3999, 16, 6.0, "cannot tell", "lies from 0.300 to 0.400"),
        (0.30, 16, None, "cannot tell", "lies from 0.300 to 0.400"),
        (0.2999, 16, None, "different", "below 0.300"),
        (0.99, 16, 5.9, "cannot tell", "norm 5.900 is below 6.000"),
        (0.30, 32, None, "same", "at least 0.300"),
        (0.2999, 32, 0.1, "different", "below 0.300"),
        (0.99, 8, 100.0, "cannot tell", "No threshold for 8 pixels: 2 expected false matches"),
        (0.99, 7, None, "cannot tell", "the smallest calibrated size is 8 pixels"),
        (0.25, None, None, "same", "high resolution"),
        (-1.0, 112, None, "different", "112 pixels"),
    ],
)
def test_decisions(score: float, size: int | None, quality: float | None, answer: str, reason: str) -> None:
    decision = MADE.decide(score, size, quality)
    assert decision.answer == answer
    assert reason in decision.reason
    assert decision.accepted == (answer == "same")


def test_without_a_reject_threshold_nobody_is_called_different() -> None:
    only_accept = SizeThresholds(None, "hr", 0.4, None, reason="1 expected false non-match: fewer than 3")
    made = Thresholds(**{**MADE.__dict__, "sizes": (only_accept,)})
    assert made.decide(0.4, 20).answer == "same"
    assert made.decide(-1.0, None).answer == "cannot tell"


def test_nan_is_refused() -> None:
    for score, quality in ((float("nan"), None), (0.5, float("nan"))):
        with pytest.raises(UserError, match="NaN"):
            MADE.decide(score, 16, quality)
    with pytest.raises(UserError, match="NaN"):
        decide_without_file(float("nan"))


def test_without_a_file_one_threshold_decides() -> None:
    assert DEFAULT_THRESHOLD == 0.35
    assert decide_without_file(0.35).answer == "same"
    assert decide_without_file(0.3499).answer == "different"
    assert decide_without_file(0.3499, threshold=0.3).answer == "same"


def test_reading_thresholds_imports_no_torch() -> None:
    code = "import sys, facial_rec.thresholds, facial_rec.risk_coverage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
