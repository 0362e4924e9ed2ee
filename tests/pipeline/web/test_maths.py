"""The page's TypeScript against Python, on the same pixels: resampling, alignment, boxes, the cascade, thresholds."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from common.images import RgbImage
from dsr.degradation import bicubic_enlarge, canonical_reduce
from dsr.synthetic import render_scene
from facial_rec.alignment import ARCFACE_TEMPLATE, align_face, native_size
from facial_rec.boxes import cut_out, overlaps, shifted, squared, suppress
from facial_rec.detector import DetectedFace, Detector
from facial_rec.detector_mtcnn import CascadeSettings, MtcnnDetector, pyramid
from facial_rec.landmark_crops import CROP
from facial_rec.landmark_net import LandmarkNet, landmarks_onnx
from facial_rec.landmark_refiner import FORMAT, LandmarkRefiner
from facial_rec.mtcnn_networks import mtcnn_onnx
from facial_rec.thresholds import SizeThresholds, Thresholds
from pipeline.decisions import decide
from pipeline.degradations import to_tensor
from pipeline.face_crops import DSR_BELOW, LARGEST, SMALLEST, Face, aligned_crop, crop_size, find_crops

Json = dict[str, Any]


def picture(image: RgbImage) -> Json:
    height, width = image.shape[:2]
    return {"width": width, "height": height, "data": base64.b64encode(image.tobytes()).decode()}


def noise(seed: int, width: int, height: int) -> RgbImage:
    """Every level next to every other: what rounds wrongly somewhere rounds wrongly here."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def resizing() -> Json:
    ways = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
    sizes = {
        "area": [
            (96, 64, 48, 32),
            (96, 64, 32, 16),
            (97, 61, 24, 24),
            (50, 49, 48, 48),
            (101, 77, 71, 54),
            (9, 9, 9, 9),
        ],
        "linear": [(9, 9, 24, 24), (20, 20, 48, 48), (40, 30, 77, 69), (1, 1, 24, 24), (23, 23, 24, 24)],
    }
    cases: Json = {}
    for way, flag in ways.items():
        cases[way] = []
        for seed, (width, height, after, down) in enumerate(sizes[way]):
            image = noise(seed, width, height)
            made = cv2.resize(image, (after, down), interpolation=flag)
            cases[way].append({"image": picture(image), "expected": picture(np.asarray(made, np.uint8))})
    return cases


def bicubic(face: Callable[..., RgbImage]) -> list[Json]:
    cases = []
    for side in (8, 13, 16, 27, 64):
        reduced = canonical_reduce(to_tensor([face(side, 1)]), side)
        enlarged = bicubic_enlarge(reduced)
        low, high = (
            (one[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().copy() for one in (reduced, enlarged)
        )
        cases.append({"face": picture(face(side, 1)), "low": picture(low), "high": picture(high)})
    return cases


def alignment() -> list[Json]:
    """Faces larger and smaller than the crop, far smaller ones, turned, and partly or wholly outside the photo."""
    cases = []
    image = noise(7, 260, 200)
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8)
    rng = np.random.default_rng(3)
    for scale, turn, place in (
        *((0.3, 0.2, (60, 50)), (0.9, -0.4, (80, 60)), (1.4, 0.1, (30, -20)), (3.1, 0.0, (-90, -120))),
        *((0.2, 2.9, (240, 150)), (0.5, 0.3, (-400, 0))),
    ):
        points = ARCFACE_TEMPLATE + rng.normal(0, 1.5, (5, 2))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        landmarks = (scale * points @ rotation.T + place).astype(np.float32)
        for size in (112, crop_size(native_size(landmarks), 64)):
            cases.append(
                {
                    "image": picture(smooth),
                    "landmarks": landmarks.tolist(),
                    "size": size,
                    "native": native_size(landmarks),
                    "expected": picture(align_face(smooth, landmarks, size)),
                }
            )
    return cases


def box_maths() -> Json:
    rng = np.random.default_rng(5)
    corner = rng.uniform(-20, 90, (40, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 60, (40, 2))]).astype(np.float32)
    scores = rng.integers(0, 20, 40).astype(np.float32) / 20  # with equals
    offsets = rng.normal(0, 0.2, (40, 4)).astype(np.float32)
    squares = squared(boxes)
    image = noise(8, 90, 70)
    return {
        "image": picture(image),
        "boxes": boxes.tolist(),
        "scores": scores.tolist(),
        "offsets": offsets.tolist(),
        "shifted": shifted(boxes, offsets).tolist(),
        "squared": squares.tolist(),
        "overlaps": [overlaps(boxes[0], boxes, of_smaller).tolist() for of_smaller in (False, True)],
        "kept": [suppress(boxes, scores, 0.3, of_smaller).tolist() for of_smaller in (False, True)],
        "cuts": [cut_out(image, squares, side).reshape(-1).astype(int).tolist() for side in (12, 24)],
    }


