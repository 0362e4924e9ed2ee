"""The state of a fine-tuning run, in memory and on disk, and one step of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facial_rec.adapters import merged_state
from facial_rec.edgeface import EdgeFace, normalise
from facial_rec.finetune_augment import Augmentation, change_scene, make_strangers, obscure
from facial_rec.finetune_losses import NO_IDENTITY, Embedded, FinetuneLoss
from facial_rec.finetune_validation import Report
from facial_rec.run_state import (
    load_same_network,
    read_run_state,
    require_finite,
    require_same_settings,
    write_state,
)
from facial_rec.weight_average import WeightAverage

GRADIENT_CLIP = 1.0
_KEYS = ("settings", "student", "head", "average", "optimizer", "counters", "sums", "kept")


@dataclass
class Kept:
    """The best epoch so far."""

    state: dict[str, Tensor]
    epoch: int
    report: Report


@dataclass
class RunState:
    """Everything that training changes."""

    student: EdgeFace
    loss: FinetuneLoss
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimiser steps."""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Of the epoch under way: for each loss term its sum, and over how many steps."""
    kept: Kept | None = None

    def count(self, parts: Mapping[str, float]) -> None:
        """Add one step's losses to the sums of the epoch."""
        for name, value in parts.items():
            total, steps = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, steps + 1]

    def means(self) -> dict[str, float]:
        """Mean of each loss term over the steps of this epoch that had it."""
        return {name: total / steps for name, (total, steps) in self.sums.items()}


@dataclass(frozen=True)
class Teaching:
    """What is frozen: what the student is to do, and what makes low-resolution faces of true ones."""

    teacher: nn.Module
    """Images `(B, 3, 112, 112)`, RGB in [0, 1], to target embeddings `(B, 512)`."""
    restore: Callable[[Tensor, torch.Generator], Tensor]
    augmentation: Augmentation
    hr_share: float = 1.0
    """The part of each batch that the student sees in HR as well."""
    mixed_precision: bool = False
    """Whether the student computes in bfloat16; its weights, the teacher and the losses stay float32."""


@dataclass(frozen=True)
class Batch:
    """One training batch."""

    pixels: Tensor
    """uint8 `(B, 3, 112, 112)`."""
    people: Tensor
    classes: Tensor
    generator: torch.Generator


def averaged_state(state: RunState) -> dict[str, Tensor]:
    """The averaged student's weights as the state dict of a plain EdgeFace, adapters folded in, on CPU."""
    network = copy.deepcopy(state.student)
    state.average.copy_to(network)
    return {key: value.detach().cpu().contiguous() for key, value in merged_state(network).items()}


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine to zero at `total`. `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def embed_batch(student: EdgeFace, teaching: Teaching, batch: Batch, device: torch.device) -> Embedded:
    """Augment, reduce, restore and embed one batch, all on `device`; gradients reach the student only."""
    how, draws = teaching.augmentation, batch.generator
    images = batch.pixels.to(device, memory_format=torch.channels_last).float().div(255.0)
    images, strangers = make_strangers(images, how, draws)
    people, classes = (numbers.masked_fill(strangers, NO_IDENTITY) for numbers in (batch.people, batch.classes))
    high = change_scene(images, how, draws)
    restored = obscure(teaching.restore(high, draws), how, draws)
    seen = obscure(high[: math.ceil(teaching.hr_share * len(high))], how, draws)
    with torch.no_grad():
        targets = teaching.teacher(high).float()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=teaching.mixed_precision):
        sr = student(normalise(restored))
        hr = student(normalise(seen)) if len(seen) else sr[:0]
    return Embedded(sr.float(), hr.float(), targets, people.to(device), classes.to(device))


def train_step(
    state: RunState, teaching: Teaching, batch: Batch, rate: float, device: torch.device
) -> dict[str, float]:
    """One optimiser step; the loss and its unweighted parts. Raises UserError for a loss that is not finite."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    total, parts = state.loss(embed_batch(state.student, teaching, batch, device))
    require_finite("loss", total.detach(), state.step)
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
    require_finite("gradient", norm, state.step)
    state.optimizer.step()
    state.average.update(state.student)
    state.step += 1
    values = {"loss": float(total.detach()), **{name: float(value) for name, value in parts.items()}}
    state.count(values)
    return values


def save_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Write all that a resumed run needs, atomically."""
    kept = state.kept
    content = {
        "settings": settings,
        "student": state.student.state_dict(),
        "head": state.loss.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "counters": {"epoch": state.epoch, "step": state.step},
        "sums": state.sums,
        "kept": None if kept is None else {"state": kept.state, "epoch": kept.epoch, "report": kept.report},
    }
    write_state(path, content)


def restore_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Load what `save_state` wrote into `state`.

    Raises UserError when the file is missing or damaged, or when a setting that shapes the losses differs from the
    interrupted run's.
    """
    content = read_run_state(path, _KEYS, "finetune_edgeface")
    require_same_settings(path, content["settings"], settings)
    load_same_network(path, state.student, content["student"])
    state.loss.load_state_dict(content["head"], strict=True)
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.epoch, state.step = content["counters"]["epoch"], content["counters"]["step"]
    state.sums = content["sums"]
    state.kept = None if content["kept"] is None else Kept(**content["kept"])
