"""`python -m facial_rec.train_landmarks`, with a detector that sees every face's landmarks in the same place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.images import RgbImage, decode_image
from common.runlog import read_records
from facial_rec import train_landmarks
from facial_rec.alignment import ARCFACE_TEMPLATE
from facial_rec.detector import DetectedFace
from facial_rec.faceset import FaceSet
from facial_rec.landmark_refiner import LandmarkRefiner
from facial_rec.landmark_training import fresh_state, landmark_errors, landmark_loss, train_step
from facial_rec.train_landmarks import Config, main

BORDERS = {176: (1.0, 32), 168: (1.5, 0), 224: (2.0, 0), 352: (2.0, 32)}


class Stub:
    """YuNet that finds the template in every picture of a face."""

    name = "stub"

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        scale, border = BORDERS[image.shape[0]]
        points = (ARCFACE_TEMPLATE + border + 0.5) * scale - 0.5
        return [DetectedFace(np.zeros(4, np.float32), points.astype(np.float32), 0.9)]


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_landmarks, "load_detector", lambda *_: Stub())


@pytest.fixture
def config(training_faces: Path, tmp_path: Path) -> Config:
    return Config(
        train_root=training_faces / "train",
        val_root=training_faces / "val",
        out=tmp_path / "run",
        steps=6,
        batch_size=4,
        warmup_steps=2,
        log_every=2,
        about="made-up faces",
    )


def records(out: Path) -> list[dict[str, Any]]:
    return [{**record, "seconds": 0} for record in read_records(out / "metrics.jsonl")]


def test_ten_steps_lower_the_loss() -> None:
    state, generator = fresh_state(0, 0.0), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, 64, 64), generator=generator, dtype=torch.uint8)
    points = torch.rand(8, 5, 2, generator=generator)
    losses = [train_step(state, pixels, points, 1e-3) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]
    assert state.step == 10


def test_loss_and_error_against_numpy() -> None:
    found, expected = (torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    eyes = 35.2376 / 112
    away = np.abs(found.numpy() - expected.numpy()) / eyes
    bent = np.where(away < 0.02, away**2 / 0.04, away - 0.01)
    assert float(landmark_loss(found, expected)) == pytest.approx(bent.mean(), rel=1e-4)
    distances = np.hypot(*np.moveaxis(found.numpy() - expected.numpy(), 2, 0)).mean(axis=1) / eyes
    np.testing.assert_allclose(landmark_errors(found, expected).numpy(), distances, rtol=1e-4)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match="the loss became nan at step 0"):
        train_step(fresh_state(0, 0.0), torch.zeros(2, 3, 64, 64), torch.full((2, 5, 2), float("nan")), 1e-3)


def test_what_a_run_leaves(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = main(config)
    left = {one.name for one in config.out.iterdir()}
    assert left == {
        *("landmarks.onnx", "last.pt", "labels_train.npz", "labels_val.npz", "config.json", "metrics.jsonl"),
        *("curves.png", "predictions.png", "score.json"),
    }
    assert [record["step"] for record in records(config.out)] == [2, 4, 6]
    for name in ("curves.png", "predictions.png"):
        assert decode_image((config.out / name).read_bytes(), name).std() > 0
    refiner = LandmarkRefiner(path)
    about = refiner._session.get_modelmeta().custom_metadata_map
    assert refiner.passes == config.passes
    assert about["trained_on"] == "16 aligned faces. made-up faces"
    assert json.loads(about["settings"])["seed"] == 0
    assert "MTCNN found 0 of 6 validation faces" in capsys.readouterr().out  # made-up faces are none


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    whole = main(replace(config, out=tmp_path / "whole"))
    step: Callable[..., float] = train_landmarks.train_step

    def killed(state: Any, *rest: Any) -> float:
        if state.step == 3:
            raise KeyboardInterrupt
        return step(state, *rest)

    monkeypatch.setattr(train_landmarks, "train_step", killed)
    config = replace(config, workers=workers)
    with pytest.raises(KeyboardInterrupt):
        main(config)
    monkeypatch.setattr(train_landmarks, "train_step", step)
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        main(config)
    with pytest.raises(UserError, match=r"learning_rate was 0\.002, is now 0\.001"):
        main(replace(config, resume=True, learning_rate=1e-3))
    resumed = main(replace(config, resume=True))
    assert records(config.out) == records(whole.parent)
    assert resumed.read_bytes() == whole.read_bytes()


def test_bad_settings_are_refused(config: Config, training_faces: Path) -> None:
    with pytest.raises(UserError, match="--steps must be at least 1, found 0"):
        main(replace(config, steps=0))
    for change, words in (
        ({"passes": 9}, "--passes 9: expected at most 8"),
        ({"weight_decay": float("nan")}, "--weight-decay must be at least 0, found nan"),
        ({"seed": -1}, "--seed must be at least 0, found -1"),
        ({"workers": -1}, "--workers must be at least 0, found -1"),
    ):
        with pytest.raises(UserError, match=words):
            main(replace(config, **change))  # type: ignore[arg-type]
    assert not config.out.exists(), "nothing was labelled"
    with pytest.raises(UserError, match="--learning-rate must lie between 0 and 1"):
        main(replace(config, learning_rate=0.0))
    with pytest.raises(UserError, match=r"last\.pt is missing, so there is nothing to resume"):
        main(replace(config, resume=True))
    with pytest.raises(UserError, match="4 people are in both training and validation"):
        main(replace(config, val_root=training_faces / "train"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_after_it_was_labelled_is_named(
    config: Config, training_faces: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = tmp_path / "faces"
    shutil.copytree(training_faces / "train", faces)
    steps = train_landmarks.train_steps

    def broken(*values: Any) -> Any:
        for path in faces.rglob("*.png"):
            path.write_bytes(b"")
        return steps(*values)

    monkeypatch.setattr(train_landmarks, "train_steps", broken)
    with pytest.raises(UserError, match=r"^\S+\.png is empty \(0 bytes\)"):
        main(replace(config, train_root=faces, workers=workers))


def test_faces_that_yunet_does_not_see_are_named(
    config: Config, training_faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = train_landmarks.label_faces

    def unseen(faces: FaceSet, *rest: Any) -> Any:
        labels = labelled(faces, *rest)
        return np.full_like(labels, np.nan) if faces.root.name == "val" else labels

    monkeypatch.setattr(train_landmarks, "label_faces", unseen)
    with pytest.raises(UserError, match="val: YuNet is sure of no face in it"):
        main(config)


def test_a_file_of_something_else_is_not_resumed(config: Config) -> None:
    config.out.mkdir()
    torch.save({"model": {}}, config.out / "last.pt")
    with pytest.raises(UserError, match="not a training state of train_landmarks"):
        main(replace(config, resume=True))
