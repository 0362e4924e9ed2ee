"""What the notebooks start from: faces of three groups of people, a recogniser and a DSR; the user's, or made up.

With nothing given, `pipeline.demo` makes everything, once, in a few minutes. `DSR_TINY=1` takes coloured patterns and
networks that have learnt nothing instead, so that a notebook runs in seconds: the tests do that, and no figure or
picture made so means anything. `DSR_NOTEBOOKS` names another folder than runs/notebooks for what is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from common.images import RgbImage, write_png
from common.paths import REPOSITORY_ROOT, find_dataset
from dsr import prepare_dataset
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from facial_rec.faceset import FaceSet
from facial_rec.sources import StoreSource
from pipeline import demo
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE
from pipeline.study import images_sha256

SPLITS = ("train", "val", "test")
TINY_PEOPLE = {"train": 10, "val": 12, "test": 12}
TINY_PHOTOS = 4


@dataclass(frozen=True)
class Materials:
    """What a notebook works with; nobody is in two of the three sets."""

    train: Path
    val: Path
    test: Path
    edgeface: str
    dsr: str
    note: str
    """One sentence on what these are, to stand above every figure."""

    @property
    def mark(self) -> str:
        """Ten hex digits that change with the faces trained and validated on, for names of folders made from them."""
        return _mark(self.train, self.val)


def is_tiny() -> bool:
    """Whether the notebook is only to be shown to run (`DSR_TINY=1`)."""
    return os.environ.get("DSR_TINY") == "1"


def made_folder() -> Path:
    """Where notebooks keep what they make: runs/notebooks, or `DSR_NOTEBOOKS`."""
    return Path(os.environ.get("DSR_NOTEBOOKS") or REPOSITORY_ROOT / "runs" / "notebooks")


def committed_results(what: str) -> Path | None:
    """`notebooks/results/<what>.json`, the results of a real study that are kept in git; None if there are none."""
    path = REPOSITORY_ROOT / "notebooks" / "results" / f"{what}.json"
    return path if path.is_file() else None


def materials(faces: Path | str | None = None, edgeface: str | None = None, dsr: str | None = None) -> Materials:
    """Faces and networks for a notebook.

    `faces`: aligned 112x112 faces, a folder per identity or a zip, which is split by person (60 % training, 20 %
    validation, 20 % test); or a folder that has the splits already (`train_processed` and so on). None: made-up people.
    `edgeface`, `dsr`: weights; None: those in checkpoints/, else for made-up people the demo's own, which it trains.
    For own faces weights are not looked for here: who loads them says what is missing. Raises UserError for faces that
    are.
    """
    if is_tiny():
        return _tiny_materials()
    if faces is None:
        return _demo_materials(edgeface, dsr)
    train, val, test = _own_splits(Path(faces))
    note = f"Faces of {faces}, split by person."
    return Materials(train, val, test, edgeface or DEFAULT_EDGEFACE, dsr or DEFAULT_DSR, note)


def example_faces(root: Path, people: int = 4, photos: int = 3) -> list[list[str]]:
    """Names of the first `photos` images of the first `people` who have that many: a list a person.

    Raises UserError when there are not two such people.
    """
    by_person: dict[str, list[str]] = {}
    for face in FaceSet(root).faces:
        by_person.setdefault(face.subject, []).append(face.name)
    chosen = [names[:photos] for names in by_person.values() if len(names) >= photos][:people]
    if len(chosen) < 2:
        raise UserError(f"{root}: expected two people with {photos} photos each, found {len(chosen)}.")
    return chosen


def read_faces(root: Path, names: Sequence[str]) -> list[RgbImage]:
    """The pictures, RGB uint8 `(112, 112, 3)`."""
    faces = FaceSet(root)
    by_name = {face.name: face for face in faces.faces}
    return [faces.read(by_name[name]) for name in names]


def _mark(*places: Path) -> str:
    """Ten hex digits that change with where the faces lie, their names, and what is in them."""
    parts = [f"{place.resolve()}\n{images_sha256(StoreSource(FaceSet(place).store))}" for place in places]
    return sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:10]


def _own_splits(faces: Path) -> tuple[Path, Path, Path]:
    faces = find_dataset(faces)
    if not (faces / "train_processed").is_dir():
        out = made_folder() / f"own_{_mark(faces)}"
        if not all((out / f"{split}_processed" / "meta.json").is_file() for split in SPLITS):
            print(f"Splitting {faces} by person into {out}, once")
            folder = prepare_dataset.Folder(source=(faces,), out=out, val_fraction=0.2, overwrite=True)
            prepare_dataset.convert_folder(folder)
        faces = out
    train, val, test = (find_dataset(faces / f"{split}_processed") for split in SPLITS)
    return train, val, test


def _demo_materials(edgeface: str | None, dsr: str | None) -> Materials:
    cfg = demo.Config(out=made_folder() / "demo", edgeface=edgeface, dsr=dsr)
    recogniser, upscaler = demo.recogniser_at_hand(cfg), demo.dsr_at_hand(cfg)
    if recogniser is None or upscaler is None:
        demo.main(cfg)
    else:
        demo.drawn_faces(cfg)
    recogniser, upscaler = recogniser or cfg.out / "edgeface_demo.pt", upscaler or cfg.out / "dsr" / "dsr.pt"
    train, val, test = (cfg.out / "dataset" / f"{split}_processed" for split in SPLITS)
    note = "People who do not exist, drawn by dsr.synthetic: the figures show how things work and nothing about faces."
    return Materials(train, val, test, str(recogniser), str(upscaler), note)


def _tiny_materials() -> Materials:
    out = made_folder() / "tiny"
    roots = [out / f"{split}_processed" for split in SPLITS]
    person = 0
    for split, root in zip(SPLITS, roots, strict=True):
        for _ in range(TINY_PEOPLE[split]):
            for photo in range(TINY_PHOTOS):
                path = root / "hr_images" / f"pattern{person:02d}_{photo}.png"
                if not path.is_file():
                    write_png(path, _pattern(person, photo))
            person += 1
    torch.manual_seed(0)
    edgeface, dsr = out / "edgeface_tiny.pt", out / "dsr_tiny.pt"
    torch.save(get_model("edgeface_tiny").state_dict(), edgeface)
    save_dsr(dsr, Dsr(preset("tiny")), {"note": "untrained"})
    note = "DSR_TINY=1: coloured patterns and untrained networks. Nothing here means anything."
    train, val, test = roots
    return Materials(train, val, test, str(edgeface), str(dsr), note)


def _pattern(person: int, photo: int) -> RgbImage:
    """A coarse pattern that is the person's, with noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (7, 7, 3)).repeat(16, 0).repeat(16, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 25, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)
