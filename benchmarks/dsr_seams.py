"""Whether the DSR's cells show: steps across their borders, relative to steps inside, beside bicubic and the truth.

    python benchmarks/dsr_seams.py --images dataset/val_processed

1 means that nothing shows. The DSR works on cells of 7 x 7 pixels, which overlap in the default (not in the preset
`separate`), so a value above the true faces' is a seam. A second figure is of a texture that repeats twice in a cell:
power at that period over the power beside it. Both are means over faces and both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from common import cli
from common.errors import UserError
from common.paths import find_dataset
from dsr.checkpoint import load_dsr
from dsr.data import FaceReader, evenly_spaced, to_float
from dsr.degradation import bicubic_enlarge, canonical_reduce
from dsr.quality import border_steps, cell_pattern
from facial_rec.faceset import FaceSet
from facial_rec.tables import format_table
from pipeline.networks import DEFAULT_DSR


@dataclass(frozen=True)
class Config:
    """What to look at."""

    images: Path
    """Aligned 112x112 faces: a folder or a zip."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too."""
    vlr_size: tuple[int, ...] = (8, 16, 24, 32)
    """Sides of the low-resolution faces in pixels, 8 to 64."""
    limit: int = 128
    """Faces to use, spread evenly; 0 for all."""


def main(cfg: Config) -> dict[int, dict[str, float]]:
    """Print the tables, and return them by size and method, the texture's as `<method>, texture`."""
    if cfg.limit < 0:
        raise UserError(f"--limit {cfg.limit}: expected 0 or more faces.")
    faces = FaceSet(find_dataset(cfg.images))
    reader = FaceReader(faces, evenly_spaced(faces.faces, cfg.limit), 1.0)
    model, info = load_dsr(cfg.dsr)
    high = to_float(reader.read(range(len(reader))))
    found = {}
    with torch.no_grad():
        for size in cfg.vlr_size:
            low = canonical_reduce(high, size)
            images = {"bicubic": bicubic_enlarge(low), "dsr": model(low), "hr": high}
            found[size] = {name: border_steps(batch, info.config.cell) for name, batch in images.items()}
            textures = {f"{name}, texture": cell_pattern(batch, info.config.cell) for name, batch in images.items()}
            found[size] |= textures
    rows = [[str(size), *(f"{value:.3f}" for value in values.values())] for size, values in found.items()]
    print(
        f"{len(high)} faces, cells of {info.config.cell} pixels; steps across borders / steps inside cells, then power "
        "at half a cell's period / power beside it"
    )
    print(format_table(["size", *("bicubic", "DSR", "true faces") * 2], rows))
    return found


if __name__ == "__main__":
    cli.run(main, Config)
