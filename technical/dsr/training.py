"""The parts of a DSR training run: its state in memory and on disk, one step, one validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from common.errors import UserError
from dsr.batch_degradation import BatchDegradation
from dsr.data import FaceReader, SizeChoice, to_float
from dsr.degradation import RealisticDegradation, bicubic_enlarge, canonical_reduce, round_to_8bit
from dsr.losses import DsrLoss, identity_distance
from dsr.model import Dsr
from dsr.quality import psnr, ssim
from facial_rec.distributed import Place
from facial_rec.finetune_augment import Augmentation, change_scene, make_strangers, obscure
from facial_rec.muon import Muon, with_muon
from facial_rec.run_state import (
    load_same_network,
    read_run_state,
    require_finite,
    require_same_settings,
    write_state,
)
from facial_rec.seeds import epoch_order, mixed_seed

GRADIENT_CLIP = 1.0
VALIDATION_BATCH = 64
EXACT_PSNR = 100.0  # what an exact image counts in a mean: infinity would swallow all others, and JSON has none

Reduction = Callable[[Tensor, int, torch.Generator], Tensor]


@dataclass
class RunState:
    """Everything that training changes."""

    model: Dsr
    network: nn.Module
    """`model`, or its distributed wrapper: what the training step calls."""
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimiser steps."""
    best: float = math.inf
    """Lowest validation loss so far."""


def average_of(model: Dsr, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers; after t steps its decay is min(decay, (1+t)/(10+t))."""

    def blend(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        keep = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        return averaged.lerp(current, 1.0 - keep) if averaged.is_floating_point() else current

    return AveragedModel(model, avg_fn=blend, use_buffers=True)


OptimizerName = Literal["adamw", "muon"]


def make_optimizer(model: Dsr, name: OptimizerName, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW for what is no matrix; vectors do not decay."""
    decays = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decays, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    if name == "muon":
        return Muon(with_muon(groups), lr=rate, betas=(0.9, 0.99))
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))


