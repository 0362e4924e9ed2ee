"""Make the training, validation and test sets: synthetic faces, or your own aligned 112x112 faces.

    python -m dsr.prepare_dataset
    python -m dsr.prepare_dataset synthetic --identities 60 --images 20 --seed 0 --out dataset
    python -m dsr.prepare_dataset folder --source faces.zip --out dataset --val-fraction 0.1 --test-fraction 0.2

Written are `<out>/{train,val,test}_processed/{hr_images,vlr_images}/<subject>_<n>.png`; nobody is in two splits.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro

from common.cli import run
from common.errors import UserError
from common.paths import REPOSITORY_ROOT, default_dataset
from dsr.face_import import assign_splits, import_samples, read_labelled, read_sources
from dsr.split_writer import split_folder, write_splits
from dsr.synthetic_set import divide, draw_set

SMALLEST_VLR, LARGEST_VLR = 8, 64


@dataclass(frozen=True)
class Synthetic:
    """Draw made-up people from a seed."""

    identities: int = 60
    """People in all splits together."""
    images: int = 20
    """Pictures of each person."""
    seed: int = 0
    """Which people, and which pictures of them."""
    out: Path = Path("dataset")
    """Folder that the splits are written into."""
    val_fraction: float = 0.15
    """Share of the people for validation; 0 for none."""
    test_fraction: float = 0.25
    """Share of the people for the test set; 0 for none."""
    vlr_size: int = 16
    """Side of the low-resolution images in pixels, 8 to 64."""
    workers: int = 0
    """Processes that draw; 0 for one a core. The images do not depend on it."""
    overwrite: bool = False
    """Replace splits that exist."""


@dataclass(frozen=True)
class Folder:
    """Convert aligned 112x112 faces, `identity/image` or `<subject>_<n>`, in folders or zips."""

    source: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """Folder or zip to read; give it again for more. The same identity name in two of them is the same person."""
    labels: Path | None = None
    """CSV table (file,identity,source,split,zip) that says who is who and fixes the splits it gives."""
    out: Path = Path("dataset")
    """Folder that the splits are written into."""
    val_fraction: float = 0.1
    """Share of the people for validation; 0 for none. Not used where the labels give splits."""
    test_fraction: float = 0.2
    """Share of the people for the test set; 0 for none. Not used where the labels give splits."""
    seed: int = 0
    """Which people go to which split."""
    vlr_size: int = 16
    """Side of the low-resolution images in pixels, 8 to 64."""
    overwrite: bool = False
    """Replace splits that exist."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
@dataclass(frozen=True)
class Config:
    """Which faces to prepare, and how."""

    kind: Synthetic | Folder = field(default_factory=Synthetic)
    """Where the faces come from; synthetic if nothing is said."""


def make_synthetic(cfg: Synthetic, leave: frozenset[str] = frozenset()) -> None:
    """Draw and write the synthetic set, without the splits in `leave`. UserError for numbers that give no set."""
    if cfg.images < 1:
        raise UserError(f"--images {cfg.images}: expected at least 1 picture of each person.")
    if cfg.seed < 0 or cfg.workers < 0:
        raise UserError(f"--seed {cfg.seed} --workers {cfg.workers}: neither may be negative.")
    _check_vlr_size(cfg.vlr_size)
    parts = divide(cfg.identities, {"val": cfg.val_fraction, "test": cfg.test_fraction})
    order = [split for split, count in parts.items() for _ in range(count)]
    people = {identity: split for identity, split in enumerate(order) if split not in leave}
    counts = {split: count * cfg.images for split, count in parts.items() if split not in leave}
    samples = draw_set(cfg.seed, people, cfg.images, cfg.workers)
    write_splits(cfg.out, samples, counts, cfg.vlr_size, _meta("synthetic", cfg), cfg.overwrite)


def convert_folder(cfg: Folder) -> None:
    """Write the faces of `cfg.source` as identity-disjoint splits. UserError for any input that cannot be used."""
    _check_vlr_size(cfg.vlr_size)
    if not cfg.source:
        raise UserError("no --source: give a folder or a zip of aligned 112x112 faces.")
    faces = read_labelled(cfg.source, cfg.labels) if cfg.labels else read_sources(cfg.source)
    splits = assign_splits(faces, {"val": cfg.val_fraction, "test": cfg.test_fraction}, cfg.seed)
    counts = Counter(splits[face.person] for face in faces)
    write_splits(cfg.out, import_samples(faces, splits), counts, cfg.vlr_size, _meta("folder", cfg), cfg.overwrite)


def ensure_training_data(seed: int = 0) -> Path:
    """The training split that is there, or else the default synthetic set, made now under `dataset/`.

    Splits that exist are left as they are. Returns the training split's folder.
    """
    found = default_dataset("train")
    if found is not None:
        return found
    cfg = Synthetic(seed=seed, out=REPOSITORY_ROOT / "dataset")
    print(
        f"No training data under dataset/train_processed: making the synthetic set there "
        f"({cfg.identities} people, {cfg.images} pictures of each, seed {seed})."
    )
    there = frozenset(split for split in ("val", "test") if default_dataset(split) is not None)
    make_synthetic(cfg, leave=there)
    return split_folder(cfg.out, "train")


def main(cfg: Config) -> None:
    if isinstance(cfg.kind, Folder):
        convert_folder(cfg.kind)
    else:
        make_synthetic(cfg.kind)


def _check_vlr_size(size: int) -> None:
    if not SMALLEST_VLR <= size <= LARGEST_VLR:
        raise UserError(f"--vlr-size {size}: expected {SMALLEST_VLR} to {LARGEST_VLR}, the sizes that DSR takes.")


def _meta(kind: str, cfg: Synthetic | Folder) -> dict[str, Any]:
    """What made a split: enough to make it again. The number of workers and --overwrite change nothing in it."""
    options = {name: _plain(value) for name, value in asdict(cfg).items() if name not in ("workers", "overwrite")}
    words = ["python", "-m", "dsr.prepare_dataset", kind]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if one is None else [f"--{name.replace('_', '-')}", str(one)]
    source = "drawn by dsr.synthetic; no photograph" if kind == "synthetic" else options["source"]
    return {"command": shlex.join(words), "source": source, "seed": cfg.seed, "options": options}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [str(item) for item in value] if isinstance(value, tuple) else value


if __name__ == "__main__":
    run(main, Config)
