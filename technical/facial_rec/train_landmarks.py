"""Train the small network that moves MTCNN's landmarks to where the training faces were aligned by.

    python -m facial_rec.train_landmarks

Reads aligned 112x112 faces from dataset/train_processed and dataset/val_processed (or --train-root, --val-root), labels
them once with YuNet (landmark_labels.py), and leaves in --out: landmarks.onnx, last.pt (to resume from), labels_*.npz,
config.json, metrics.jsonl, curves.png and predictions.png. Put landmarks.onnx into checkpoints/ to have it used.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from common import cli
from common.errors import UserError
from common.files import write_json, write_with
from common.paths import default_dataset, find_dataset
from common.progress import progress_bar
from common.runlog import append_record, keep_steps, read_records
from facial_rec.detector import load_detector
from facial_rec.faceset import FaceSet
from facial_rec.finetune_state import learning_rate
from facial_rec.identities import require_disjoint
from facial_rec.landmark_crops import Augmentation
from facial_rec.landmark_labels import Landmarks, label_faces, onto_template, reference_shift
from facial_rec.landmark_net import LandmarkNet, landmarks_onnx
from facial_rec.landmark_pictures import save_curves, save_predictions
from facial_rec.landmark_refiner import FORMAT, INPUT, MAX_PASSES, OUTPUT, LandmarkRefiner
from facial_rec.landmark_score import describe, score_refiner
from facial_rec.landmark_training import (
    LabelledFaces,
    RunState,
    TrainingBatches,
    Validation,
    fresh_state,
    restore_state,
    save_state,
    train_step,
)
from facial_rec.run_state import check_run_folder

VALIDATION_SEED = 1
LICENCE = "CC BY-NC-SA 4.0: non-commercial; trained on faces for non-commercial research, labelled by YuNet (MIT)"


@dataclass(frozen=True)
class Config:
    """Train a landmark refiner."""

    train_root: Path | None = None
    """Aligned training faces: a folder or zip; default dataset/train_processed."""
    val_root: Path | None = None
    """Aligned faces of other people; default dataset/val_processed."""
    yunet: Path | None = None
    """YuNet's ONNX file, which labels the faces; default the one in checkpoints/, downloaded the first time."""
    out: Path = Path("runs/landmarks")
    """Folder of the run."""
    resume: bool = False
    """Go on from <out>/last.pt."""
    seed: int = 0
    """Seed of weights, order and changes of the faces."""
    steps: int = 4500
    """Optimiser steps."""
    batch_size: int = 64
    """Faces a step."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW, after which a cosine."""
    weight_decay: float = 1e-3
    """Weight decay of AdamW."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    passes: int = 2
    """How often the file asks to be applied, each time to the face aligned by the last result."""
    log_every: int = 250
    """Steps between validations, after each of which last.pt is saved."""
    threads: int = 1
    """CPU threads of torch."""
    workers: int = 0
    """Processes that make the training crops; 0 makes them between the steps."""
    about: str = ""
    """What the faces are, for the file's metadata: data sets and their terms."""


def main(cfg: Config) -> Path:
    """Train, and return the path of the ONNX file. Raises UserError for anything the user can mend."""
    _check_config(cfg)
    torch.set_num_threads(cfg.threads)
    cv2.setNumThreads(cfg.threads)
    train, val = load_data(cfg)
    state = fresh_state(cfg.seed, cfg.weight_decay)
    settings = _settings(cfg, len(train))
    if cfg.resume:
        restore_state(cfg.out / "last.pt", state, settings)
    write_json(cfg.out / "config.json", {"command": _command(), **settings, "validation_faces": len(val)})
    keep_steps(cfg.out / "metrics.jsonl", state.step)
    validation = Validation(val, Augmentation(), VALIDATION_SEED)
    count = sum(parameter.numel() for parameter in state.model.parameters())
    print(f"[train] {count:,} parameters; {len(train):,} faces, {len(val):,} for validation; {cfg.steps:,} steps")
    with progress_bar(cfg.steps, "train", "step") as bar:
        bar.update(state.step)
        for record in train_steps(cfg, state, train, validation):
            bar.update(record["step"] - bar.n)
            bar.write(f"[step {record['step']}] loss {record['loss']:.4f}, validation error {record['error']:.2%}")
            append_record(cfg.out / "metrics.jsonl", record)
            save_state(cfg.out / "last.pt", state, settings)
    return finish(cfg, state.model, val, validation, len(train))


def _check_config(cfg: Config) -> None:
    for name in ("steps", "batch_size", "passes", "log_every", "threads"):
        if getattr(cfg, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(cfg, name)}.")
    for name in ("seed", "weight_decay", "warmup_steps", "workers"):
        if not getattr(cfg, name) >= 0:  # so NaN is refused too
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, found {getattr(cfg, name)}.")
    if cfg.passes > MAX_PASSES:
        raise UserError(f"--passes {cfg.passes}: expected at most {MAX_PASSES}, each passes the face through again.")
    if not 0.0 < cfg.learning_rate <= 1.0:
        raise UserError(f"--learning-rate must lie between 0 and 1, found {cfg.learning_rate}.")
    check_run_folder(cfg.out, cfg.resume)


