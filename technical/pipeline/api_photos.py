"""From the bytes of an upload to faces: blocking, for the API's threads. Refusals name the form's field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from common.images import NotAnImageError, RgbImage, TooManyPixelsError
from facial_rec.alignment import align_face
from pipeline.aligned_face import no_face
from pipeline.api_errors import ApiError
from pipeline.api_limits import Limits
from pipeline.face_crops import LARGEST, SMALLEST, Face, FaceCrop, largest_crop, resized
from pipeline.onnx_models import OnnxModel
from pipeline.photos import decode_photo
from pipeline.recogniser import Recogniser


@dataclass(frozen=True, eq=False)
class SmallFace:
    """A face as the DSR sees it."""

    face: Face
    pixels: RgbImage
    """RGB uint8 `(n, n, 3)`, n from 8 to 64."""


@dataclass(frozen=True)
class Looker:
    """Finds faces in uploads. Safe to use from several threads.

    Every method raises ApiError: 415 for what is no image, 413 for too many pixels, 422 for a damaged photo and for
    one without a face, or with too many.
    """

    recogniser: Recogniser
    limits: Limits

    def several(self, field: str, photo: bytes, aligned: bool) -> list[FaceCrop]:
        """All faces of a photo, at least one."""
        return self._found(field, self._decoded(field, photo), aligned)

    def one(self, field: str, photo: bytes, aligned: bool, largest: bool) -> FaceCrop:
        """The only face of a photo or, with `largest`, the largest."""
        return _only(field, self.several(field, photo, aligned), largest)

    def small(self, field: str, photo: bytes, aligned: bool, largest: bool, side: int | None) -> SmallFace:
        """The face as `one` takes it, `side` pixels wide (default: its own size, from 8 to 64)."""
        image = self._decoded(field, photo)
        face = _only(field, self._found(field, image, aligned), largest).face
        side = side or min(max(face.resolution, SMALLEST), LARGEST)
        if face.landmarks is None:
            return SmallFace(face, resized(image, side))
        return SmallFace(face, align_face(image, face.landmarks, side))

    def _decoded(self, field: str, photo: bytes) -> RgbImage:
        try:
            return decode_photo(photo, field, self.limits.max_pixels)
        except NotAnImageError as error:
            raise ApiError(415, "not_an_image", str(error)) from error
        except TooManyPixelsError as error:
            raise ApiError(413, "too_many_pixels", str(error)) from error
        except UserError as error:
            raise ApiError(422, "unusable_photo", str(error)) from error

    def _found(self, field: str, image: RgbImage, aligned: bool) -> list[FaceCrop]:
        height, width = image.shape[:2]
        if aligned and (height != width or width < SMALLEST):
            what = f"{field} is {width}x{height}: an aligned face is square, from {SMALLEST}x{SMALLEST} pixels."
            raise ApiError(422, "not_aligned", f"{what} Send the whole photo without `aligned`.")
        found = self.recogniser.find(image, aligned, field)
        if not found:
            raise ApiError(422, "no_face", no_face(field, self.recogniser.detector))
        if len(found) > self.limits.max_faces:
            what = f"{field} shows {len(found)} faces; at most {self.limits.max_faces} are looked at. Crop it."
            raise ApiError(422, "too_many_faces", what)
        return found


def upscaled(dsr: OnnxModel, faces: Sequence[SmallFace]) -> list[RgbImage]:
    """What the DSR makes of each face, RGB uint8 `(112, 112, 3)`; those of one size go through it together."""
    found: dict[int, RgbImage] = {}
    sizes = np.array([len(one.pixels) for one in faces])
    for size in np.unique(sizes):
        places = np.flatnonzero(sizes == size)
        low = np.stack([faces[int(place)].pixels for place in places]).transpose(0, 3, 1, 2).astype(np.float32) / 255
        high = (dsr(low) * 255).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        found |= dict(zip(places.tolist(), high, strict=True))
    return [found[place] for place in range(len(faces))]


def _only(field: str, found: list[FaceCrop], largest: bool) -> FaceCrop:
    if len(found) > 1 and not largest:
        what = f"{field} shows {len(found)} faces, expected one. Crop it, or send largest=true for the largest."
        raise ApiError(422, "several_faces", what)
    return largest_crop(found)
