"""Faces with the number of their person, from a folder, a zip, or an InsightFace `.rec`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.images import RgbImage, decode_image
from common.progress import progress_bar
from facial_rec.faceset import HR_SIZE, FaceSet
from facial_rec.record_file import EXACT, RecordFile

MOST_PEOPLE = 1 << 31  # a label from here on is a damaged one

Ints = NDArray[np.int64]


class LabelledFaces(Protocol):
    """Aligned faces, each of a person with a number."""

    @property
    def label(self) -> str:
        """What records and errors call the set: its path."""

    @property
    def labels(self) -> Ints:
        """`(N,)` number of each face's person, as the files have it."""

    def name(self, index: int) -> str:
        """What face `index` is called: `<person>/<photo>` or `<person>_<n>`."""

    def read(self, name: str) -> RgbImage:
        """RGB uint8 `(112, 112, 3)`. Raises UserError for a missing or damaged image, and for another size."""

    def read_bytes(self, name: str) -> bytes:
        """The encoded image as it is."""


class FolderFaces:
    """A folder or zip with a folder per identity, or files `<subject>_<n>.png`; people are numbered by name.

    Faces in a folder named in `unlabelled` are left out: they are no person.
    """

    def __init__(self, root: Path | str, unlabelled: Collection[str] = ()) -> None:
        self.set = FaceSet(root)
        self.faces = [face for face in self.set.faces if face.subject not in unlabelled]
        self.people, numbers = np.unique([face.subject for face in self.faces], return_inverse=True)
        self.labels = numbers.astype(np.int64)
        self.label = str(self.set.root)

    def name(self, index: int) -> str:
        return self.faces[index].name

    def read(self, name: str) -> RgbImage:
        return self.set.store.read(name, (HR_SIZE, HR_SIZE))

    def read_bytes(self, name: str) -> bytes:
        return self.set.store.read_bytes(name)


class RecordFaces:
    """The images of an InsightFace `.rec`. Raises UserError for labels that are no whole numbers, or contradict."""

    def __init__(self, path: Path | str) -> None:
        self.records = RecordFile(path)
        self.label = str(path)
        self.keys, labels = _labels_by_person(self.records) or _labels_one_by_one(self.records)
        broken = np.flatnonzero(~((labels >= 0) & (labels < MOST_PEOPLE) & (labels == np.floor(labels))))
        if len(broken):
            found = labels[broken[0]]
            raise UserError(
                f"{path}, record {self.keys[broken[0]]} has the label {found:g}: expected a whole number below 2^31."
            )
        self.labels = labels.astype(np.int64)

    def name(self, index: int) -> str:
        return f"{self.labels[index]}/{self.keys[index]}"

    def read(self, name: str) -> RgbImage:
        return decode_image(self.read_bytes(name), f"{self.label}, record {name.split('/')[1]}", (HR_SIZE, HR_SIZE))

    def read_bytes(self, name: str) -> bytes:
        person, key = name.split("/")
        record = self.records.read(int(key))
        if record.labels[0] != float(person):
            raise UserError(
                f"{self.label}, record {key} is labelled {record.labels[0]:g}, but its person's record says {person}. "
                "The set contradicts itself: copy it again, or pack it again with `python -m facial_rec.pack_records`."
            )
        return record.data


def _labels_by_person(records: RecordFile) -> tuple[Ints, NDArray[np.float64]] | None:
    """Keys and labels of the images from the people's ranges: a look at each person, not at each image.

    None unless the ranges hold every image once, or where they are too large for the format's 32-bit floats.
    """
    if 0 not in records or len(records.read(0).labels) != 2:
        return None
    header = records.read(0).labels
    if not np.isfinite(header).all() or max(header) > EXACT:
        return None
    first_person, end = (int(value) for value in header)
    if not 1 < first_person < end or end - 1 not in records:
        return None
    labels = np.full(first_person, -1.0)
    with progress_bar(end - first_person, f"people of {records.path.name}", "person", keep=False) as progress:
        for key in range(first_person, end):
            bounds = records.read(key).labels
            progress.update()
            if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1] <= first_person:
                return None
            start, stop = (int(bound) for bound in bounds)
            if start == stop:
                continue
            if (labels[start:stop] != -1.0).any():
                return None
            labels[start:stop] = records.read(start).labels[0]
    return None if (labels[1:] < 0).any() else (np.arange(1, first_person), labels[1:])


def _labels_one_by_one(records: RecordFile) -> tuple[Ints, NDArray[np.float64]]:
    """The same by reading every record; those without image are no face."""
    keys, labels = [], []
    with progress_bar(len(records), f"labels of {records.path.name}", "record", keep=False) as progress:
        for key in records.keys.tolist():
            record = records.read(key)
            if record.data:
                keys.append(key)
                labels.append(record.labels[0])
            progress.update()
    if not keys:
        raise UserError(f"{records.path} holds no image: expected encoded faces. Copy it again.")
    return np.array(keys, dtype=np.int64), np.array(labels, dtype=np.float64)


def load_faces(path: Path, unlabelled: Collection[str] = ()) -> LabelledFaces:
    """The faces under `path`: a `.rec`, a folder that holds `train.rec`, or a folder or zip of images."""
    if path.suffix == ".rec":
        return RecordFaces(path)
    if (path / "train.rec").is_file():
        return RecordFaces(path / "train.rec")
    return FolderFaces(path, unlabelled)
