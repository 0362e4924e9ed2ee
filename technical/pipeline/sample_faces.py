"""Faces to compare and to calibrate models on: a folder's or a zip's, or made-up ones. Noise is refused.

A quantised network is only as good as the images its ranges were taken from; on noise they come out wrong.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.paths import find_dataset
from common.progress import progress_bar
from dsr.synthetic import render_aligned
from facial_rec.faceset import FaceSet
from pipeline.development_set import refuse_lfw

Faces = NDArray[np.uint8]
"""RGB `(N, 112, 112, 3)`."""

MADE_UP = "made-up faces"
LEAST_SMOOTHNESS = 0.5  # faces, even sharp ones, have above 0.9; white noise has 0


def sample_faces(folder: Path | None, count: int, seed: int = 0, chooses: bool = False) -> tuple[Faces, str]:
    """`count` faces, or as many as there are, drawn evenly over the folder's people, and what they are called.

    Without a folder they are made up. Raises UserError for what cannot be read, for noise, for a seed below 0, and for
    LFW where something of a model `chooses` by them: that is the test set.
    """
    if seed < 0:
        raise UserError(f"--seed must be at least 0, found {seed}.")
    if folder is None:
        return made_up_faces(count, seed), MADE_UP
    root = find_dataset(folder)
    found = FaceSet(root)
    if chooses:
        refuse_lfw(root, found.subjects, "--faces")
    order = np.random.default_rng(seed).permutation(len(found))
    seen: Counter[str] = Counter()
    rounds = []  # in which a face's turn comes, everybody having one in each
    for index in order:
        person = found.faces[index].subject
        rounds.append(seen[person])
        seen[person] += 1
    chosen = np.sort(order[np.argsort(rounds, kind="stable")][:count])
    faces = np.stack([found.read(found.faces[index]) for index in chosen])
    refuse_noise(faces, str(root))
    return faces, str(root)


def made_up_faces(count: int, seed: int = 0) -> Faces:
    """Rendered faces of made-up people; each also mirrored, darker, and both, because rendering takes a while."""
    people = -(-count // 4)
    with progress_bar(people, "made-up faces", "face", keep=False) as progress:
        drawn = []
        for person in range(people):
            drawn.append(render_aligned(seed, person, 0))
            progress.update()
    faces = np.stack(drawn)
    faces = np.concatenate([faces, faces[:, :, ::-1]])
    faces = np.concatenate([faces, (faces * np.float32(0.7)).astype(np.uint8)])
    return np.ascontiguousarray(faces[:count])


def refuse_noise(faces: Faces, label: str) -> None:
    """Raise UserError where neighbouring pixels have little to do with each other in most of the images."""
    smooth = np.array([smoothness(face) for face in faces])
    noisy = int((smooth < LEAST_SMOOTHNESS).sum())
    if 2 * noisy > len(faces):
        raise UserError(
            f"{label}: {noisy} of {len(faces)} images look like noise (neighbouring pixels correlate by "
            f"{np.median(smooth):.2f}, in faces by more than 0.9). A model is compared and calibrated on faces."
        )


def smoothness(face: NDArray[np.uint8]) -> float:
    """Correlation of each pixel's grey with its right neighbour's; 1 for an image of one colour."""
    grey = face.astype(np.float64).mean(axis=2)
    left, right = grey[:, :-1].ravel(), grey[:, 1:].ravel()
    spread = left.std() * right.std()
    return 1.0 if spread == 0 else float(np.mean((left - left.mean()) * (right - right.mean())) / spread)
