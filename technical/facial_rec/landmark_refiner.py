"""Better landmarks for faces that a detector has found: a small network looks at each face once more.

The network (`facial_rec.train_landmarks`) was trained on aligned faces to say where the landmarks lie that they were
aligned by. It looks at the face aligned by the detector's landmarks and at the mirror image of that, and the mean
counts. No torch here.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from common.errors import UserError
from common.images import RgbImage
from common.onnx_session import NOT_A_MODEL, open_session, session_options
from common.paths import find_weights
from common.shipped import weights_sha256
from facial_rec.alignment import similarity_transform, template
from facial_rec.landmark_crops import CROP, in_pixels, seen_crop
from facial_rec.landmark_labels import MIRRORED, Landmarks, moved

FILE = "landmarks.onnx"
FORMAT = "dsr-edgeface-landmarks-1"
INPUT = (
    f"input: float32 (N, 3, {CROP}, {CROP}), RGB from 0 to 255, the face aligned to the ArcFace template at "
    f"{CROP}x{CROP} by the landmarks to be refined"
)
OUTPUT = (
    "landmarks: float32 (N, 5, 2), x and y in sides of the crop, 0 to 1 from its left and upper edge: image-left eye, "
    f"image-right eye, nose, image-left and image-right mouth corner; pixel = {CROP} v - 0.5, whole numbers being "
    "centres. The mean with what is found in the mirrored input (x -> 1 - x, left and right exchanged) is more exact"
)
BATCH = 128
MAX_PASSES = 8


class LandmarkRefiner:
    """The network in an ONNX file. `threads` 0 lets onnxruntime choose.

    Raises UserError for a file that is missing, damaged, or no landmark refiner.
    """

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path} is missing: expected {FILE}, which `python -m facial_rec.train_landmarks` makes.")
        weights_sha256(self.path)  # a warning, where it is not the file that is shipped
        self._session = _session(self.path, threads)
        about = self._session.get_modelmeta().custom_metadata_map
        shapes = [list(one.shape[1:]) for one in (*self._session.get_inputs(), *self._session.get_outputs())]
        if about.get("format") != FORMAT or shapes != [[3, CROP, CROP], [5, 2]]:
            raise UserError(
                f"{path} has the format {about.get('format')!r} and shapes {shapes}, expected {FORMAT!r}: it is no "
                "landmark refiner. Give the file that `python -m facial_rec.train_landmarks` made."
            )
        passes = about.get("passes", "")
        if not passes.isdecimal() or not 1 <= int(passes) <= MAX_PASSES:
            raise UserError(f"{path} asks for {passes!r} passes, expected 1 to {MAX_PASSES}. Make it again.")
        self.passes = int(passes)
        """How often `refine` looks at a face, unless told otherwise."""

    def refine(self, image: RgbImage, landmarks: Landmarks, passes: int | None = None) -> Landmarks:
        """The landmarks `(N, 5, 2)` of N faces in RGB uint8 `(H, W, 3)`, in its pixels, refined."""
        for _ in range(self.passes if passes is None else passes):
            matrices = [similarity_transform(points, template(CROP)) for points in landmarks]
            found = self._look([seen_crop(image, points) for points in landmarks])
            landmarks = np.array(
                [_back(points, matrix) for points, matrix in zip(found, matrices, strict=True)], np.float32
            ).reshape(-1, 5, 2)
        return landmarks

    def _look(self, crops: list[RgbImage]) -> Landmarks:
        """In pixels of the crops."""
        parts = [np.zeros((0, 5, 2), np.float32)]
        for start in range(0, len(crops), BATCH):
            pixels = np.stack(crops[start : start + BATCH]).transpose(0, 3, 1, 2).astype(np.float32)
            straight, turned = (
                self._session.run(["landmarks"], {"input": np.ascontiguousarray(seen)})[0]
                for seen in (pixels, pixels[..., ::-1])
            )
            turned = np.array([1, 0], np.float32) + turned[:, MIRRORED] * np.array([-1, 1], np.float32)
            parts.append((straight + turned) / 2)
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise UserError(f"{self.path} gave landmarks that are not finite numbers: it is damaged. Make it again.")
        return in_pixels(found)


def load_refiner(threads: int = 0) -> LandmarkRefiner | None:
    """The refiner in the working directory or in `checkpoints/`; without one None, which is said once."""
    path = find_weights(FILE)
    if path is None:
        _say_missing()
        return None
    return LandmarkRefiner(path, threads)


@cache
def _say_missing() -> None:
    print(
        f"{FILE} is not in checkpoints/: MTCNN's own landmarks are used, and faces are aligned less exactly.",
        file=sys.stderr,
    )


def _back(points: Landmarks, matrix: NDArray[np.float64]) -> Landmarks:
    """From pixels of the crop to those of the photo, of which `matrix` made the crop."""
    return moved(np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T, np.eye(2, 3))


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    try:
        return open_session(str(path), session_options(threads))
    except NOT_A_MODEL as error:
        said = str(error).strip().splitlines()[0][:200]
        raise UserError(f"{path} is no ONNX model that onnxruntime can run ({said}). Copy or make it again.") from error
