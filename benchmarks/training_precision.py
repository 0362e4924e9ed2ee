"""What bf16 does to the training of a DSR: faces a second beside fp32, and how far the gradients agree.

    python benchmarks/training_precision.py --images dataset/val_processed --edgeface edgeface_xxs.pt --threads 1

Both precisions take turns on the same faces at 16 pixels, DSR and frozen EdgeFace together. The gradients are those of
the DSR's weights, of the pixel loss and of the identity loss apart; the optimiser's step is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import cli
from common.device import select_device
from common.errors import UserError
from common.paths import find_dataset
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, evenly_spaced, to_float
from dsr.degradation import canonical_reduce
from dsr.losses import charbonnier_loss, embed_targets, identity_loss
from dsr.model import Dsr
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.tables import format_table
from facial_rec.timing import seconds_of
from pipeline.networks import DEFAULT_DSR

SIZE = 16


@dataclass(frozen=True)
class Config:
    """What to train on, and how long."""

    images: Path
    """Aligned 112x112 faces: a folder or a zip."""
    edgeface: str
    """Frozen float recogniser of the identity loss: a path, or a name in checkpoints/."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    batch_size: int = 16
    """Faces a step."""
    steps: int = 20
    """Steps of each precision that are timed."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


def main(cfg: Config) -> dict[str, float]:
    """Print the table, and return rates and agreement."""
    if cfg.batch_size < 1 or cfg.steps < 1 or cfg.threads < 0:
        raise UserError("--batch-size and --steps must be at least 1, --threads at least 0.")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    device = select_device(cfg.device)
    faces = FaceSet(find_dataset(cfg.images))
    reader = FaceReader(faces, evenly_spaced(faces.faces, cfg.batch_size), 1.0)
    high = to_float(reader.read(range(len(reader))), device)
    network, _ = load_dsr(cfg.dsr, device)
    network.train().requires_grad_(True)
    embedder = load_embedder(cfg.edgeface, device)

    def step(mixed: bool) -> tuple[Tensor, Tensor]:
        return gradients(network, embedder, high, mixed)

    exact, rough = step(False), step(True)
    seconds = {mixed: 0.0 for mixed in (False, True)}
    for _ in range(cfg.steps):
        for mixed in seconds:
            seconds[mixed] += seconds_of(lambda mixed=mixed: step(mixed), device)  # type: ignore[misc]
    rates = {mixed: len(high) * cfg.steps / value for mixed, value in seconds.items()}
    agreement = [float(F.cosine_similarity(a, b, dim=0)) for a, b in zip(exact, rough, strict=True)]
    found = {"fp32": rates[False], "bf16": rates[True], "ratio": rates[True] / rates[False]}
    found |= {"cosine_pixel": agreement[0], "cosine_identity": agreement[1]}
    cells = [f"{found[name]:.1f}" for name in ("fp32", "bf16")]
    cells += [f"{found[name]:.{decimals}f}" for name, decimals in (("ratio", 2), ("cosine_pixel", 4))]
    cells.append(f"{found['cosine_identity']:.4f}")
    header = ["", "fp32, faces/s", "bf16, faces/s", "bf16 / fp32", "cosine, pixel", "cosine, identity"]
    print(format_table(header, [[f"{len(high)} faces a step", *cells]]))
    return found


def gradients(network: Dsr, embedder: nn.Module, high: Tensor, mixed: bool) -> tuple[Tensor, Tensor]:
    """Of the pixel and of the identity loss, each as one long vector."""
    with torch.autocast(high.device.type, dtype=torch.bfloat16, enabled=mixed):
        output = network(canonical_reduce(high, SIZE)).float()
        losses = charbonnier_loss(output, high), identity_loss(embedder, output, embed_targets(embedder, high))
    weights = list(network.parameters())
    parts = [torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) for loss in losses]
    pixel, identity = (torch.cat([g.flatten() for g in part if g is not None]) for part in parts)
    return pixel, identity


if __name__ == "__main__":
    cli.run(main, Config)
