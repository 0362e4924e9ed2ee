"""Which optimizer brings a DSR further in equally many faces: short trainings from an untrained network.

    python benchmarks/dsr_optimizers.py --train-root dataset/train_processed --val-root dataset/val_processed

Every optimizer, batch size and peak rate sees the same faces from the same seed, and the same losses, pixels and the
identity loss of a frozen EdgeFace. With muon the rate is that of what is no matrix; matrices and kernels move
`facial_rec.muon.MATRIX_SCALE` times as far. Judged on people none was trained on, by --judge: a recogniser that no loss
has seen says more than the one that all were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from common import cli
from common.device import Precision, in_bf16
from common.errors import UserError
from dsr.data import FaceReader, SizeChoice
from dsr.losses import DsrLoss
from dsr.model import Dsr, preset
from dsr.short_training import RATES, ShortTraining, judged, split_root, validation_faces
from dsr.training import OptimizerName, reduce_batch, reduction_named
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.tables import format_table

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Config:
    """What is compared, on what."""

    train_root: Path | None = None
    """Training faces (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Validation faces of other people (default: dataset/val_processed)."""
    edgeface: str = "edgeface_xxs.pt"
    """Frozen EdgeFace of the identity loss: a path or a name in checkpoints/."""
    judge: str | None = None
    """Recogniser of the figures; default --edgeface itself."""
    optimizers: tuple[OptimizerName, ...] = ("adamw", "muon")
    """Which optimizers."""
    batch_sizes: tuple[int, ...] = (16, 64)
    """Faces a step."""
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    """Peak learning rates."""
    preset: str = "default"
    """Network."""
    vlr_size: tuple[str, ...] = ("16", "24", "32")
    """Low-resolution sizes to train and to judge at."""
    faces: int = 24_000
    """Training faces each one sees."""
    pixel_weight: float = 8.0
    """Weight of the pixel loss."""
    identity_weight: float = 2.0
    """Weight of the identity loss."""
    val_limit: int = 722
    """Validation faces, spread evenly; 0 for all."""
    seed: int = 0
    """Seed of weights, order, mirroring and sizes."""
    threads: int = 1
    """CPU threads."""
    precision: Precision = "auto"
    """Of the networks while training: bf16 helps CPUs with AVX512-BF16 or AMX."""


Arm = tuple[OptimizerName, int, float]


def main(cfg: Config) -> dict[Arm, dict[int, dict[str, float]]]:
    """Train and judge each, print the table; the figures by optimizer, batch size and rate, and by size."""
    if cfg.threads < 1:
        raise UserError(f"--threads must be at least 1, found {cfg.threads}.")
    if not all(0.0 < rate < 1.0 for rate in cfg.rates):
        raise UserError(f"--rates {' '.join(map(str, cfg.rates))}: expected numbers between 0 and 1.")
    arms = list(product(cfg.optimizers, cfg.batch_sizes, cfg.rates))
    trainings = [ShortTraining(cfg.faces, batch, rate, cfg.seed, name) for name, batch, rate in arms]
    torch.set_num_threads(cfg.threads)
    train = FaceReader(FaceSet(split_root(cfg.train_root, "train")))
    val = validation_faces(split_root(cfg.val_root, "val"), cfg.val_limit)
    embedder = load_embedder(cfg.edgeface, CPU)
    judge = load_embedder(cfg.judge, CPU) if cfg.judge else embedder
    loss = DsrLoss(embedder, "charbonnier", cfg.pixel_weight, cfg.identity_weight)
    mixed, sizes, reduction = in_bf16(cfg.precision, CPU), SizeChoice.parse(cfg.vlr_size), reduction_named("canonical")

    def loss_of(model: Dsr, pixels: Tensor, rows: list[int], generator: torch.Generator) -> Tensor:
        target, low = reduce_batch(pixels, generator, sizes, reduction, CPU)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            return loss(model(low).float(), target)[0]

    found: dict[Arm, dict[int, dict[str, float]]] = {}
    rows = []
    for arm, training in zip(arms, trainings, strict=True):
        torch.manual_seed(cfg.seed)
        model, speed = training.run(Dsr(preset(cfg.preset)), train, loss_of)
        found[arm] = judged(model, judge, val, sizes.validation_sizes())
        print(f"[{arm[0]}, {arm[1]} faces a step, rate {arm[2]:g}] {speed:.0f} faces a second", flush=True)
        for size, row in found[arm].items():
            shown = [f"{row['psnr']:.2f}", f"{row['identity']:.4f}", *(f"{100 * row[key]:.1f}" for key in RATES)]
            rows.append([arm[0], str(arm[1]), f"{arm[2]:g}", str(size), *shown])
    print("\n" + format_table(["optimizer", "batch", "rate", "size", "PSNR", "identity loss", *RATES], rows))
    print(
        f"\n{cfg.faces:,} training faces each, seed {cfg.seed}; {len(val)} validation faces, judged by "
        f"{judge.source.path.name}; TAR at FMR 1e-3 and EER in %."
    )
    return found


if __name__ == "__main__":
    cli.run(main, Config)
