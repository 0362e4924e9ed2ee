"""The faces of an identification test: HR images to enrol, and low-resolution probes with their HR twins.

Layout: `<root>/{hr_images,vlr_images}/<subject>_<n>.png`. Where there are no VLR images (a folder per identity, a zip),
each HR image is reduced to make one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from common.errors import UserError
from common.images import ImageStore, RgbImage
from common.paths import default_dataset, find_dataset
from dsr.degradation import MAX_SIZE, MIN_SIZE, canonical_reduce
from facial_rec.faceset import HR_FOLDER, VLR_FOLDER, Face, FaceSet, subject_of
from pipeline.degradations import check_size, to_tensor
from pipeline.identification import Key


@dataclass(frozen=True)
class Probe:
    """A low-resolution face to identify."""

    face: Face
    size: int
    """Its side in pixels."""
    image: RgbImage | None
    """Its pixels; None when they are made from the HR image of the same name."""
    twin: Face | None
    """The HR image with the same person and file stem."""

    @property
    def key(self) -> Key:
        return key_of(self.face)


@dataclass(frozen=True)
class ProbeSet:
    """A gallery of HR images and the probes, which are sorted by size."""

    hr: FaceSet
    probes: tuple[Probe, ...]
    made: bool
    """Whether the probes are HR images after the canonical reduction, for want of VLR files."""

    def by_size(self) -> list[tuple[int, list[Probe]]]:
        """The probes of each size, smallest first."""
        return [(size, list(group)) for size, group in groupby(self.probes, key=lambda probe: probe.size)]

    def low(self, probe: Probe) -> RgbImage:
        """The probe's low-resolution pixels, RGB uint8 `(n, n, 3)`."""
        if probe.image is not None:
            return probe.image
        reduced = canonical_reduce(to_tensor([self.hr.read(probe.face)]), probe.size)
        return (reduced[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def key_of(face: Face) -> Key:
    """What an image and its twin have in common: person and file stem."""
    return face.subject, face.stem


def load_probes(
    root: Path | None,
    hr_dir: Path | None,
    vlr_dir: Path | None,
    vlr_size: int,
    limit: int | None = None,
) -> ProbeSet:
    """Find the faces, read the VLR files, and pair them with their HR twins.

    `root` None is the default test set, unless `hr_dir` is given. Without VLR files the probes are the HR images after
    the canonical reduction to `vlr_size`. `limit` keeps that many probes, spread evenly.

    Raises UserError for folders that are missing or empty, fewer than two people, a VLR image that is not square or not
    of 8 to 64 pixels, and VLR images of which none has an HR twin.
    """
    check_size(vlr_size, "--vlr-size")
    root = _root(root, hr_dir)
    hr = FaceSet(_hr_folder(root, hr_dir))
    hr.require_identities(2)
    store, names = _vlr_of(root, vlr_dir, hr)
    faces = [Face(name, subject_of(name)) for name in names] if store else hr.faces
    faces = _spread(sorted(faces, key=key_of), limit)
    twins = {key_of(face): face for face in reversed(hr.faces)}
    images = [None if store is None else read_low(store, face.name) for face in faces]
    probes = [
        Probe(face, vlr_size if image is None else image.shape[0], image, twins.get(key_of(face)))
        for face, image in zip(faces, images, strict=True)
    ]
    if not any(probe.twin for probe in probes):
        raise UserError(
            f"No VLR image of {store.root if store else hr.root} has an HR twin in {hr.root} "
            f"(the first is {probes[0].face.name}): twins carry the same file name. Do the folders belong together?"
        )
    return ProbeSet(hr, tuple(sorted(probes, key=lambda probe: probe.size)), store is None)


def read_low(store: ImageStore, name: str) -> RgbImage:
    """A VLR image, RGB uint8 `(n, n, 3)`. Raises UserError, naming it, unless it is square with 8 <= n <= 64."""
    image = store.read(name)
    height, width = image.shape[:2]
    if height != width or not MIN_SIZE <= width <= MAX_SIZE:
        raise UserError(
            f"{store.root}/{name} is {width}x{height}: a VLR image must be square, {MIN_SIZE} to {MAX_SIZE} pixels. "
            "Crop the face; a larger one needs no super-resolution."
        )
    return image


def _root(root: Path | None, hr_dir: Path | None) -> Path | None:
    if root is not None:
        return find_dataset(root)
    if hr_dir is not None:
        return None
    default = default_dataset("test")
    if default is None:
        raise UserError(
            "There is no dataset/test_processed: give --dataset-root, or make one with `python -m dsr.prepare_dataset`."
        )
    return default


def _hr_folder(root: Path | None, hr_dir: Path | None) -> Path:
    if hr_dir is not None or root is None:
        return _inside(root, hr_dir or Path(HR_FOLDER))
    if (root / VLR_FOLDER).is_dir() and not (root / HR_FOLDER).is_dir():
        raise UserError(f"{root} holds {VLR_FOLDER} but no {HR_FOLDER}: add the HR images, or give --hr-dir.")
    return root


def _inside(root: Path | None, folder: Path) -> Path:
    """`folder` as it is, or inside `root`."""
    if root is not None and not folder.exists() and (root / folder).exists():
        return root / folder
    return find_dataset(folder)


def _vlr_of(root: Path | None, vlr_dir: Path | None, hr: FaceSet) -> tuple[ImageStore | None, list[str]]:
    """The store of the VLR images and their names; None where there are none."""
    if vlr_dir is not None:
        store = ImageStore(_inside(root, vlr_dir))
        return store, store.names
    if root is not None and (root / VLR_FOLDER).is_dir():
        store = ImageStore(root / VLR_FOLDER)
        return store, store.names
    inside = [name for name in hr.store.names if VLR_FOLDER in PurePosixPath(name).parts[:-1]]
    return (hr.store, inside) if inside else (None, [])


def _spread(faces: list[Face], limit: int | None) -> list[Face]:
    if limit is None or limit >= len(faces):
        return faces
    if limit < 1:
        raise UserError(f"--limit {limit}: expected at least 1 probe.")
    return [faces[index] for index in np.linspace(0, len(faces) - 1, limit).round().astype(int)]
