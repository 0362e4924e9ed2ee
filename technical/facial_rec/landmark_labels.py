"""Where the five landmarks of aligned 112x112 faces lie: what the landmark refiner learns from.

An aligned face shows by itself how it was aligned: the landmarks of its photo were laid onto the ArcFace template with
least squares. So of the ten numbers wanted four (turn, size, place) are known exactly. The other six, the shape of the
face, come from YuNet, which looks at the face enlarged and mirrored in several ways; each look is laid onto the
template, and the mean of all is the label.

Cut off at forehead and chin, a face looks shorter to YuNet than it does in a photo. With its mirror image around it
(`REFERENCE`) YuNet sees it, on average, as large as it was in its photo, so `reference_shift` takes the mean shape from
that look; it is slow, and noisier from face to face, so the differences between faces come from the others. No torch
here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.files import replacing
from common.images import RgbImage
from common.progress import progress_bar
from facial_rec.alignment import ARCFACE_TEMPLATE, similarity_transform
from facial_rec.detector import Detector
from facial_rec.faceset import HR_SIZE, FaceSet

Landmarks = NDArray[np.float32]

MIRRORED = [1, 0, 2, 4, 3]
"""Which landmark takes the place of each in a mirror image."""
EYES_APART = float(np.linalg.norm(ARCFACE_TEMPLATE[0] - ARCFACE_TEMPLATE[1]))
"""Distance between the eyes of the template in pixels of a 112x112 face."""


class Look(NamedTuple):
    """How YuNet looks at a face: enlarged, after a border of so many pixels."""

    scale: float
    border: int
    mirror: bool = False
    """Whether the border mirrors the face, rather than being black."""


LOOKS = (Look(1.0, 32), Look(1.5, 0), Look(2.0, 0))
REFERENCE = (Look(2.0, 32, mirror=True),)
REFERENCE_FACES = 400
FURTHEST = 0.25
"""Landmarks further from the template, on average and in distances between the eyes, are of another face."""
LARGEST_SPREAD = 0.06
"""Looks that differ by more from their mean, in distances between the eyes, tell too little: no label."""
KEPT_EVERY = 1_000  # faces


def label_face(face: RgbImage, detector: Detector, looks: Sequence[Look] = LOOKS) -> Landmarks | None:
    """The landmarks `(5, 2)` of an aligned face `(112, 112, 3)`; None where the detector is not sure."""
    shapes = []
    for seen in (face, np.ascontiguousarray(face[:, ::-1])):
        for look in looks:
            found = _look(seen, detector, look)
            if found is None:
                return None
            shapes.append(onto_template(found if seen is face else mirrored(found)))
    mean = np.mean(shapes, axis=0)
    spread = np.linalg.norm(np.array(shapes) - mean, axis=2).mean() / EYES_APART
    return onto_template(mean) if spread <= LARGEST_SPREAD else None


def mirrored(landmarks: Landmarks) -> Landmarks:
    """The landmarks `(..., 5, 2)` of the mirror image of a 112x112 face."""
    return np.array([HR_SIZE - 1, 0], np.float32) + landmarks[..., MIRRORED, :] * np.array([-1, 1], np.float32)


def reference_shift(faces: FaceSet, landmarks: Landmarks, detector: Detector) -> Landmarks:
    """What to add to the labels `(N, 5, 2)` of `faces` so that their mean shape is that of the look `REFERENCE`.

    `(5, 2)`, the same for a mirror image; from 400 faces at most. Raises UserError where none can be looked at so.
    """
    known = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    chosen = known[np.linspace(0, len(known) - 1, min(REFERENCE_FACES, len(known))).round().astype(int)]
    differences = []
    with progress_bar(len(chosen), "mean shape", "face") as bar:
        for index in chosen:
            found = label_face(faces.read(faces.faces[index]), detector, REFERENCE)
            if found is not None:
                own = landmarks[index]
                differences.append((found - own + mirrored(found) - mirrored(own)) / 2)
            bar.update()
    if not differences:
        raise UserError(f"{faces.root}: YuNet is sure of no face in it. Are they aligned 112x112 faces?")
    return np.mean(differences, axis=0)


def onto_template(landmarks: Landmarks) -> Landmarks:
    """`landmarks` `(5, 2)` turned, scaled and shifted onto the template, as those of every aligned face lie."""
    return moved(landmarks, similarity_transform(landmarks, ARCFACE_TEMPLATE))


def moved(landmarks: NDArray[np.floating], matrix: NDArray[np.float64]) -> Landmarks:
    """`landmarks` `(..., 2)` taken through a `(2, 3)` matrix."""
    return (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _look(face: RgbImage, detector: Detector, look: Look) -> Landmarks | None:
    scale, border = look.scale, look.border
    kind = cv2.BORDER_REFLECT_101 if look.mirror else cv2.BORDER_CONSTANT
    seen = cv2.copyMakeBorder(face, border, border, border, border, kind)
    if scale != 1.0:
        seen = cv2.resize(seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    found = [(one.landmarks + 0.5) / scale - 0.5 - border for one in detector.detect(seen)]
    distances = [float(np.linalg.norm(one - ARCFACE_TEMPLATE, axis=1).mean()) / EYES_APART for one in found]
    if not found or min(distances) > FURTHEST:
        return None
    return found[int(np.argmin(distances))]


def label_faces(faces: FaceSet, detector: Detector, kept: Path, what: str) -> Landmarks:
    """The landmarks `(N, 5, 2)` of all `faces`, NaN where there is no label.

    `kept` is where they are written, a thousand faces at a time: a killed run goes on from there, and a later one reads
    them. Raises UserError for a file of other faces and for a face that cannot be read.
    """
    marks = [sha256(faces.store.read_bytes(face.name)).hexdigest()[:16] for face in faces.faces]
    names = np.array([f"{face.name} {mark}" for face, mark in zip(faces.faces, marks, strict=True)])
    labels = _read(kept, names) if kept.is_file() else np.zeros((0, 5, 2), np.float32)
    with progress_bar(len(names), what, "face") as bar:
        bar.update(len(labels))
        while len(labels) < len(names):
            part = [label_face(faces.read(face), detector) for face in faces.faces[len(labels) :][:KEPT_EVERY]]
            missing = np.full((5, 2), np.nan, np.float32)
            labels = np.concatenate([labels, np.stack([missing if one is None else one for one in part])])
            with replacing(kept) as temporary, open(temporary, "wb") as file:
                np.savez(file, names=names, labels=labels)
            bar.update(len(part))
    return labels


def _read(kept: Path, names: NDArray[np.str_]) -> Landmarks:
    try:
        with np.load(kept, allow_pickle=False) as content:
            found, labels = content["names"], content["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{kept} cannot be read ({error}): expected landmarks. Remove it, and they are made again."
        ) from error
    if not np.array_equal(found, names):
        raise UserError(f"{kept} holds landmarks of other faces than these. Remove it, or give another --out.")
    return labels
