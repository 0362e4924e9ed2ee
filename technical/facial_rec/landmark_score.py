"""How far landmarks are off on labelled faces that MTCNN finds, without the refiner and with it. No torch here."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from common.images import RgbImage
from common.progress import progress_bar
from facial_rec.detector_mtcnn import MtcnnDetector
from facial_rec.faceset import Face, FaceSet
from facial_rec.landmark_crops import BORDER, surrounded
from facial_rec.landmark_labels import EYES_APART, FURTHEST, Landmarks
from facial_rec.landmark_refiner import LandmarkRefiner

PASSES = (0, 1, 2, 3)


class Labelled(Protocol):
    """Aligned faces and where their landmarks lie, in pixels of the 112x112 face."""

    @property
    def store(self) -> FaceSet:
        """Where they are read from."""

    @property
    def faces(self) -> list[Face]:
        """Their files."""

    @property
    def landmarks(self) -> Landmarks:
        """`(N, 5, 2)`."""


def score_refiner(refiner: LandmarkRefiner, labelled: Labelled, seed: int = 0) -> dict[str, float]:
    """Mean error in distances between the eyes after 0 to 3 passes, on faces with something put around them.

    `faces` and `found` say how many faces there were, and of how many MTCNN found landmarks near the labels. Where that
    is none, there are no errors.
    """
    detector, rng = MtcnnDetector(threads=1, refine=False), np.random.default_rng(seed)
    errors = []
    with progress_bar(len(labelled.faces), "MTCNN and refiner", "face", keep=False) as bar:
        for face, landmarks in zip(labelled.faces, labelled.landmarks, strict=True):
            photo, expected = surrounded(labelled.store.read(face), rng), landmarks + BORDER
            start = _nearest(detector, photo, expected)
            if start is not None:
                found = [refiner.refine(photo, start[None], passes)[0] for passes in PASSES]
                errors.append([_error(one, expected) for one in found])
            bar.update()
    counts: dict[str, float] = {"faces": len(labelled.faces), "found": len(errors)}
    if not errors:
        return counts
    means = np.mean(errors, axis=0).tolist()
    return {**counts, **{f"error_after_{n}": mean for n, mean in zip(PASSES, means, strict=True)}}


def describe(score: dict[str, float]) -> str:
    """One line of what `score_refiner` found."""
    found = f"MTCNN found {score['found']} of {score['faces']} validation faces"
    if not score["found"]:
        return found
    errors = ", ".join(f"{score[f'error_after_{passes}']:.2%}" for passes in PASSES)
    return (
        f"{found}, and its landmarks are off by, after 0, 1, 2, 3 passes of the refiner: {errors} of the distance "
        "between the eyes"
    )


def _nearest(detector: MtcnnDetector, photo: RgbImage, expected: Landmarks) -> Landmarks | None:
    found = [face.landmarks for face in detector.detect(photo)]
    best = min(found, key=lambda one: _error(one, expected), default=None)
    return best if best is not None and _error(best, expected) < FURTHEST else None


def _error(found: Landmarks, expected: Landmarks) -> float:
    return float(np.linalg.norm(found - expected, axis=1).mean()) / EYES_APART
