"""The parts of a training of DSR and EdgeFace at once: its state in memory and on disk, and one step of it.

A step makes low-resolution faces of true ones, restores them with the DSR and embeds them with the student. The
student's losses reach through the restored faces into the DSR, beside the DSR's own: pixels, and the identity loss of
the frozen original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from dsr.data import SizeChoice
from dsr.degradation import HR_SIZE, round_to_8bit
from dsr.losses import charbonnier_loss, identity_distance, lattice_texture_loss, seam_loss
from dsr.model import REFERENCE_SIZE, Dsr
from dsr.training import Reduction
from facial_rec.distributed import Place, summed
from facial_rec.edgeface import EdgeFace, normalise
from facial_rec.finetune_augment import Augmentation, change_scene, make_strangers, obscure
from facial_rec.finetune_losses import NO_IDENTITY, Embedded, FinetuneLoss
from facial_rec.finetune_state import Batch, Kept
from facial_rec.layer_rates import parameter_groups
from facial_rec.muon import Muon, with_muon
from facial_rec.run_state import (
    load_same_network,
    read_run_state,
    require_finite,
    require_same_settings,
    write_state,
)
from facial_rec.weight_average import WeightAverage

GRADIENT_CLIP = 1.0
_KEYS = ("settings", "dsr", "student", "head", "averages", "optimizer", "counters", "sums", "kept")


@dataclass(frozen=True)
class ChainWeights:
    """What each part of the loss counts."""

    pixel: float = 8.0
    identity: float = 2.0
    chain: float = 2.0
    size_power: float = 0.0
    """The identity loss of a face of n pixels counts (min(n, 32) / 16) to this power."""
    mirror: float = 0.0
    """Of the distance between the restored face and the mirror image of what is restored of its mirror image."""
    texture: float = 0.0
    """Of the texture that the DSR's cells repeat, and of the seams between them."""

    def __post_init__(self) -> None:
        if not all(0.0 <= value < float("inf") for value in vars(self).values()) or not self.chain:
            raise UserError(
                "--pixel-weight, --identity-weight, --identity-size-power, --mirror-weight and --texture-weight must "
                "be 0 or more, --chain-weight above 0."
            )


@dataclass
class ChainState:
    """Everything that training changes."""

    dsr: Dsr
    student: EdgeFace
    loss: FinetuneLoss
    dsr_average: WeightAverage
    student_average: WeightAverage
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimiser steps."""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Of the epoch under way: for each loss term its sum, and over how many steps."""
    kept: Kept | None = None
    """The best student so far, in the end that of the last epoch; the DSR that belongs to it lies in `dsr.pt`."""

    @property
    def dsr_learns(self) -> bool:
        """Whether the DSR is trained at all, or stays as it is."""
        return next(self.dsr.parameters()).requires_grad

    def count(self, parts: Mapping[str, float]) -> None:
        """Add one step's losses to the sums of the epoch."""
        for name, value in parts.items():
            total, steps = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, steps + 1]

    def moved(self) -> None:
        """After an optimiser step: move the averages along, and count the step."""
        if self.dsr_learns:
            self.dsr_average.update(self.dsr)
        self.student_average.update(self.student)
        self.step += 1

    def means(self) -> dict[str, float]:
        """Mean of each loss term over the steps of this epoch that had it."""
        return {name: total / steps for name, (total, steps) in self.sums.items()}


@dataclass(frozen=True)
class ChainTeaching:
    """What is frozen, and what is done to the faces."""

    original: nn.Module
    """Images `(B, 3, 112, 112)`, RGB in [0, 1], to embeddings `(B, 512)`: the identity loss."""
    targets: Callable[[Tensor, Tensor], Tensor]
    """The original's embeddings and the images to what the student is to say of them."""
    sizes: SizeChoice
    reduction: Reduction
    augmentation: Augmentation
    weights: ChainWeights
    hr_share: float = 0.5
    mixed_precision: bool = False
    sizes_per_batch: int = 1
    """Parts of a batch that are each reduced to a size of their own."""
    views: int = 1
    """How often each face is reduced and restored; the true face is looked at once."""
    memory_format: torch.memory_format = torch.channels_last
    """How the images lie in memory."""


