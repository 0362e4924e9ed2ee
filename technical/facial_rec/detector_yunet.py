"""YuNet through OpenCV: a face detector of 75,856 parameters with five landmarks (MIT licence).

W. Wu, H. Peng, S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023. Its file is
published in OpenCV's model zoo.
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.fetch import fetch_file, require_sha256
from common.images import RgbImage
from common.paths import REPOSITORY_ROOT, find_weights
from facial_rec.boxes import suppress
from facial_rec.detector import DetectedFace, require_photo

FILE = "face_detection_yunet_2023mar.onnx"
ADDRESS = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{FILE}"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

SCORE_THRESHOLD = 0.6
OVERLAP = 0.3
MAX_CANDIDATES = 5000
LONGEST_SIDES = (1280, 320)
"""The photo is looked at reduced to these: YuNet knows faces of about 10 to 300 pixels, and photos hold larger ones."""


class YunetDetector:
    """YuNet. `file` is its ONNX file; by default the one in `checkpoints/`, downloaded there the first time.

    Safe to use from several threads, which wait for one another. Raises UserError for a file that is missing, cannot be
    downloaded, or is not the published one.
    """

    name = "yunet"

    def __init__(self, file: Path | str | None = None) -> None:
        path = _published(file)
        self._lock = threading.Lock()  # the network keeps the size of the picture it looks at
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), SCORE_THRESHOLD, OVERLAP, MAX_CANDIDATES
            )
        except cv2.error as error:
            raise UserError(f"{path}: OpenCV {cv2.__version__} cannot read it ({error.err}).") from error

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        """The faces in RGB uint8 `(H, W, 3)`, surest first. UserError for another kind of array."""
        require_photo(image)
        longest = max(image.shape[:2])
        # Both where the smaller one is less than half of the larger.
        sides = {min(longest, side) for side in LONGEST_SIDES if side == LONGEST_SIDES[0] or longest > 2 * side}
        rows = np.concatenate([self._detect_at(image, side / longest) for side in sorted(sides, reverse=True)])
        boxes = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]])
        kept = suppress(boxes, rows[:, 14], OVERLAP)
        return [DetectedFace(boxes[i], rows[i, 4:14].reshape(5, 2), float(rows[i, 14])) for i in kept]

    def _detect_at(self, image: RgbImage, scale: float) -> NDArray[np.float32]:
        """Rows of x, y, width, height, five landmarks and score `(N, 15)`, in pixels of `image`."""
        size = tuple(max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        with self._lock:
            self._network.setInputSize(size)
            _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:
            return np.zeros((0, 15), np.float32)
        ratio = np.array([image.shape[1] / size[0], image.shape[0] / size[1]], np.float32)
        rows[:, :14] *= np.tile(ratio, 7)
        return rows


def _published(file: Path | str | None) -> Path:
    """The path of the published file; UserError for any other."""
    path = find_weights(FILE) if file is None else Path(file)
    if path is None:
        return fetch_file(ADDRESS, REPOSITORY_ROOT / "checkpoints" / FILE, SHA256)
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected YuNet's {FILE}, from {ADDRESS}.")
    require_sha256(path, SHA256)
    return path
