"""Write the pairs of a list, with their images, as a `.bin` verification set in InsightFace's form.

    python -m pipeline.make_bin --images lfw_112.zip --pairs pairs.txt --out lfw.bin

Image files are copied as they are, two a pair, so an image in several pairs is there several times. A .bin names no
people: for figures with intervals over people, evaluate the images and the list themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.errors import UserError
from common.images import ImageStore
from common.paths import find_dataset
from common.progress import progress_bar
from facial_rec.bin_sets import write_bin
from facial_rec.faceset import HR_SIZE
from facial_rec.pairs import read_pairs


@dataclass(frozen=True)
class Config:
    """What to write, and where."""

    images: Path
    """Folder or zip of aligned 112x112 faces, Name/Name_0001.jpg (any suffix)."""
    pairs: Path
    """Pair list in LFW's format."""
    out: Path
    """The .bin file to write."""


def main(cfg: Config) -> None:
    """Write `cfg.out`; an image that cannot be read, or of another size, is a UserError that names it."""
    if cfg.out.suffix != ".bin":
        raise UserError(f"--out {cfg.out}: expected a name that ends in .bin, by which such files are known.")
    store = ImageStore(find_dataset(cfg.images))
    pairs = read_pairs(cfg.pairs, store.names)
    with progress_bar(len(pairs.images), "checking", "image") as progress:
        for name in pairs.images:
            store.read(name, (HR_SIZE, HR_SIZE))
            progress.update()
    encoded = {name: store.read_bytes(name) for name in pairs.images}
    images = [encoded[name] for pair in pairs.pairs for name in (pair.first, pair.second)]
    write_bin(cfg.out, images, [pair.genuine for pair in pairs.pairs])
    print(f"written: {cfg.out}, {len(pairs):,} pairs ({int(pairs.genuine.sum()):,} genuine)")


if __name__ == "__main__":
    cli.run(main, Config)
