"""Which shape of the DSR learns most for its price: short trainings of equal length, one network after another.

    python benchmarks/dsr_designs.py --train-root dataset/train_processed --val-root dataset/val_processed

Pixel loss alone, since it tells networks apart sooner than the identity loss does and costs half the time. Every
network sees the same faces at the same sizes from the same seed; its gain is its PSNR above bicubic's on people it has
not seen, its price the time of one face on one thread of onnxruntime, as a ratio to EdgeFace's in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from common import cli
from common.errors import UserError
from common.onnx_session import open_session, session_options
from dsr.data import FaceReader, SizeChoice, evenly_spaced, to_float
from dsr.degradation import bicubic_enlarge, canonical_reduce
from dsr.losses import charbonnier_loss
from dsr.model import Dsr, DsrConfig, preset
from dsr.quality import psnr
from dsr.short_training import ShortTraining, split_root
from dsr.training import reduce_batch, reduction_named
from facial_rec.faceset import FaceSet
from facial_rec.tables import format_table
from facial_rec.timing import time_in_turns
from pipeline.export_graphs import Sources, load_sources, onnx_graph
from pipeline.networks import DEFAULT_EDGEFACE
from pipeline.onnx_models import INPUT, OUTPUT

BASE = preset("separate")
DESIGNS: dict[str, DsrConfig] = {
    "default": preset("default"),
    "without overlap": BASE,
    "4 blocks": replace(BASE, blocks=4),
    "6 blocks": replace(BASE, blocks=6),
    "96 channels, 2 blocks": replace(BASE, channels=96, blocks=2),
    "cells of 8 pixels, 6 blocks": replace(BASE, cell=8, blocks=6),
    "cells of 4 pixels, 32 channels": replace(BASE, cell=4, channels=32),
}
SIZES = (16, 24, 32)


@dataclass(frozen=True)
class Config:
    """What is compared, on what."""

    train_root: Path | None = None
    """Training faces (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Validation faces of other people (default: dataset/val_processed)."""
    edgeface: str = DEFAULT_EDGEFACE
    """EdgeFace whose time is the unit of price."""
    designs: tuple[str, ...] = tuple(DESIGNS)
    """Which networks."""
    faces: int = 16_000
    """Training faces each one sees."""
    batch_size: int = 16
    """Faces a step."""
    val_limit: int = 362
    """Validation faces, spread evenly; 0 for all."""
    rounds: int = 60
    """How often each network is timed; they take turns with EdgeFace."""
    seed: int = 0
    """Seed of weights, order, mirroring and sizes."""
    threads: int = 1
    """CPU threads of the training; times are always of one."""


def main(cfg: Config) -> list[list[str]]:
    """Train and time each design, print the table, and return its rows."""
    if unknown := [name for name in cfg.designs if name not in DESIGNS]:
        raise UserError(f"--designs {', '.join(unknown)}: expected some of {'; '.join(DESIGNS)}.")
    if cfg.rounds < 1 or cfg.threads < 1:
        raise UserError("--rounds and --threads must be at least 1.")
    torch.set_num_threads(cfg.threads)
    train, held = FaceSet(split_root(cfg.train_root, "train")), FaceSet(split_root(cfg.val_root, "val"))
    reader, val = FaceReader(train), FaceReader(held, evenly_spaced(held.faces, cfg.val_limit))
    high = to_float(val.read(range(len(val))))
    recogniser = load_sources("edgeface", cfg.edgeface, "")
    rows = []
    for name in cfg.designs:
        print(f"[design] {name}", flush=True)
        ratio = price(DESIGNS[name], recogniser, cfg.rounds)
        model, rate = trained(DESIGNS[name], reader, cfg)
        gains = [f"{gain(model, high, size):+.2f}" for size in SIZES]
        count = sum(parameter.numel() for parameter in model.parameters())
        rows.append([name, f"{count:,}", f"{ratio:.2f}", *gains, f"{rate:.0f}"])
    header = ["design", "parameters", "x EdgeFace", *(f"dB at {size}" for size in SIZES), "faces/s in training"]
    print(f"\n{format_table(header, rows)}")
    print(
        f"\n{cfg.faces:,} training faces, pixel loss alone, seed {cfg.seed}; mean PSNR above bicubic over {len(high)} "
        f"validation faces; time of one face on one thread of onnxruntime, median of {cfg.rounds} turns."
    )
    return rows


def trained(design: DsrConfig, train: FaceReader, cfg: Config) -> tuple[Dsr, float]:
    """The averaged network after `cfg.faces` faces, and how many a second it was trained on."""
    torch.manual_seed(cfg.seed)
    sizes, reduction = SizeChoice.parse([str(size) for size in SIZES]), reduction_named("canonical")

    def loss_of(model: Dsr, pixels: Tensor, rows: list[int], generator: torch.Generator) -> Tensor:
        target, low = reduce_batch(pixels, generator, sizes, reduction, torch.device("cpu"))
        return charbonnier_loss(model(low), target)

    return ShortTraining(cfg.faces, cfg.batch_size, seed=cfg.seed).run(Dsr(design), train, loss_of)


@torch.no_grad()
def gain(model: Dsr, high: torch.Tensor, size: int) -> float:
    """Mean PSNR of the DSR minus that of bicubic, in dB, over `high` `(N, 3, 112, 112)` reduced to `size`."""
    low = canonical_reduce(high, size)
    upscaled = torch.cat([model(part) for part in low.split(64)])
    return float((psnr(upscaled, high) - psnr(bicubic_enlarge(low), high)).mean())


def price(design: DsrConfig, recogniser: Sources, rounds: int) -> float:
    """Time of one face of 16 pixels, as a multiple of EdgeFace's, on one thread of onnxruntime, taking turns."""
    upscaler = Dsr(design).eval().requires_grad_(False)
    low, face = np.full((1, 3, 16, 16), 0.5, np.float32), np.zeros((1, 3, 112, 112), np.float32)
    calls = {
        "dsr": _call(onnx_graph("dsr", replace(recogniser, dsr=upscaler)), low),
        "edgeface": _call(onnx_graph("edgeface", recogniser), face),
    }
    medians = time_in_turns(calls, rounds, torch.device("cpu"))
    return medians["dsr"] / medians["edgeface"]


def _call(graph: ModelProto, images: NDArray[np.float32]) -> Callable[[], object]:
    """A call of `graph` on one thread."""
    session = open_session(graph.SerializeToString(), session_options(1))
    return lambda: session.run([OUTPUT], {INPUT: images})


if __name__ == "__main__":
    cli.run(main, Config)
