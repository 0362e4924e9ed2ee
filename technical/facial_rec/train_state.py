"""The parts of training EdgeFace from scratch: losses, one step, and a run's state on disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import read_json, write_json
from facial_rec.distributed import Place, gathered, gathered_with_gradient
from facial_rec.edgeface import EdgeFace, normalise
from facial_rec.margin import batch_hard_triplet
from facial_rec.partial_fc import PartialFC
from facial_rec.run_state import (
    load_same_network,
    read_run_state,
    require_finite,
    require_same_settings,
    write_state,
)
from facial_rec.train_augment import Changes, changed
from facial_rec.train_validation import Figures

GRADIENT_CLIP = 5.0  # as in InsightFace's arcface_torch
POINTER = "last.json"


class TripletLoss(nn.Module):
    """Batch-hard triplets among the faces of all processes; has nothing to train."""

    def __init__(self, margin: float, place: Place) -> None:
        super().__init__()
        self.margin, self.place = margin, place

    def forward(self, embeddings: Tensor, labels: Tensor, step: int = 0) -> Tensor:
        """The loss, equal in every process, from this one's embeddings `(B, D)` and labels `(B,)`."""
        everyone = gathered_with_gradient(embeddings.float(), self.place)
        loss = batch_hard_triplet(everyone, gathered(labels, self.place), self.margin)
        # Every process finds the whole gradient, and `gathered_with_gradient` adds them up: each gives its share.
        return loss.detach() + (loss - loss.detach()) / self.place.world

    def update(self, rate: float) -> None:
        """Nothing to do."""


@dataclass
class RunState:
    """Everything that training changes."""

    model: EdgeFace
    network: nn.Module
    """`model`, or its distributed wrapper: what the training step calls."""
    loss: PartialFC | TripletLoss
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Finished optimiser steps."""
    sums: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "steps": 0.0})
    """Since the last validation."""
    best: Figures | None = None
    """Of the best validation so far."""
    validated_on: str = ""
    """Digest of the validation pairs, in the leading process."""


def learning_rate(
    step: int, total: int, peak: float, warmup: int, schedule: Literal["polynomial", "constant"] = "polynomial"
) -> float:
    """Linear warm-up to `peak`, then `peak (1 - progress)²` as in InsightFace's arcface_torch, or `peak` throughout."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    return peak * (1.0 - (step - warmup) / max(1, total - warmup)) ** 2


def train_step(
    state: RunState, pixels: Tensor, labels: Tensor, changes: Changes, rate: float, mixed_precision: bool, place: Place
) -> float:
    """One optimiser step on uint8 faces `(B, 3, 112, 112)`; the loss over the faces of all processes.

    Raises UserError for a loss or gradient that is not finite.
    """
    images = changed(pixels.to(place.device, non_blocking=True).float().div(255.0), changes)
    labels = labels.to(place.device, non_blocking=True)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.network.train()
    with torch.autocast(place.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
        embeddings = state.network(normalise(images).to(memory_format=torch.channels_last))
    loss = state.loss(embeddings, labels, state.step)
    value = float(loss.detach())
    require_finite("loss", value, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), GRADIENT_CLIP)
    require_finite("gradient", float(norm), state.step)
    state.optimizer.step()
    state.loss.update(rate)
    state.step += 1
    state.sums["loss"] += value
    state.sums["steps"] += 1
    return value


def save_state(out: Path, state: RunState, settings: dict[str, Any], place: Place) -> None:
    """Write all that a resumed run needs: a file of each process, then `last.json`, which makes them count."""
    folder = out / "state" / f"step_{state.step:08d}"
    content = {"loss": state.loss.state_dict()}
    if place.leads:
        content |= {
            "settings": settings,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "progress": {name: getattr(state, name) for name in ("step", "sums", "best", "validated_on")},
        }
    write_state(folder / f"rank_{place.rank}.pt", content)
    place.wait()
    if place.leads:
        write_json(out / POINTER, {"state": folder.name, "step": state.step, "processes": place.world})
        for older in (out / "state").iterdir():
            if older != folder:
                shutil.rmtree(older)


def restore_state(out: Path, state: RunState, settings: dict[str, Any], place: Place) -> None:
    """Load what `save_state` wrote into `state`.

    Raises UserError when it is missing or damaged, or when a setting that shapes the losses, or the validation pairs
    that the best weights are chosen on, differ from the interrupted run's.
    """
    pointer = read_json(out / POINTER)
    try:
        folder = out / "state" / pointer["state"]
    except (TypeError, KeyError) as error:
        raise UserError(f"{out / POINTER} does not say where the state is: give another --out.") from error
    content = read_run_state(
        folder / "rank_0.pt", {"loss", "settings", "model", "optimizer", "progress"}, "train_edgeface"
    )
    require_same_settings(out, content["settings"], settings)
    mine = content if place.leads else read_run_state(folder / f"rank_{place.rank}.pt", {"loss"}, "train_edgeface")
    load_same_network(folder, state.model, content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.loss.load_state_dict(mine["loss"], strict=True)
    progress = content["progress"]
    before = progress.get("validated_on")  # which older runs did not save
    if place.leads and before and before != state.validated_on:
        raise UserError(
            f"{out} belongs to a run with other validation pairs, so its best figures cannot be compared with those "
            "to come: give the --val-root it had, or another --out."
        )
    state.step, state.sums, state.best = progress["step"], progress["sums"], progress["best"]
