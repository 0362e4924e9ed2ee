"""What averaging over mirror images would bring, in the DSR, in the recogniser, and in both, at twice their time each.

    python benchmarks/mirror_average.py --images dataset/val_processed

In the DSR: the mean of its output and of the mirrored output for the mirrored input. In the recogniser: the unit sum of
the embeddings of an image and of its mirror image, as verification code often does. A gain in the DSR says how much of
its error depends on which way a face looks, which `pipeline.train_chain --mirror-weight` trains away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from common import cli
from common.device import select_device
from common.errors import UserError
from common.paths import find_dataset
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, evenly_spaced, to_float
from dsr.degradation import canonical_reduce, round_to_8bit
from dsr.quality import psnr
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.finetune_validation import figures
from facial_rec.identities import numbers_of
from facial_rec.tables import format_table
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE

BATCH = 64
METHODS = {"as it is": (False, False), "recogniser": (False, True), "DSR": (True, False), "both": (True, True)}


@dataclass(frozen=True)
class Config:
    """What to average."""

    images: Path
    """Aligned 112x112 faces, several of a person: a folder or a zip."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    edgeface: str = DEFAULT_EDGEFACE
    """Recogniser, looked up in checkpoints/ too."""
    vlr_size: tuple[int, ...] = (16, 24, 32)
    """Sides of the low-resolution faces in pixels, 8 to 64."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    limit: int = 1500
    """Faces to use, spread evenly; 0 for all."""


@torch.no_grad()
def main(cfg: Config) -> dict[int, dict[str, dict[str, float]]]:
    """Print the table, and return it by size and method: PSNR in dB, TAR at FMR 1e-3 and EER of LR-HR and LR-LR."""
    if cfg.limit < 0:
        raise UserError(f"--limit {cfg.limit}: expected 0 or more faces.")
    device = select_device(cfg.device)
    faces = FaceSet(find_dataset(cfg.images))
    reader = FaceReader(faces, evenly_spaced(faces.faces, cfg.limit), 4.0)
    people = numbers_of(reader.faces)
    if len(people) < 2 or (people[:, None] == people).sum() == len(people):
        raise UserError(f"{faces.root} has no person with two photos: nothing can be verified.")
    model, _ = load_dsr(cfg.dsr, device)
    embedder = load_embedder(cfg.edgeface, device)
    high = to_float(reader.read(range(len(reader))))
    gallery = {twice: _batched(_embedding(embedder, twice), high, device) for twice in (False, True)}
    found: dict[int, dict[str, dict[str, float]]] = {}
    for size in cfg.vlr_size:
        low = canonical_reduce(high, size)
        restored = {twice: _batched(_restoring(model.eval(), twice), low, device) for twice in (False, True)}
        found[size] = {}
        for method, (dsr_twice, embedder_twice) in METHODS.items():
            images, true = restored[dsr_twice], gallery[embedder_twice].numpy()
            probes = _batched(_embedding(embedder, embedder_twice), images, device).numpy()
            lr_hr, lr_lr = figures(probes, true, people), figures(probes, probes, people, mirrored=True)
            found[size][method] = {"psnr": float(psnr(images, high).mean())}
            found[size][method] |= {f"{key}, lr-hr": lr_hr[key] for key in ("tar", "eer")}
            found[size][method] |= {f"{key}, lr-lr": lr_lr[key] for key in ("tar", "eer")}
    print(f"{len(high)} faces; averaged over both mirror images in:")
    rows = [
        [
            str(size),
            method,
            f"{row['psnr']:.2f}",
            *(f"{100 * value:.2f}" for key, value in row.items() if key != "psnr"),
        ]
        for size, methods in found.items()
        for method, row in methods.items()
    ]
    print(format_table(["size", "averaged", "PSNR", "TAR, LR-HR", "EER", "TAR, LR-LR", "EER"], rows))
    return found


def _restoring(model: Callable[[Tensor], Tensor], twice: bool) -> Callable[[Tensor], Tensor]:
    def restore(low: Tensor) -> Tensor:
        output = model(low)
        return round_to_8bit((output + model(low.flip(3)).flip(3)) / 2 if twice else output)

    return restore


def _embedding(embedder: Callable[[Tensor], Tensor], twice: bool) -> Callable[[Tensor], Tensor]:
    def embed(images: Tensor) -> Tensor:
        unit = F.normalize(embedder(images).float())
        return F.normalize(unit + F.normalize(embedder(images.flip(3)).float())) if twice else unit

    return embed


def _batched(work: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    return torch.cat([work(batch.to(device)).cpu() for batch in images.split(BATCH)])


if __name__ == "__main__":
    cli.run(main, Config)
