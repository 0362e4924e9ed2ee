"""From a photo file to its aligned face, in one call. No torch here."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.images import RgbImage, decode_image
from facial_rec.alignment import TEMPLATE_SIZE, align_face
from facial_rec.detector import DetectedFace, Detector, load_detector


def get_aligned_face(path: Path | str, detector: Detector | None = None, size: int = TEMPLATE_SIZE) -> RgbImage:
    """The largest face in the photo `path`, aligned to the ArcFace template: RGB uint8 `(size, size, 3)`.

    `detector` is MTCNN unless another is given. Raises UserError for a file that is missing or no image, and for a
    photo in which no face is found.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected a photo.")
    image = decode_image(path.read_bytes(), str(path))
    detector = detector or _default_detector()
    faces = detector.detect(image)
    if not faces:
        raise UserError(no_face(str(path), detector))
    return align_face(image, largest(faces).landmarks, size)


def largest(faces: Sequence[DetectedFace]) -> DetectedFace:
    """The face with the largest box: whom a photo is of, more often than the face the detector is surest of."""
    return max(faces, key=lambda face: float((face.box[2:] - face.box[:2]).prod()))


def no_face(name: str, detector: Detector) -> str:
    """What to tell a user whose photo shows no face."""
    return (
        f"{name}: {detector.name} found no face. Is it the right way up, and is the face at least 14 pixels wide? "
        "Otherwise try another detector or another photo."
    )


@functools.cache
def _default_detector() -> Detector:
    return load_detector()
