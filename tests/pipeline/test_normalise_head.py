"""`python -m pipeline.normalise_head` end to end: what it writes is what it measured; every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.images import write_png
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from facial_rec.embedder import load_embedder
from pipeline.normalise_head import Config, Measured, Strengths, main, mean_error, most_lost, normalisation


def made_face(person: int, photo: int) -> np.ndarray:
    """A coarse pattern that is the person's, with fine noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (14, 14, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 40, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    network = get_model("edgeface_tiny").requires_grad_(False)
    for key, parameter in network.named_parameters():
        if key.endswith("gamma"):
            parameter.uniform_(0.1, 0.5)
    torch.save(network.state_dict(), root / "tiny.pt")
    save_dsr(root / "dsr.pt", Dsr(preset("tiny")), {})
    for folder, people, photos in (("train", range(6), 4), ("val", range(10, 14), 3)):
        for person in people:
            for photo in range(photos):
                write_png(root / folder / f"p{person}" / f"{photo}.png", made_face(person, photo))
    (root / "tiny.json").write_text(json.dumps({"alpha": 0.6, "variant": "edgeface_tiny", "file": "tiny.pt"}))
    return Config(
        edgeface=str(root / "tiny.pt"),
        original=str(root / "tiny.pt"),
        dsr=str(root / "dsr.pt"),
        train_root=root / "train",
        val_root=root / "val",
        vlr_size=("16",),
        photos=3,
        hr_drop=1.0,
        out=root / "out",
    )


def test_the_written_network_is_the_best_that_was_tried(config: Config) -> None:
    path = main(config)
    described = json.loads(path.with_suffix(".json").read_text())
    made = described["normalisation"]
    assert described["alpha"] == 0.6, "what is known of its training is kept"
    assert described["file"] == "edgeface_finetuned.pth"
    assert len(made["tried"]) == 3 * 3 * 2
    chosen = next(one for one in made["tried"] if all(one[key] == value for key, value in made["chosen"].items()))
    assert chosen["eer"] == min(one["eer"] for one in made["tried"])
    assert mean_error(made["validation"]) == pytest.approx(chosen["eer"], abs=0.02)
    images = torch.rand(2, 3, 112, 112)
    one, other = (load_embedder(file)(images) for file in (path, path.with_suffix(".pt")))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_any_strength_the_network_stays_as_it_is(config: Config, tmp_path: Path) -> None:
    nothing = replace(config, centre=(0.0,), residual=(0.0,), within=(0.0,), out=tmp_path / "out")
    ours, theirs = (torch.load(path, weights_only=True) for path in (main(nothing), config.edgeface))
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs)


def test_the_guard_keeps_the_network_where_high_resolution_would_suffer(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.normalise_head.Guard.admits", lambda self, report: False)
    path = main(replace(config, out=tmp_path / "out"))
    chosen = json.loads(path.with_suffix(".json").read_text())["normalisation"]["chosen"]
    assert chosen == {"centre": 0.0, "residual": 0.0, "within": 0.0}


def test_no_protocol_may_lose_more_than_is_allowed(config: Config, tmp_path: Path) -> None:
    path = main(replace(config, out=tmp_path / "strict", residual=(0.0, 1.0, 2.0), tar_drop=0.0))
    chosen = json.loads(path.with_suffix(".json").read_text())["normalisation"]
    assert any(one["most_lost"] > 0 for one in chosen["tried"]), "or this shows nothing"
    strengths = chosen["chosen"].items()
    (taken,) = (one for one in chosen["tried"] if all(one[name] == value for name, value in strengths))
    assert taken["most_lost"] == 0.0


def test_the_most_lost_is_the_largest_fall_of_a_tar() -> None:
    before = {"hr-hr": {"tar": 0.9, "eer": 0.1}, "lr-lr@16": {"tar": 0.5, "eer": 0.1}}
    after = {"hr-hr": {"tar": 0.95, "eer": 0.3}, "lr-lr@16": {"tar": 0.375, "eer": 0.1}}
    assert most_lost(before, after) == 0.125
    assert most_lost(after, after) == 0.0


def test_normalisation_draws_the_resolutions_together() -> None:
    generator = torch.Generator().manual_seed(0)
    people = torch.arange(40).repeat_interleave(4)
    identity = torch.randn(40, 16, generator=generator)[people]
    blur = 1.5 * torch.randn(160, 1, generator=generator) * torch.nn.functional.one_hot(torch.tensor(3), 16)
    measured = Measured(identity, (identity + blur,), people, 16)
    matrix, offset = normalisation(measured, Strengths(0.0, 1.0, 0.0))
    before, after = (
        torch.cosine_similarity(*((view.double() - offset) @ m for view in (measured.high, measured.low[0]))).mean()
        for m in (torch.eye(16).double(), matrix)
    )
    assert after > before + 0.02
    assert float(offset.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"centre": ()}, "--centre : expected one or more numbers from 0 to 2"),
        ({"within": (-0.5,)}, r"--within -0\.5: expected"),
        ({"photos": 1}, "--photos must be at least 2, found 1"),
        ({"hr_drop": 2.0}, "--hr-drop must lie from 0 to 1"),
        ({"dsr": "nowhere.pt"}, r"nowhere\.pt is missing"),
        ({"edgeface": "nowhere.pth"}, r"nowhere\.pth"),
    ],
)
def test_bad_settings_are_refused(config: Config, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(replace(config, **changed))


def test_a_file_in_the_way_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file: give the folder"):
        main(replace(config, out=tmp_path / "file"))


def test_validation_people_of_one_photo_each_are_refused(config: Config, tmp_path: Path) -> None:
    for person in range(20, 23):
        write_png(tmp_path / "val" / f"p{person}" / "0.png", made_face(person, 0))
    with pytest.raises(UserError, match="no validation person has two photos"):
        main(replace(config, val_root=tmp_path / "val", out=tmp_path / "out"))
