"""The faces of many photos: bad photos are named and left out, and the networks get many faces at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from common.errors import UserError
from common.progress import progress_bar
from pipeline.aligned_face import no_face
from pipeline.face_crops import EmbeddedFace, FaceCrop
from pipeline.photos import NamedPhoto
from pipeline.recogniser import Recogniser

FACES_TOGETHER = 64


@dataclass
class Collected:
    """What was found in a number of photos."""

    photos: int
    faces: list[EmbeddedFace] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A sentence for each photo that gave no face."""

    def summary(self) -> str:
        """A line for the user."""
        return f"{self.photos} photos: {len(self.faces)} faces, {len(self.problems)} photos skipped"


def collect(
    recogniser: Recogniser,
    photos: Sequence[NamedPhoto],
    aligned: bool = False,
    one_each: bool = False,
    largest: bool = False,
) -> Collected:
    """All faces of `photos` or, with `one_each`, of each its only (or `largest`) face, with their embeddings.

    Raises UserError where no photo gave a face.
    """
    if not aligned:
        _ = recogniser.detector  # one that cannot be loaded is not the photos' fault
    found, waiting = Collected(len(photos)), list[FaceCrop]()
    with progress_bar(len(photos), "faces", "photo", show=len(photos) > 1) as progress:
        for photo in photos:
            try:
                waiting += _crops(recogniser, photo, aligned, one_each, largest)
            except UserError as error:
                found.problems.append(str(error))
            if len(waiting) >= FACES_TOGETHER:
                found.faces += recogniser.embed(waiting)
                waiting.clear()
            progress.update()
        found.faces += recogniser.embed(waiting)
    if not found.faces:
        raise UserError("\n".join(found.problems))
    return found


def _crops(recogniser: Recogniser, photo: NamedPhoto, aligned: bool, one_each: bool, largest: bool) -> list[FaceCrop]:
    if one_each:
        return [recogniser.find_one(photo.read(), aligned, largest, photo.name)]
    crops = recogniser.find(photo.read(), aligned, photo.name)
    if not crops:
        raise UserError(no_face(photo.name, recogniser.detector))
    return crops