def cascade(refiner: Path) -> Json:
    """Three made-up heads, one of them small, in one photo; as MTCNN has them, and with refined landmarks."""
    photo = np.zeros((250, 600, 3), np.uint8) + 90
    photo[:, :250] = render_scene(0, 0, 1)[0]
    photo[:, 250:500] = render_scene(0, 3, 0)[0]
    small = cv2.resize(render_scene(0, 2, 0)[0], (70, 70), interpolation=cv2.INTER_AREA)
    photo[100:170, 515:585] = small
    settings = CascadeSettings()
    detector = MtcnnDetector(threads=1, refine=False)
    refining = RefiningDetector(detector, LandmarkRefiner(refiner, threads=1))
    networks = mtcnn_onnx() | {"landmarks": refiner.read_bytes()}
    return {
        "photo": picture(photo),
        "settings": asdict(settings),
        "networks": {name: base64.b64encode(graph).decode() for name, graph in networks.items()},
        "levels": [[*level.shape[1::-1], int(level.astype(np.int64).sum())] for level in pyramid(photo, settings)],
        "refiner": {"side": CROP, "passes": refining.refiner.passes},
        "crops": {"dsr_below": DSR_BELOW, "smallest": SMALLEST, "largest": LARGEST},
        "faces": found_faces(photo, detector),
        "refined": found_faces(photo, refining),
    }


@dataclass(frozen=True)
class RefiningDetector:
    """MTCNN with a refiner of the test's own."""

    detector: MtcnnDetector
    refiner: LandmarkRefiner
    name: str = "refining"

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        found = self.detector.detect(image)
        points = self.refiner.refine(image, np.stack([face.landmarks for face in found]))
        return [replace(face, landmarks=one) for face, one in zip(found, points, strict=True)]


def found_faces(photo: RgbImage, detector: Detector) -> list[Json]:
    crops = find_crops("photo", photo, detector)
    assert len(crops) == 3
    return [{**asdict(crop.face), "pixels": picture(crop.pixels)} for crop in crops]


@pytest.fixture
def refiner(tmp_path: Path) -> Path:
    """A refiner with random weights, which moves every landmark a little."""
    torch.manual_seed(0)
    network = LandmarkNet()
    torch.nn.init.normal_(network.out.weight, std=0.3)
    path = tmp_path / "landmarks.onnx"
    path.write_bytes(landmarks_onnx(network.eval(), {"format": FORMAT, "passes": "2"}))
    return path


def aligned_faces() -> list[Json]:
    images = [
        np.asarray(cv2.GaussianBlur(noise(side, side, side), (0, 0), 1.5), np.uint8) for side in (9, 20, 40, 112, 150)
    ]
    crops = [aligned_crop("face", image) for image in images]
    return [
        {
            "image": picture(image),
            "resolution": crop.face.resolution,
            "by_dsr": crop.face.by_dsr,
            "pixels": picture(crop.pixels),
        }
        for image, crop in zip(images, crops, strict=True)
    ]


def face_of(resolution: int, by_dsr: bool) -> Face:
    return Face("p", 1, None, None, None, resolution, by_dsr)


def decisions(tables: list[Thresholds | None]) -> list[Json]:
    cases = []
    for table in tables:
        for sizes in ((6, 112), (12, 112), (16, 112), (20, 30), (24, 24), (40, 112), (112, 90)):
            for by_dsr in (False, True):
                for score in (-0.3, 0.2, 0.35, 0.4, 0.55, 0.9):
                    first, second = face_of(sizes[0], by_dsr), face_of(sizes[1], False)
                    verdict = decide(score, first, second, table)
                    cases.append(
                        {
                            "table": None if table is None else table.values(),
                            "score": score,
                            "faces": [{"resolution": one.resolution, "byDsr": one.by_dsr} for one in (first, second)],
                            "verdict": {**asdict(verdict), "notes": [note.split(";")[0] for note in verdict.notes]},
                        }
                    )
    return cases


@pytest.fixture
def tables(table: Callable[..., Thresholds]) -> list[Thresholds | None]:
    gap = (SizeThresholds(12, "dsr", 0.5, None, None, "too few errors"), SizeThresholds(24, "bicubic", 0.6, 0.2))
    return [None, table(), table(protocol="lr-lr"), table(sizes=(*gap, SizeThresholds(None, "hr", 0.4, 0.3)))]


def test_typescript_gives_python_s_numbers(
    node: Callable[..., str],
    face: Callable[..., RgbImage],
    refiner: Path,
    tables: list[Thresholds | None],
    tmp_path: Path,
) -> None:
    numbers = {
        **resizing(),
        "bicubic": bicubic(face),
        "alignment": alignment(),
        "boxes": box_maths(),
        "cascade": cascade(refiner),
        "aligned": aligned_faces(),
        "decisions": decisions(tables),
    }
    file = tmp_path / "numbers.json"
    file.write_text(json.dumps(numbers))
    node("tsc", "--noEmit")
    print(node("vitest", "run", "--config", "vitest.config.ts", DSR_WEB_NUMBERS=file))
