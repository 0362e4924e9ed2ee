"""Faces in the pictures of a video, several pictures through the networks together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from common.errors import UserError
from pipeline.face_crops import Face, FaceCrop
from pipeline.frames import Frame, Frames
from pipeline.gallery import Gallery
from pipeline.recogniser import Recogniser
from pipeline.recognition import Identification

FRAMES_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture and who is in it."""

    frame: Frame
    people: tuple[Identification, ...]

    def record(self) -> dict[str, Any]:
        """For a line of JSON: the frame, and for each face where it is, who, and why."""
        return {
            "frame": self.frame.number,
            "seconds": self.frame.seconds,
            "name": self.frame.name,
            "faces": [_line(one) for one in self.people],
        }


def watch(recogniser: Recogniser, gallery: Gallery, frames: Frames, aligned: bool = False) -> Iterator[Seen]:
    """Who is in each picture of `frames`; nobody where no face is found.

    A picture that cannot be used adds to `frames.problems`. Raises UserError as `identify_faces` and `load_detector`.
    """
    if not aligned:
        _ = recogniser.detector  # one that cannot be loaded is no picture's fault
    while group := list(islice(frames.pictures, FRAMES_TOGETHER)):
        crops = [_crops(recogniser, frame, aligned, frames.problems) for frame in group]
        faces = recogniser.embed([crop for found in crops for crop in found])
        people = iter(recogniser.identify_faces(gallery, faces, top=1))
        for frame, found in zip(group, crops, strict=True):
            yield Seen(frame, tuple(islice(people, len(found))))


def _crops(recogniser: Recogniser, frame: Frame, aligned: bool, problems: list[str]) -> list[FaceCrop]:
    try:
        return recogniser.find(frame.image, aligned, frame.name)
    except UserError as error:
        problems.append(str(error))
        return []


def _line(one: Identification) -> dict[str, Any]:
    face: Face = one.face
    return {
        "box": face.box,
        "resolution": face.resolution,
        "label": one.label,
        "name": one.name,
        "score": round(one.verdict.score, 4),
        "threshold": one.verdict.threshold,
        "reject": one.verdict.reject,
        "calibrated": one.verdict.calibrated,
    }
