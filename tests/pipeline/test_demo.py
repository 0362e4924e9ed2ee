"""The demo end to end, at a size that takes seconds: with recogniser and DSR at hand, and without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from common.files import read_json, sha256_of
from common.images import decode_image
from dsr.checkpoint import load_dsr
from facial_rec.edgeface import get_model
from pipeline import demo
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE

SMALL = {"identities": 6, "images": 3, "epochs": 1, "preset": "tiny", "recogniser_steps": 4}


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights in checkpoints/, of the repository and of the working directory."""
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)


def test_demo_recognises_with_the_pair_in_checkpoints_and_trains_beside_it(
    tmp_path: Path, edgeface: Path, dsr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    edgeface.rename(tmp_path / "checkpoints" / DEFAULT_EDGEFACE)
    dsr = dsr.rename(tmp_path / "checkpoints" / DEFAULT_DSR)
    page = demo.main(demo.Config(out=tmp_path / "demo", **SMALL)).read_text(encoding="utf-8")
    assert "training a small one" not in capsys.readouterr().out
    for words in (
        "% with ready-made DSR (dsr.pt), ",
        "% with DSR trained here and ",
        "% with bicubic enlargement; accuracy",
    ):
        assert words in page
    assert page.count('>ready-made DSR (dsr.pt)</th><th scope="col">DSR trained here</th>') == 2
    ready, trained = (read_json(tmp_path / "demo" / f"evaluation_{name}.json") for name in ("ready", "trained"))
    assert ready["weights"]["dsr.pt"] == sha256_of(dsr)
    assert trained["weights"]["dsr.pt"] == sha256_of(tmp_path / "demo" / "dsr" / "dsr.pt")
    assert all(digest in page for result in (ready, trained) for digest in result["weights"].values())
    for method in ("hr", "bicubic"):
        assert ready["methods"][method] == trained["methods"][method], "one column for both"
    samples = decode_image((tmp_path / "demo" / "samples.png").read_bytes(), "samples.png")
    assert samples.shape[1] == 5 * 112, "input, bicubic, both DSR, true image"


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

    demo._check_or_clear(demo.Config(out=tmp_path / "demo", **{**SMALL, "threshold": 0.4}))
    assert (tmp_path / "demo" / "dsr" / "dsr.pt").stat().st_mtime_ns == before, "no step that is kept depends on it"

    changed = demo.main(demo.Config(out=tmp_path / "demo", **{**SMALL, "seed": 1}))
    assert changed.read_text(encoding="utf-8") != page, "other settings start over"


def test_a_dsr_trained_against_one_recogniser_is_not_reported_with_another(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo.main(demo.Config(out=out, **SMALL))
    first = load_dsr(out / "dsr" / "dsr.pt")[1].metadata["settings"]["edgeface_sha256"]
    torch.manual_seed(1)
    (tmp_path / "checkpoints").mkdir()
    official = tmp_path / "checkpoints" / demo.OFFICIAL[0]  # one has come to hand since
    torch.save(get_model("edgeface_tiny").state_dict(), official)
    demo.main(demo.Config(out=out, **SMALL))
    second = load_dsr(out / "dsr" / "dsr.pt")[1].metadata["settings"]["edgeface_sha256"]
    assert second == sha256_of(official) != first


def test_demo_never_clears_a_folder_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("keep me")
    with pytest.raises(UserError, match="something else than a demo"):
        demo.main(demo.Config(out=tmp_path / "letters", **SMALL))
    assert (tmp_path / "letters" / "love.txt").read_text() == "keep me"


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("seed", [0, 1])
def test_a_demo_killed_while_it_clears_an_old_one_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With the new settings and with the old ones, of which only a part is still there."""
    out = tmp_path / "demo"
    demo._check_or_clear(demo.Config(out=out, **SMALL))
    (out / "dataset").mkdir()
    (out / "dataset" / "half").write_text("of a set")

    def killed(folder: Path, *_: Any) -> None:
        (Path(folder) / "demo.json").unlink(missing_ok=True)  # the order in a folder is the file system's
        raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(shutil, "rmtree", killed)
        with pytest.raises(Killed):
            demo._check_or_clear(demo.Config(out=out, **{**SMALL, "seed": 1}))
    demo._check_or_clear(demo.Config(out=out, **{**SMALL, "seed": seed}))
    assert [path.name for path in out.iterdir()] == ["demo.json"]
    assert read_json(out / "demo.json")["seed"] == str(seed)


@pytest.mark.parametrize("what", ["edgeface", "dsr"])
def test_demo_names_missing_weights(tmp_path: Path, what: str) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt is missing"):
        demo.main(demo.Config(out=tmp_path / "demo", **{what: "nowhere.pt"}, **SMALL))