def load_data(cfg: Config) -> tuple[LabelledFaces, LabelledFaces]:
    """Training and validation faces with their landmarks; those without a label are left out."""
    detector = load_detector("yunet", cfg.yunet)
    shift: Landmarks | None = None
    sets = []
    for split, root in (("train", cfg.train_root), ("val", cfg.val_root)):
        root = root or default_dataset(split)
        if root is None:
            raise UserError(f"no faces: give --{split}-root, or make them with `python -m dsr.prepare_dataset`.")
        faces = FaceSet(find_dataset(root))
        landmarks = label_faces(faces, detector, cfg.out / f"labels_{split}.npz", f"labels of {split}")
        shift = reference_shift(faces, landmarks, detector) if shift is None else shift
        kept = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        print(f"[data] {faces.root}: {len(kept):,} of {len(faces):,} faces have a label")
        if not len(kept):
            raise UserError(f"{faces.root}: YuNet is sure of no face in it. Are they aligned 112x112 faces?")
        labels = np.stack([onto_template(landmarks[index] + shift) for index in kept])
        sets.append(LabelledFaces(faces, [faces.faces[index] for index in kept], labels))
    train, val = sets
    people, others = ([face.subject for face in one.faces] for one in sets)
    require_disjoint("training", "validation", people, others)
    return train, val


def train_steps(
    cfg: Config, state: RunState, train: LabelledFaces, validation: Validation
) -> Iterator[dict[str, float]]:
    """Train to the last step; a record after every `log_every` steps and the last."""
    losses: list[float] = []
    started = time.monotonic()
    for pixels, points in _batches(cfg, train, state.step):
        rate = learning_rate(state.step, cfg.steps, cfg.learning_rate, cfg.warmup_steps)
        losses.append(train_step(state, pixels, points, rate))
        if state.step % cfg.log_every == 0 or state.step == cfg.steps:
            error, loss = validation.run(state.model), float(np.mean(losses))
            yield {"step": state.step, "loss": loss, "error": error, "seconds": time.monotonic() - started}
            losses, started = [], time.monotonic()


def _batches(cfg: Config, train: LabelledFaces, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    batches = TrainingBatches(train, cfg.batch_size, Augmentation(), cfg.seed)
    for batch in DataLoader(batches, batch_size=None, sampler=range(first, cfg.steps), num_workers=cfg.workers):
        if isinstance(batch, UserError):  # which a worker process could not raise
            raise batch
        yield batch


def finish(cfg: Config, model: LandmarkNet, val: LabelledFaces, validation: Validation, trained_on: int) -> Path:
    """Write the ONNX file and the pictures, and print how far MTCNN's landmarks are off without and with it."""
    path = cfg.out / "landmarks.onnx"
    content = landmarks_onnx(model, _metadata(cfg, trained_on))
    write_with(path, lambda temporary: temporary.write_bytes(content))
    records = read_records(cfg.out / "metrics.jsonl")
    save_curves(cfg.out / "curves.png", records)
    found = validation.predict(model).numpy()
    save_predictions(cfg.out / "predictions.png", validation.pixels.numpy(), validation.points.numpy(), found)
    score = score_refiner(LandmarkRefiner(path, threads=cfg.threads), val)
    write_json(cfg.out / "score.json", score)
    minutes = sum(record["seconds"] for record in records) / 60
    print(f"[done] {path}, {len(content):,} bytes, {cfg.steps:,} steps in {minutes:.1f} minutes; {describe(score)}")
    return path


def _metadata(cfg: Config, trained_on: int) -> dict[str, str]:
    return {
        "format": FORMAT,
        "licence": LICENCE,
        "input": INPUT,
        "landmarks": OUTPUT,
        "passes": str(cfg.passes),
        "trained_on": f"{trained_on} aligned faces. {cfg.about}".strip(),
        "labels": "shape from YuNet 2023mar on the aligned face; turn, size and place as the face was aligned",
        "settings": json.dumps(_settings(cfg, trained_on)),
    }


def _settings(cfg: Config, faces: int) -> dict[str, Any]:
    """What must be equal for a resumed run to give the losses of an uninterrupted one."""
    free = {"resume", "out", "train_root", "val_root", "yunet", "threads", "workers", "about", "passes", "log_every"}
    return {**{key: value for key, value in asdict(cfg).items() if key not in free}, "training_faces": faces}


def _command() -> str:
    return shlex.join(["python", "-m", "facial_rec.train_landmarks", *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main, Config)
