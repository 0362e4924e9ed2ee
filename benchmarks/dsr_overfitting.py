"""How much better a DSR does on the people it was trained on than on others: PSNR and identity loss, beside bicubic.

    python benchmarks/dsr_overfitting.py --train dataset/train_processed --val dataset/val_processed

The ratio is of identity losses, DSR to bicubic on the same faces, so that a set of harder faces does not show. The gap
is by how much it is lower on training faces: what more people, or more varied ones, could still bring to others.
With --strangers both sets are made into faces of nobody first, each out of two of the set: what is left of the gap then
does not come from remembering single photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common import cli
from common.errors import UserError
from common.paths import find_dataset
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, evenly_spaced, to_float
from dsr.training import Validation
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.finetune_augment import Augmentation, make_strangers
from facial_rec.tables import format_table
from pipeline.networks import DEFAULT_DSR


@dataclass(frozen=True)
class Config:
    """What to compare."""

    train: Path
    """Faces that the DSR was trained on: a folder or a zip of aligned 112x112 faces."""
    val: Path
    """Faces of other people, likewise."""
    dsr: tuple[str, ...] = (DEFAULT_DSR,)
    """DSR checkpoints, looked up in checkpoints/ too."""
    edgeface: str = "edgeface_xxs.pt"
    """Recogniser that the identity loss looks through."""
    vlr_size: tuple[int, ...] = (16, 24, 32)
    """Sides of the low-resolution faces in pixels, 8 to 64."""
    limit: int = 700
    """Faces to use of each set, spread evenly; 0 for all."""
    strangers: bool = False
    """Measure on faces of nobody instead, made out of those of each set."""


class Strangers(FaceReader):
    """The same number of faces of people who do not exist; the same ones every time."""

    def read(self, indices: Sequence[int]) -> Tensor:
        generator, all_strangers = torch.Generator().manual_seed(0), Augmentation(stranger=1.0)
        parts = to_float(super().read(indices)).split(64)
        made = [make_strangers(part, all_strangers, generator)[0] for part in parts]
        return torch.cat(made).mul(255.0).round().to(torch.uint8)


def main(cfg: Config) -> dict[str, dict[int, dict[str, float]]]:
    """Print the table; return, by checkpoint and size, the ratio on `train` and on `val`."""
    if cfg.limit < 0:
        raise UserError(f"--limit {cfg.limit}: expected 0 or more faces.")
    device = torch.device("cpu")
    embedder = load_embedder(cfg.edgeface)
    sets = {}
    for name, root in (("train", cfg.train), ("val", cfg.val)):
        faces = FaceSet(find_dataset(root))
        kind = Strangers if cfg.strangers else FaceReader
        reader = kind(faces, evenly_spaced(faces.faces, cfg.limit), 1.0)
        sets[name] = Validation(reader, list(cfg.vlr_size), embedder, device)
    rows, found = [], {}
    for checkpoint in cfg.dsr:
        model, _ = load_dsr(checkpoint)
        ran = {name: validation.run(model.eval()) for name, validation in sets.items()}
        found[checkpoint] = {size: {name: _ratio(run[str(size)]) for name, run in ran.items()} for size in cfg.vlr_size}
        for size in cfg.vlr_size:
            ratios, figures = found[checkpoint][size], [run[str(size)] for run in ran.values()]
            gains = [f"{one['dsr']['psnr'] - one['bicubic']['psnr']:+.2f}" for one in figures]
            losses = [f"{one['dsr']['identity_loss']:.4f}" for one in figures]
            gap = ratios["val"] - ratios["train"]
            shown = [*gains, *losses, f"{ratios['train']:.3f}", f"{ratios['val']:.3f}", f"{gap:+.3f}"]
            rows.append([checkpoint, str(size), *shown])
    header = ["DSR", "size", "dB, train", "val", "identity loss, train", "val", "ratio, train", "val", "gap"]
    counts = " and ".join(str(len(one.high)) for one in sets.values())
    made = ", made into nobody's" if cfg.strangers else ""
    print(f"{counts} training and other faces{made}; beside bicubic")
    print(format_table(header, rows))
    return found


def _ratio(figures: dict[str, dict[str, float]]) -> float:
    return figures["dsr"]["identity_loss"] / max(figures["bicubic"]["identity_loss"], 1e-9)


if __name__ == "__main__":
    cli.run(main, Config)
