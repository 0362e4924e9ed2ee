"""Short trainings of a DSR, one after another from the same seed, and what came of each: for `benchmarks/`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.paths import default_dataset, find_dataset
from common.progress import progress_bar
from dsr.data import FaceReader, evenly_spaced, to_float
from dsr.degradation import canonical_reduce, round_to_8bit
from dsr.losses import identity_distance
from dsr.model import Dsr
from dsr.quality import psnr
from dsr.training import GRADIENT_CLIP, OptimizerName, average_of, learning_rate, make_optimizer
from facial_rec.faceset import FaceSet
from facial_rec.finetune_validation import figures
from facial_rec.identities import numbers_of
from facial_rec.seeds import epoch_order

BATCH = 64
RATES = ("LR-HR TAR", "LR-HR EER", "LR-LR TAR", "LR-LR EER")

LossOf = Callable[[Dsr, Tensor, list[int], torch.Generator], Tensor]
"""The network, faces `(B, 3, 112, 112)` uint8, their numbers in the training set and a generator to a scalar loss."""


@dataclass(frozen=True)
class ShortTraining:
    """How long, and how."""

    faces: int
    """Training faces, in whole batches."""
    batch_size: int
    rate: float = 1e-3
    """Peak learning rate; warm-up over a tenth of the steps, a hundred at most, then a cosine."""
    seed: int = 0
    """Of the order of faces, and of the generator that the loss draws from."""
    optimizer: OptimizerName = "adamw"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.faces < self.batch_size:
            raise UserError("a step needs at least 1 face, and --faces must hold at least one step.")

    def run(self, model: Dsr, train: FaceReader, loss_of: LossOf) -> tuple[Dsr, float]:
        """Train `model`; its moving average, in evaluation mode, and faces a second."""
        model = model.requires_grad_(True).to(memory_format=torch.channels_last).train()
        average = average_of(model, 0.995)
        optimizer = make_optimizer(model, self.optimizer, self.rate, 1e-4)
        generator = torch.Generator().manual_seed(self.seed)
        steps = self.faces // self.batch_size
        rounds = range(-(-steps * self.batch_size // len(train)))
        order = [index for epoch in rounds for index in epoch_order(len(train), self.seed, epoch)]
        order = order[: steps * self.batch_size]
        started = time.monotonic()
        with progress_bar(len(order), "training", "face", keep=False) as progress:
            for step, pixels in enumerate(train.batches(order, self.batch_size)):
                for group in optimizer.param_groups:
                    rate = learning_rate(step, steps, self.rate, min(100, steps // 10))
                    group["lr"] = rate * group.get("scale", 1.0)
                rows = order[step * self.batch_size : (step + 1) * self.batch_size]
                loss = loss_of(model, pixels, rows, generator)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
                optimizer.step()
                average.update_parameters(model)
                progress.update(len(pixels))
        module = average.module
        assert isinstance(module, Dsr)
        return module.eval(), len(order) / (time.monotonic() - started)


def split_root(given: Path | None, split: str) -> Path:
    """The folder or zip that was given, or the default data set of this split. UserError where there is none."""
    root = given or default_dataset(split)
    if root is None:
        raise UserError(f"dataset/{split}_processed is missing: give --{split}-root, or run dsr.prepare_dataset.")
    return find_dataset(root)


def validation_faces(root: Path, limit: int) -> FaceReader:
    """`limit` faces, spread evenly (0: all). UserError where `judged` would find no genuine or no impostor pair."""
    held = FaceSet(root)
    chosen = evenly_spaced(held.faces, limit)
    people = numbers_of(chosen)
    if len(set(people)) in (1, len(people)):
        raise UserError(
            f"{len(chosen)} faces of {root}, spread evenly, hold {len(set(people))} people: expected two, one of them "
            "with two photos. Give another --val-limit (0: all faces), or another --val-root."
        )
    return FaceReader(held, chosen)


@torch.no_grad()
def judged(model: Dsr, judge: nn.Module, val: FaceReader, sizes: list[int]) -> dict[int, dict[str, float]]:
    """By size: mean PSNR in dB, mean identity loss, and TAR at FMR 1e-3 and EER of LR-HR and LR-LR (`RATES`)."""
    high, people = to_float(val.read(range(len(val)))), numbers_of(val.faces)
    true = torch.cat([F.normalize(judge(part).float()) for part in high.split(BATCH)])
    found = {}
    for size in sizes:
        low = canonical_reduce(high, size)
        restored = torch.cat([round_to_8bit(model(part)) for part in low.split(BATCH)])
        seen = torch.cat([F.normalize(judge(part).float()) for part in restored.split(BATCH)])
        row = {"psnr": float(psnr(restored, high).mean()), "identity": float(identity_distance(seen, true).mean())}
        lr_hr = figures(seen.numpy(), true.numpy(), people)
        lr_lr = figures(seen.numpy(), seen.numpy(), people, mirrored=True)
        rates = (lr_hr["tar"], lr_hr["eer"], lr_lr["tar"], lr_lr["eer"])
        found[size] = {**row, **dict(zip(RATES, rates, strict=True))}
    return found
