"""Pack faces into one InsightFace `.rec` with its `.idx`: a million files less to open, and people numbered anew.

    python -m facial_rec.pack_records --faces my_faces --out train.rec

Images are copied as they are, byte for byte. `--faces` may be a `.rec` too, one whose numbers have gaps for example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import cli
from common.errors import UserError
from common.paths import find_dataset
from common.progress import progress_bar
from facial_rec.labelled_faces import LabelledFaces, load_faces
from facial_rec.record_file import write_people


@dataclass(frozen=True)
class Config:
    """What to pack."""

    faces: Path
    """Aligned 112x112 faces: a folder or zip with a folder per identity, or a .rec."""
    out: Path = Path("train.rec")
    """The .rec to write; its .idx is written beside it."""
    unlabelled: tuple[str, ...] = ("unlabelled",)
    """Folders of faces without identity, which are left out."""
    least_photos: int = 1
    """People with fewer photos are left out."""


def main(cfg: Config) -> Path:
    """Write the two files and return the `.rec`."""
    if cfg.out.exists():
        raise UserError(f"{cfg.out} exists already: choose another --out, or remove it.")
    if cfg.least_photos < 1:
        raise UserError(f"--least-photos must be at least 1, found {cfg.least_photos}.")
    faces = load_faces(find_dataset(cfg.faces), cfg.unlabelled)
    images, people = write_people(cfg.out, _people(faces, cfg.least_photos))
    print(f"written: {cfg.out} and {cfg.out.with_suffix('.idx').name}, {images:,} images of {people:,} people")
    return cfg.out


def _people(faces: LabelledFaces, least_photos: int) -> Iterator[list[bytes]]:
    """The encoded images of each person; every one is decoded once, so that a bad one is named now."""
    order = np.argsort(faces.labels, kind="stable")
    _, starts = np.unique(faces.labels[order], return_index=True)
    groups = [group for group in np.split(order, starts[1:]) if len(group) >= least_photos]
    if not groups:
        raise UserError(f"{faces.label} has nobody with {least_photos} photos: lower --least-photos.")
    with progress_bar(len(groups), "packing", "person") as progress:
        for group in groups:
            names = [faces.name(int(index)) for index in group]
            for name in names:
                faces.read(name)
            yield [faces.read_bytes(name) for name in names]
            progress.update()


if __name__ == "__main__":
    cli.run(main, Config)