def averaged_dsr(state: RunState) -> Dsr:
    """The averaged network, in evaluation mode."""
    module = state.average.module
    assert isinstance(module, Dsr)
    return module.eval()


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine to zero at `total`. `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def reduction_named(name: str, realistic_share: float = 0.5, at_once: bool = False) -> Reduction:
    """`canonical`, `realistic`, or `mixed` (`realistic_share` of the batches realistic). UserError for another name.

    `at_once` degrades the faces of a batch together, as a GPU needs, instead of one after the other.
    """
    realistic: Reduction = BatchDegradation() if at_once else RealisticDegradation()

    def canonical(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        return canonical_reduce(images, size)

    def mixed(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        chosen = realistic if float(torch.rand((), generator=generator)) < realistic_share else canonical
        return chosen(images, size, generator)

    known: dict[str, Reduction] = {"canonical": canonical, "realistic": realistic, "mixed": mixed}
    if name not in known:
        raise UserError(f"--degradation {name} is unknown: expected one of {', '.join(known)}.")
    return known[name]


AugmentationName = Literal["flip", "scene", "strangers"]
SCENE = Augmentation(shift=2.0, grow=4.0, light=0.2, blur=0.2, blur_sigma=1.0, erase=0.0)
STRANGERS = replace(SCENE, stranger=0.6)


def augment(images: Tensor, generator: torch.Generator, name: AugmentationName = "flip") -> Tensor:
    """Other photos of the same faces, `(B, 3, H, W)`, to be the true images; draws come from `generator` (on CPU).

    `flip` mirrors half of them; `scene` also moves, resizes and relights each a little, and softens a few; `strangers`
    makes more than half of them into faces of nobody before.
    """
    if name == "strangers":
        images, _ = make_strangers(images, STRANGERS, generator)
    if name in ("scene", "strangers"):
        return obscure(change_scene(images, SCENE, generator), SCENE, generator)
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)


def epoch_batches(
    reader: FaceReader, seed: int, epoch: int, batch_size: int, place: Place
) -> Iterator[tuple[Tensor, torch.Generator]]:
    """This process's batches of one epoch, each with the generator for its random draws."""
    order = epoch_order(len(reader), seed, epoch)
    share = order[place.rank :: place.world][: steps_per_epoch(len(reader), batch_size, place.world) * batch_size]
    for index, pixels in enumerate(reader.batches(share, batch_size)):
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch, index, place.rank))
        yield pixels, generator


def steps_per_epoch(count: int, batch_size: int, world: int) -> int:
    """Whole batches each process gets; a last part batch counts only where it is the only one."""
    return max(1, count // world // batch_size)


def train_step(
    state: RunState, loss: DsrLoss, high: Tensor, low: Tensor, rate: float, mixed_precision: bool
) -> dict[str, float]:
    """One optimiser step; the loss and its unweighted parts. Raises UserError for a loss that is not finite.

    `mixed_precision` runs both networks, DSR and recogniser, in bfloat16; weights and losses stay float32.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
    state.network.train()
    with torch.autocast(high.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
        output = state.network(low)
        total, parts = loss(output.float(), high, low.shape[-1])
    require_finite("loss", total.detach(), state.step)
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), GRADIENT_CLIP)
    require_finite("gradient", norm, state.step)
    state.optimizer.step()
    state.average.update_parameters(state.model)
    state.step += 1
    return {"loss": float(total.detach()), **{name: float(value) for name, value in parts.items()}}


@torch.no_grad()
def embed_in_batches(embedder: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Embeddings `(N, D)`, on CPU, of float images `(N, 3, 112, 112)`."""
    return torch.cat([embedder(batch.to(device)).cpu() for batch in images.split(VALIDATION_BATCH)])


class Validation:
    """PSNR, SSIM and identity loss of DSR beside bicubic, on the same canonically reduced faces, size by size."""

    def __init__(self, reader: FaceReader, sizes: list[int], embedder: nn.Module, device: torch.device) -> None:
        self.sizes, self.embedder, self.device = sizes, embedder, device
        self.high = to_float(reader.read(range(len(reader))))
        self.targets = embed_in_batches(embedder, self.high, device)
        self.low = {size: canonical_reduce(self.high, size) for size in sizes}
        self.bicubic = {size: self.figures(bicubic_enlarge(self.low[size])) for size in sizes}

    def figures(self, images: Tensor) -> dict[str, float]:
        """Means over the validation faces of one method's images `(N, 3, 112, 112)`."""
        distance = identity_distance(embed_in_batches(self.embedder, images, self.device), self.targets)
        pairs = list(zip(images.split(VALIDATION_BATCH), self.high.split(VALIDATION_BATCH), strict=True))
        return {
            "psnr": float(torch.cat([psnr(a, b) for a, b in pairs]).clamp(max=EXACT_PSNR).mean()),
            "ssim": float(torch.cat([ssim(a, b) for a, b in pairs]).mean()),
            "identity_loss": float(distance.mean()),
        }

    @torch.no_grad()
    def upscale(self, model: Dsr, low: Tensor) -> Tensor:
        """DSR outputs `(N, 3, 112, 112)` of `(N, 3, n, n)`, as an image file would hold them."""
        batches = low.split(VALIDATION_BATCH)
        return round_to_8bit(torch.cat([model(batch.to(self.device)).cpu() for batch in batches]))

    def run(self, model: Dsr) -> dict[str, dict[str, dict[str, float]]]:
        """`{"16": {"dsr": {...}, "bicubic": {...}}, ...}`."""
        return {
            str(size): {"dsr": self.figures(self.upscale(model, self.low[size])), "bicubic": self.bicubic[size]}
            for size in self.sizes
        }

    def grid(self, *models: Dsr, faces: int = 4) -> Tensor:
        """A picture `(3, H, W)`: for every size rows of LR (enlarged by repetition) | bicubic | each DSR | HR."""
        chosen = torch.linspace(0, len(self.high) - 1, min(faces, len(self.high))).round().long()
        rows = []
        for size in self.sizes:
            low = self.low[size][chosen]
            columns = [
                F.interpolate(low, size=self.high.shape[-2:], mode="nearest"),
                bicubic_enlarge(low),
                *(self.upscale(model, low) for model in models),
                self.high[chosen],
            ]
            rows += [torch.cat([column[index] for column in columns], dim=2) for index in range(len(low))]
        return torch.cat(rows, dim=1)


def selection_loss(figures: dict[str, dict[str, dict[str, float]]], pixel_weight: float, id_weight: float) -> float:
    """What decides the best epoch: mean over sizes of identity loss and error in dB, relative to bicubic's.

    Identity counts by the ratio of the losses, pixels by `(bicubic PSNR - DSR PSNR) / 10`; each only if it is trained,
    both if neither is.
    """
    identity = [s["dsr"]["identity_loss"] / max(s["bicubic"]["identity_loss"], 1e-6) for s in figures.values()]
    pixels = [(s["bicubic"]["psnr"] - s["dsr"]["psnr"]) / 10.0 for s in figures.values()]
    terms = (identity if id_weight > 0 else []) + (pixels if pixel_weight > 0 else []) or identity + pixels
    return sum(terms) / len(figures)


def save_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Write all that a resumed run needs, atomically."""
    content = {
        "settings": settings,
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "counters": {"epoch": state.epoch, "step": state.step, "best": state.best},
    }
    write_state(path, content)


def restore_state(path: Path, state: RunState, settings: dict[str, Any]) -> None:
    """Load what `save_state` wrote into `state`.

    Raises UserError when the file is missing or damaged, or when a setting that shapes the losses differs from the
    interrupted run's.
    """
    content = read_run_state(path, ("settings", "model", "average", "optimizer", "counters"), "train_dsr")
    require_same_settings(path, content["settings"], settings)
    load_same_network(path, state.model, content["model"])
    state.average.load_state_dict(content["average"], strict=True)
    state.optimizer.load_state_dict(content["optimizer"])
    counters = content["counters"]
    state.epoch, state.step, state.best = counters["epoch"], counters["step"], counters["best"]


def reduce_batch(
    pixels: Tensor,
    generator: torch.Generator,
    sizes: SizeChoice,
    reduction: Reduction,
    device: torch.device,
    augmentation: AugmentationName = "flip",
) -> tuple[Tensor, Tensor]:
    """`(high, low)` float batches of one training step from uint8 `(B, 3, 112, 112)`."""
    high = augment(to_float(pixels, device), generator, augmentation)
    return high, reduction(high, sizes.draw(generator), generator)
