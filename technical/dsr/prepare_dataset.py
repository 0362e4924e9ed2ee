"""Make the training, validation and test sets: synthetic faces, your own aligned 112x112 faces, or LFW (test only).

    python -m dsr.prepare_dataset
    python -m dsr.prepare_dataset synthetic --identities 60 --images 20 --seed 0 --out dataset
    python -m dsr.prepare_dataset folder --source faces.zip --out dataset --val-fraction 0.1 --test-fraction 0.2
    python -m dsr.prepare_dataset lfw --out dataset

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
from common.images import ImageStore
from common.paths import REPOSITORY_ROOT, default_dataset
from dsr.face_import import assign_splits, import_samples, read_labelled, read_sources
from dsr.lfw import ALIGNED, align_photos, fetch_lfw, photos_mark, remove_aligned
from dsr.split_writer import refuse_existing, split_folder, write_splits
from dsr.synthetic_set import divide, draw_set
from facial_rec.detector import DetectorName, load_detector

SMALLEST_VLR, LARGEST_VLR = 8, 64
DRAWN = "drawn by dsr.synthetic; no photograph"  # the source that the meta.json of a synthetic set names


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


@dataclass(frozen=True)
class Lfw:
    """Fetch LFW through scikit-learn, align it, and write it as the test split."""

    source: Path | None = None
    """Folder or zip of LFW's original photos, Name/Name_0001.jpg; nothing is downloaded then."""
    data_home: Path | None = None
    """Where scikit-learn keeps its data; its own default if not given."""
    out: Path = Path("dataset")
    """Folder that the split is written into."""
    split: str = "test"
    """Only test: LFW is for testing, and training or tuning on it would make every figure on it worthless."""
    detector: DetectorName = "mtcnn"
    """mtcnn works straight after installation; yunet is faster, and its file is downloaded the first time."""
    weights: Path | None = None
    """YuNet's ONNX file, where it is not in checkpoints/."""
    vlr_size: int = 16
    """Side of the low-resolution images in pixels, 8 to 64."""
    overwrite: bool = False
    """Replace a split that exists."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
@dataclass(frozen=True)
class Config:
    """Which faces to prepare, and how."""

    kind: Synthetic | Folder | Lfw = field(default_factory=Synthetic)
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
    if cfg.seed < 0:
        raise UserError(f"--seed {cfg.seed}: expected 0 or more.")
    faces = read_labelled(cfg.source, cfg.labels) if cfg.labels else read_sources(cfg.source)
    splits = assign_splits(faces, {"val": cfg.val_fraction, "test": cfg.test_fraction}, cfg.seed)
    counts = Counter(splits[face.person] for face in faces)
    write_splits(cfg.out, import_samples(faces, splits), counts, cfg.vlr_size, _meta("folder", cfg), cfg.overwrite)


def prepare_lfw(cfg: Lfw) -> None:
    """Write LFW's aligned faces as the test split. A run that was killed goes on where it was.

    UserError for another split, for photos that cannot be fetched or read, and as `load_detector`.
    """
    if cfg.split != "test":
        raise UserError(f"--split {cfg.split}: LFW is a test set. Train and tune on other faces (`folder`).")
    _check_vlr_size(cfg.vlr_size)
    refuse_existing(cfg.out, ["test"], cfg.overwrite)
    detector = load_detector(cfg.detector, cfg.weights)
    photos = ImageStore(fetch_lfw(cfg.data_home) if cfg.source is None else cfg.source)
    aligned = cfg.out / f"{ALIGNED}{detector.name}_{photos_mark(photos)}"
    centred = align_photos(photos, aligned, detector)
    if centred:
        print(f"{detector.name} found no face in {len(centred)} of {len(photos)} photos: cut out at the usual place.")
    faces = read_sources([aligned])
    splits = {face.person: "test" for face in faces}
    meta = {**_meta("lfw", cfg), "cut_out_without_detection": centred}
    write_splits(cfg.out, import_samples(faces, splits), {"test": len(faces)}, cfg.vlr_size, meta, cfg.overwrite)
    for left in cfg.out.glob(f"{ALIGNED}*"):  # of other photos or detectors too: runs that were killed
        remove_aligned(left)


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
    elif isinstance(cfg.kind, Lfw):
        prepare_lfw(cfg.kind)
    else:
        make_synthetic(cfg.kind)


def _check_vlr_size(size: int) -> None:
    if not SMALLEST_VLR <= size <= LARGEST_VLR:
        raise UserError(f"--vlr-size {size}: expected {SMALLEST_VLR} to {LARGEST_VLR}, the sizes that DSR takes.")


def _meta(kind: str, cfg: Synthetic | Folder | Lfw) -> dict[str, Any]:
    """What made a split: enough to make it again. The number of workers and --overwrite change nothing in it."""
    options = {name: _plain(value) for name, value in asdict(cfg).items() if name not in ("workers", "overwrite")}
    words = ["python", "-m", "dsr.prepare_dataset", kind]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if one is None else [f"--{name.replace('_', '-')}", str(one)]
    sources = {
        "synthetic": DRAWN,
        "lfw": "LFW, test only",
        "folder": options.get("source"),
    }
    seed = {} if isinstance(cfg, Lfw) else {"seed": cfg.seed}
    return {"command": shlex.join(words), "source": sources[kind], **seed, "options": options}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [str(item) for item in value] if isinstance(value, tuple) else value


if __name__ == "__main__":
    run(main, Config)