@dataclass(frozen=True)
class Prepared:
    """A batch as the networks take it, on their device."""

    high: Tensor
    """`(B, 3, 112, 112)` the true faces, RGB in [0, 1]."""
    enlarged: Tensor
    """`(V B, 3, 112, 112)` the same, each reduced and enlarged again V times, one view after the other."""
    log_sizes: Tensor
    """`(V B, 1, 1, 1)` log2(n / 32) of the n pixels each was reduced to."""
    people: Tensor
    """`(B,)`"""
    classes: Tensor
    """`(B,)`"""

    def tensors(self) -> tuple[Tensor, ...]:
        return self.high, self.enlarged, self.log_sizes, self.people, self.classes


def fresh_chain(
    dsr: Dsr,
    student: EdgeFace,
    loss: FinetuneLoss,
    dsr_rate: float,
    rate: float,
    weight_decay: float,
    ema_decay: float,
    device: torch.device,
    muon: bool = False,
) -> ChainState:
    """Copies of both networks that learn, their averages, and one optimiser with a rate for each of them.

    With a `dsr_rate` of 0 the DSR does not learn. With `muon` Muon moves the DSR's matrices, AdamW all else.
    """
    dsr, student = copy.deepcopy(dsr).requires_grad_(dsr_rate > 0), copy.deepcopy(student).requires_grad_(True)
    dsr = dsr.to(device).to(memory_format=torch.channels_last).train(dsr_rate > 0)
    student = student.to(device).to(memory_format=torch.channels_last).eval()
    loss.to(device)
    upscaling = []
    for decays in (True, False) if dsr_rate > 0 else ():
        chosen = [parameter for parameter in dsr.parameters() if (parameter.ndim > 1) == decays]
        decay = weight_decay if decays else 0.0
        upscaling.append({"params": chosen, "lr": dsr_rate, "scale": dsr_rate / rate, "weight_decay": decay})
    groups = parameter_groups(student, rate, 1.0, weight_decay) + (with_muon(upscaling) if muon else upscaling)
    if centres := list(loss.parameters()):
        groups.append({"params": centres, "lr": rate, "scale": 1.0, "weight_decay": 0.0})
    on_gpu = device.type == "cuda"  # where a step is captured, and its rates must lie in the device's memory
    kind = Muon if muon else torch.optim.AdamW
    optimizer = kind(groups, lr=rate, betas=(0.9, 0.99), fused=on_gpu, capturable=on_gpu)
    averages = WeightAverage(dsr, ema_decay), WeightAverage(student, ema_decay)
    return ChainState(dsr, student, loss, *averages, optimizer)


def averaged_pair(state: ChainState) -> tuple[Dsr, dict[str, Tensor]]:
    """The averaged DSR, in evaluation mode, and the averaged student's state dict, on CPU."""
    dsr, student = copy.deepcopy(state.dsr), copy.deepcopy(state.student)
    if state.dsr_learns:
        state.dsr_average.copy_to(dsr)
    state.student_average.copy_to(student)
    plain = {key: value.detach().cpu().contiguous() for key, value in student.state_dict().items()}
    return dsr.eval().requires_grad_(False), plain


def as_evaluated(restored: Tensor) -> Tensor:
    """Clamped to [0, 1] and rounded to 8 bit, as evaluations embed faces; the gradient passes straight through."""
    return restored + (round_to_8bit(restored.clamp(0.0, 1.0)) - restored).detach()


