"""The demo end to end, at a size that takes seconds: with a recogniser at hand, and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.files import sha256_of
from dsr.checkpoint import load_dsr
from facial_rec.edgeface import get_model
from pipeline import demo

SMALL = {"identities": 6, "images": 3, "epochs": 1, "preset": "tiny", "recogniser_steps": 4}


@pytest.fixture
def no_official(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "OFFICIAL", ())


@pytest.mark.usefixtures("no_official")
def test_demo_trains_a_recogniser_where_none_is_at_hand_and_leaves_a_self_contained_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = demo.main(demo.Config(out=tmp_path / "demo", **SMALL))
    page = report.read_text(encoding="utf-8")
    assert "edgeface_tiny" in page
    assert "bicubic" in page
    assert "rejecting everybody would score" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http://" not in page
    assert "https://" not in page
    assert "training a small one" in capsys.readouterr().out

    before = (tmp_path / "demo" / "dsr" / "dsr.pt").stat().st_mtime_ns
    demo.main(demo.Config(out=tmp_path / "demo", **SMALL))
    assert (tmp_path / "demo" / "dsr" / "dsr.pt").stat().st_mtime_ns == before, "a second demo repeats no training"

    changed = demo.main(demo.Config(out=tmp_path / "demo", **{**SMALL, "seed": 1}))
    assert changed.read_text(encoding="utf-8") != page, "other settings start over"


@pytest.mark.usefixtures("no_official")
def test_a_dsr_trained_against_one_recogniser_is_not_reported_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    demo.main(demo.Config(out=out, **SMALL))
    first = load_dsr(out / "dsr" / "dsr.pt")[1].metadata["settings"]["edgeface_sha256"]
    torch.manual_seed(1)
    torch.save(get_model("edgeface_tiny").state_dict(), tmp_path / "official.pt")
    monkeypatch.setattr(demo, "OFFICIAL", (str(tmp_path / "official"),))  # one has come to hand since
    demo.main(demo.Config(out=out, **SMALL))
    second = load_dsr(out / "dsr" / "dsr.pt")[1].metadata["settings"]["edgeface_sha256"]
    assert second == sha256_of(tmp_path / "official.pt") != first


def test_demo_never_clears_a_folder_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("keep me")
    with pytest.raises(UserError, match="something else than a demo"):
        demo.main(demo.Config(out=tmp_path / "letters", **SMALL))
    assert (tmp_path / "letters" / "love.txt").read_text() == "keep me"


def test_demo_names_a_missing_recogniser(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt is missing"):
        demo.main(demo.Config(out=tmp_path / "demo", edgeface="nowhere.pt", **SMALL))
