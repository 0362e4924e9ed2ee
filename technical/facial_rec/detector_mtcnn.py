"""MTCNN: three networks, each of which looks more closely at what the one before let through.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", IEEE Signal Processing Letters 2016, section II. PNet scans the photo at many sizes and proposes windows;
RNet refuses most of them and moves the rest; ONet decides, and says where eyes, nose and mouth are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from common.errors import UserError
from common.images import RgbImage
from common.onnx_session import open_session, session_options
from facial_rec.boxes import Boxes, cut_out, shifted, squared, suppress
from facial_rec.detector import DetectedFace, require_photo
from facial_rec.landmark_refiner import load_refiner
from facial_rec.mtcnn_networks import WINDOWS, mtcnn_onnx

STRIDE = 2  # pixels between neighbouring windows of PNet
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class CascadeSettings:
    """All constants of the cascade: those of the paper's authors and of the mtcnn package, and three bounds on cost."""

    min_face: float = 14.0
    """Side in pixels of the smallest square window looked at; about the width of the smallest face found."""
    scale_factor: float = 0.709
    """From one size of the photo to the next smaller one; 0.709 halves the area."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)
    """Least score to pass PNet, RNet, ONet."""
    level_overlap: float = 0.5
    """Most overlap of two proposals at one size of the photo (intersection over union)."""
    overlap: float = 0.7
    """Most overlap of two proposals of all sizes, after PNet and after RNet (intersection over union)."""
    final_overlap: float = 0.7
    """Most overlap of two faces (intersection over the smaller box)."""
    max_level_pixels: int = 2_000_000
    """Largest photo that PNet scans; in a larger one the smallest face found is larger by as much."""
    max_proposals: int = 1_000
    """Proposals that RNet looks at, the best of each size and of all."""
    batch: int = 128
    """Windows that RNet and ONet look at together."""


class MtcnnDetector:
    """MTCNN on onnxruntime, from the weights that the mtcnn package carries. `threads` 0 lets onnxruntime choose.

    The landmarks are refined by `checkpoints/landmarks.onnx`, if it is there and unless `refine` is False. Faces turned
    by more than about 30 degrees are often missed. Raises UserError as `mtcnn_onnx` and `load_refiner`, and for
    settings that make no cascade.
    """

    name = "mtcnn"

    def __init__(self, settings: CascadeSettings | None = None, threads: int = 0, refine: bool = True) -> None:
        self.settings = settings or CascadeSettings()
        if self.settings.min_face < 1 or not 0 < self.settings.scale_factor < 1:
            raise UserError(f"{self.settings}: expected min_face from 1 and scale_factor between 0 and 1.")
        if threads < 0:
            raise UserError(f"{threads} threads: expected at least 1, or 0 for onnxruntime's own choice.")
        self._networks = {name: _session(graph, threads) for name, graph in mtcnn_onnx().items()}
        self._refiner = load_refiner(threads) if refine else None

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        """The faces in RGB uint8 `(H, W, 3)`, surest first. UserError for another kind of array."""
        require_photo(image)
        windows = self._refine(image, self._propose(image))
        score, offsets, landmarks = self._look("onet", image, windows)
        passed = score > self.settings.thresholds[2]
        boxes = shifted(windows[passed], offsets[passed])
        sides = windows[passed, None, 2:] - windows[passed, None, :2]
        points, score = windows[passed, None, :2] + landmarks[passed] * sides, score[passed]
        kept = suppress(boxes, score, self.settings.final_overlap, of_smaller=True)
        boxes, points, score = boxes[kept], points[kept], score[kept]
        if self._refiner is not None:
            points = self._refiner.refine(image, points)
        return [DetectedFace(boxes[i], points[i], float(score[i])) for i in range(len(kept))]

    def _propose(self, image: RgbImage) -> Boxes:
        """Square windows in which PNet sees a face."""
        found = [self._propose_at(level, (image.shape[1], image.shape[0])) for level in pyramid(image, self.settings)]
        boxes = np.concatenate([boxes for boxes, _ in found] or [np.zeros((0, 4), np.float32)])
        scores = np.concatenate([scores for _, scores in found] or [np.zeros(0, np.float32)])
        kept = suppress(boxes, scores, self.settings.overlap)[: self.settings.max_proposals]
        return squared(boxes[kept])

    def _propose_at(self, level: RgbImage, photo: tuple[int, int]) -> tuple[Boxes, Scores]:
        """Proposals from one size of a photo of `photo` (width, height) pixels, in pixels of that photo."""
        pixels = level.transpose(2, 0, 1)[None].astype(np.float32)
        score, offsets = self._networks["pnet"].run(["score", "offsets"], {"input": pixels})
        rows, columns = np.nonzero(score[0] > self.settings.thresholds[0])
        scores = score[0, rows, columns]
        best = np.argsort(-scores, kind="stable")[: self.settings.max_proposals]
        rows, columns, scores = rows[best], columns[best], scores[best]
        corner = STRIDE * np.stack([columns, rows], axis=1).astype(np.float32)
        boxes = shifted(np.hstack([corner, corner + WINDOWS["pnet"]]), offsets[0][:, rows, columns].T)
        boxes *= np.tile(np.array(photo, np.float32) / (level.shape[1], level.shape[0]), 2).astype(np.float32)
        kept = suppress(boxes, scores, self.settings.level_overlap)
        return boxes[kept], scores[kept]

    def _refine(self, image: RgbImage, windows: Boxes) -> Boxes:
        """The square windows that pass RNet, moved as it says."""
        score, offsets, *_ = self._look("rnet", image, windows)
        passed = score > self.settings.thresholds[1]
        boxes, score = shifted(windows[passed], offsets[passed]), score[passed]
        return squared(boxes[suppress(boxes, score, self.settings.overlap)])

    def _look(self, network: str, image: RgbImage, windows: Boxes) -> list[NDArray[np.float32]]:
        """What RNet or ONet says of each window: score, offsets, and ONet's landmarks, in sides of the window."""
        parts = [
            self._networks[network].run(None, {"input": cut_out(image, part, WINDOWS[network])})
            for part in (windows[i : i + self.settings.batch] for i in range(0, len(windows), self.settings.batch))
        ]
        if not parts:
            return [np.zeros((0, *rest), np.float32) for rest in ((), (4,), (5, 2))]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def pyramid(image: RgbImage, settings: CascadeSettings) -> Iterator[RgbImage]:
    """The photo at every size at which PNet scans it, largest first; none for a photo below PNet's window."""
    height, width = image.shape[:2]
    window = WINDOWS["pnet"]
    scale = min(window / settings.min_face, float(np.sqrt(settings.max_level_pixels / (height * width))))
    while min(height, width) * scale >= window:
        size = (round(width * scale), round(height * scale))
        level = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        yield level
        if scale < 1 and level.size < image.size / 4:
            image = level  # far smaller than the photo, and fine enough for the sizes to come
        scale *= settings.scale_factor


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = session_options(threads)
    options.enable_mem_pattern = False  # PNet gets another size every time
    options.enable_cpu_mem_arena = False  # keeps no memory of the largest photo; as fast
    return open_session(graph, options)