def chain_loss(
    state: ChainState, teaching: ChainTeaching, batch: Batch, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch and its unweighted parts; gradients reach the DSR, the student and its class centres."""
    return prepared_loss(state, teaching, prepare(teaching, batch, device))


def prepare(teaching: ChainTeaching, batch: Batch, device: torch.device) -> Prepared:
    """Change the faces of a batch, and reduce them; all draws come from the batch's generator."""
    how, draws = teaching.augmentation, batch.generator
    images = batch.pixels.to(device, memory_format=torch.channels_last).float().div(255.0)
    images, strangers = make_strangers(images, how, draws)
    people, classes = (numbers.masked_fill(strangers, NO_IDENTITY) for numbers in (batch.people, batch.classes))
    high = obscure(change_scene(images, how, draws), how, draws)
    enlarged, log_sizes = [], []
    for part in high.tensor_split(teaching.sizes_per_batch) * teaching.views:
        size = teaching.sizes.draw(draws)
        low = teaching.reduction(part, size, draws)
        enlarged.append(F.interpolate(low, size=(HR_SIZE, HR_SIZE), mode="bicubic", align_corners=False))
        log_sizes.append(torch.full((len(part), 1, 1, 1), math.log2(size / REFERENCE_SIZE)))
    return Prepared(
        high.contiguous(memory_format=teaching.memory_format),
        torch.cat(enlarged).contiguous(memory_format=teaching.memory_format),
        torch.cat(log_sizes).to(device),
        people.to(device),
        classes.to(device),
    )


def prepared_loss(state: ChainState, teaching: ChainTeaching, batch: Prepared) -> tuple[Tensor, dict[str, Tensor]]:
    """`chain_loss` of a batch whose faces are ready. It waits for nothing, so that a GPU can capture it."""
    weights = teaching.weights
    with torch.autocast(batch.high.device.type, dtype=torch.bfloat16, enabled=teaching.mixed_precision):
        with torch.no_grad():
            first = teaching.original(batch.high)
            targets = teaching.targets(first, batch.high)
            mirrored = _restored_mirrored(state.dsr, batch) if weights.mirror and state.dsr_learns else None
        restored = state.dsr.restore(batch.enlarged, batch.log_sizes).float()
        shown = as_evaluated(restored)
        seen = teaching.original(shown) if weights.identity and state.dsr_learns else None
        shared = batch.high[: math.ceil(teaching.hr_share * len(batch.high))]
        sr, hr = state.student(normalise(torch.cat([shown, shared]))).split([len(shown), len(shared)])
    total, parts = state.loss(_embedded(teaching.views, sr.float(), hr.float(), targets.float(), batch))
    parts = {"chain": total.detach(), **parts}
    total = weights.chain * total
    if not state.dsr_learns:
        return total, parts
    high = batch.high.repeat(teaching.views, 1, 1, 1)
    if weights.pixel:
        parts["pixel"] = charbonnier_loss(restored, high)
        total = total + weights.pixel * parts["pixel"]
    if mirrored is not None:
        parts["mirror"] = charbonnier_loss(restored, mirrored)
        total = total + weights.mirror * parts["mirror"]
    if weights.texture:
        parts["texture"] = lattice_texture_loss(restored, state.dsr.config.cell)
        parts["seam"] = seam_loss(restored, state.dsr.config.cell)
        total = total + weights.texture * (parts["texture"] + parts["seam"])
    if seen is not None:
        distances = identity_distance(seen.float(), first.float().repeat(teaching.views, 1))
        parts["identity"] = distances.mean()
        counts = (batch.log_sizes.flatten().clamp(max=0.0) + 1.0).exp2() ** weights.size_power
        total = total + weights.identity * (counts * distances).mean()
    return total, parts


def _embedded(views: int, sr: Tensor, hr: Tensor, targets: Tensor, batch: Prepared) -> Embedded:
    """What the student's losses compare: every view of a face beside what is said of the true one.

    The losses take the faces that were embedded in HR as well first, so the views of a face are put side by side.
    """
    if views == 1:
        return Embedded(sr, hr, targets, batch.people, batch.classes)
    side_by_side = sr.unflatten(0, (views, len(targets))).transpose(0, 1).flatten(0, 1)
    each = [values.repeat_interleave(views, 0) for values in (hr, targets, batch.people, batch.classes)]
    return Embedded(side_by_side, *each)


def _restored_mirrored(dsr: Dsr, batch: Prepared) -> Tensor:
    """What the DSR makes of the mirror images, mirrored back: `(B, 3, 112, 112)`. Their mean with what it makes of the
    images themselves is nearer to the truth than either, so each is drawn to the other, which stands still."""
    return dsr.restore(batch.enlarged.flip(3), batch.log_sizes).flip(3).float()


def chain_step(state: ChainState, teaching: ChainTeaching, batch: Batch, rate: float, place: Place) -> dict[str, float]:
    """One optimiser step, the gradients averaged over all processes; this process's loss and its unweighted parts.

    Raises UserError for a loss or a gradient that is not finite.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    total, parts = chain_loss(state, teaching, batch, place.device)
    norms = backward(state, total, place)
    for what, value in (("loss", total.detach()), *(("gradient", norm) for norm in norms)):
        require_finite(what, value, state.step)
    state.optimizer.step()
    state.moved()
    values = {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in parts.items()}}
    state.count(values)
    return values


def backward(state: ChainState, total: Tensor, place: Place) -> list[Tensor]:
    """The gradients of `total`, averaged over all processes and clipped; their norms for the DSR and the rest."""
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    average_gradients([p for group in state.optimizer.param_groups for p in group["params"]], place)
    networks = (list(state.dsr.parameters()), [*state.student.parameters(), *state.loss.parameters()])
    norms = [torch.nn.utils.clip_grad_norm_(network, GRADIENT_CLIP) for network in networks]
    # That of a network which does not learn is a zero on the CPU, from where a graph that is captured may not copy.
    return [norm if norm.device == total.device else total.detach().new_zeros(()) for norm in norms]


def average_gradients(parameters: list[nn.Parameter], place: Place) -> None:
    """Replace every gradient by its mean over the processes; a missing one counts as zero."""
    if place.world == 1:
        return
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    summed(flat, place).div_(place.world)
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))  # laid out as a fused step asks


def save_chain(path: Path, state: ChainState, settings: dict[str, Any]) -> None:
    """Write all that a resumed run needs, atomically."""
    kept = state.kept
    content = {
        "settings": settings,
        "dsr": state.dsr.state_dict(),
        "student": state.student.state_dict(),
        "head": state.loss.state_dict(),
        "averages": [state.dsr_average.state_dict(), state.student_average.state_dict()],
        "optimizer": state.optimizer.state_dict(),
        "counters": {"epoch": state.epoch, "step": state.step},
        "sums": state.sums,
        "kept": None if kept is None else {"state": kept.state, "epoch": kept.epoch, "report": kept.report},
    }
    write_state(path, content)


def restore_chain(path: Path, state: ChainState, settings: dict[str, Any]) -> None:
    """Load what `save_chain` wrote into `state`.

    Raises UserError when the file is missing or damaged, or when a setting that shapes the losses differs from the
    interrupted run's.
    """
    content = read_run_state(path, _KEYS, "train_chain")
    require_same_settings(path, content["settings"], settings)
    load_same_network(path, state.dsr, content["dsr"])
    load_same_network(path, state.student, content["student"])
    state.loss.load_state_dict(content["head"], strict=True)
    for average, values in zip((state.dsr_average, state.student_average), content["averages"], strict=True):
        average.load_state_dict(values)
    for saved, ours in zip(content["optimizer"]["param_groups"], state.optimizer.param_groups, strict=True):
        saved.update({key: ours[key] for key in ("fused", "capturable")})  # of this device, not of the one before
    state.optimizer.load_state_dict(content["optimizer"])
    for parameter, values in state.optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:  # it may lie otherwise in memory than it did there
                values[name] = torch.empty_like(parameter).copy_(value)
    state.epoch, state.step = content["counters"]["epoch"], content["counters"]["step"]
    state.sums = content["sums"]
    state.kept = None if content["kept"] is None else Kept(**content["kept"])
