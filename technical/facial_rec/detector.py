"""Finding faces in a photo: what a detector gives, and the detectors there are.

`mtcnn` works straight after installation. `yunet` is faster and steadier; its file is downloaded once. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.images import RgbImage

DetectorName = Literal["mtcnn", "yunet"]
DETECTORS: tuple[DetectorName, ...] = get_args(DetectorName)


@dataclass(frozen=True)
class DetectedFace:
    """One face, in pixels of the photo; whole numbers are the centres of pixels.

    The face may reach outside the photo.
    """

    box: NDArray[np.float32]
    """`(4,)`: left, top, right, bottom."""
    landmarks: NDArray[np.float32]
    """`(5, 2)`: image-left eye, image-right eye, nose, image-left mouth corner, image-right mouth corner."""
    score: float
    """How sure the detector is, from 0 to 1; not comparable between detectors."""


class Detector(Protocol):
    """Something that finds faces."""

    @property
    def name(self) -> str:
        """What records call it."""

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        """The faces in RGB uint8 `(H, W, 3)`, surest first; an empty list where there is none.

        Raises UserError for another kind of array.
        """


def load_detector(
    name: str = "mtcnn", file: Path | str | None = None, threads: int = 0, refine: bool = True
) -> Detector:
    """The detector `name`, one of `DETECTORS`.

    `file` is YuNet's ONNX file, where it is not the one downloaded into `checkpoints/`. `threads` is for MTCNN: 0 lets
    onnxruntime choose. YuNet uses OpenCV's threads (`cv2.setNumThreads`). `refine` False leaves MTCNN's landmarks as
    they are. Raises UserError for an unknown name, for a `file` with MTCNN, and for weights that are missing, damaged
    or cannot be downloaded.
    """
    if name == "mtcnn":
        from facial_rec.detector_mtcnn import MtcnnDetector

        if file is not None:
            raise UserError(f"{file}: MTCNN's weights come with the package mtcnn, and no file can be given for them.")
        return MtcnnDetector(threads=threads, refine=refine)
    if name == "yunet":
        from facial_rec.detector_yunet import YunetDetector

        return YunetDetector(file)
    raise UserError(f"there is no detector '{name}': expected {' or '.join(DETECTORS)}.")


def require_photo(image: RgbImage) -> None:
    """UserError unless `image` is RGB uint8 `(H, W, 3)` with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"expected an RGB image uint8 (H, W, 3), found {image.dtype} {image.shape}.")
