"""Detectors: what they refuse, what is no face, and on real photos (`../shared`) how well they find faces."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import UserError
from common.images import ImageStore, RgbImage
from facial_rec import detector_yunet
from facial_rec.alignment import native_size
from facial_rec.detector import DETECTORS, DetectedFace, Detector, load_detector
from facial_rec.detector_mtcnn import CascadeSettings, MtcnnDetector, pyramid

YUNET = "weights/face_detection_yunet_2023mar.onnx"


@cache
def mtcnn() -> Detector:
    return load_detector("mtcnn", threads=1)


@pytest.fixture(params=DETECTORS)
def detector(request: pytest.FixtureRequest, shared: Path) -> Detector:
    return mtcnn() if request.param == "mtcnn" else load_detector("yunet", shared / YUNET)


def distance(found: np.ndarray, landmarks: np.ndarray) -> float:
    """Mean distance of the landmarks, as a share of the distance between the eyes."""
    return float(np.linalg.norm(found - landmarks, axis=1).mean() / np.linalg.norm(landmarks[0] - landmarks[1]))


def error(face: DetectedFace, landmarks: np.ndarray) -> float:
    """`distance` of a face's landmarks."""
    return distance(face.landmarks, landmarks)


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[tuple[RgbImage, np.ndarray]]:
    """The 60 raw LFW photos, each with the landmarks `(5, 2)` of the shared table."""
    store = ImageStore(shared / "data/lfw/lfw_raw250_sample.zip")
    with open(shared / "data/lfw/lfw_landmarks_250.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    columns = [f"{axis}{number}" for number in range(1, 6) for axis in "xy"]
    return [
        (store.read(name), np.array([float(rows[name][column]) for column in columns]).reshape(5, 2))
        for name in store.names
    ]


@pytest.mark.parametrize("shape", [(1, 1), (11, 200), (90, 120)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_flat_images_hold_no_face(shape: tuple[int, int], grey: int) -> None:
    assert mtcnn().detect(np.full((*shape, 3), grey, np.uint8)) == []


def test_noise_holds_no_face() -> None:
    assert mtcnn().detect(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)) == []


def test_pyramid_halves_the_area_down_to_the_window() -> None:
    sizes = [level.shape[:2] for level in pyramid(np.zeros((100, 200, 3), np.uint8), CascadeSettings(min_face=24))]
    assert sizes == [(50, 100), (35, 71), (25, 50), (18, 36), (13, 25)]
    large = next(iter(pyramid(np.zeros((2000, 4000, 3), np.uint8), CascadeSettings(max_level_pixels=20_000))))
    assert large.shape == (100, 200, 3)
    assert not list(pyramid(np.zeros((5, 900, 3), np.uint8), CascadeSettings()))


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected an RGB image"):
        mtcnn().detect(image)


def test_bad_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no detector 'haar': expected mtcnn or yunet"):
        load_detector("haar")
    with pytest.raises(UserError, match="no file can be given"):
        load_detector("mtcnn", tmp_path / "x.onnx")
    with pytest.raises(UserError, match="-1 threads"):
        load_detector("mtcnn", threads=-1)
    with pytest.raises(UserError, match="scale_factor"):
        MtcnnDetector(CascadeSettings(scale_factor=1.0))


def test_yunet_takes_only_the_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"absent\.onnx does not exist"):
        load_detector("yunet", tmp_path / "absent.onnx")
    (tmp_path / "other.onnx").write_bytes(b"other")
    with pytest.raises(UserError, match=r"other\.onnx has sha256 .* expected 8f2383e4"):
        load_detector("yunet", tmp_path / "other.onnx")
    monkeypatch.setattr(detector_yunet, "find_weights", lambda name: None)
    monkeypatch.setattr(detector_yunet, "REPOSITORY_ROOT", tmp_path)
    with pytest.raises(UserError, match=r"could not be fetched .* put it at .*checkpoints"):
        load_detector("yunet")


def test_lfw_faces_are_found(detector: Detector, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    """MTCNN's landmarks, refined, against the table's, which are YuNet's; 5 % is wanted and not reached."""
    errors = []
    for image, landmarks in photos:
        faces = detector.detect(image)
        assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
        errors += [min(error(face, landmarks) for face in faces)] if faces else []
    found = [value for value in errors if value < 0.5]
    print(f"{detector.name}: {len(found)} of {len(photos)}, mean landmark error {np.mean(found):.2%}")
    assert len(found) >= 59
    assert np.mean(found) < {"mtcnn": 0.105, "yunet": 0.001}[detector.name]


def test_how_exact_the_table_is(shared: Path, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    """The table's detector on the same photos, moved by a few pixels: it does not find its own landmarks again.

    The mean of many such looks is what another detector could agree with at best.
    """
    yunet, once, at_best = load_detector("yunet", shared / YUNET), [], []
    for image, landmarks in photos:
        looks = []
        for left, top in np.random.default_rng(0).integers(1, 32, (12, 2)).tolist():
            moved = cv2.copyMakeBorder(image, top, 32 - top, left, 32 - left, cv2.BORDER_REPLICATE)
            faces = [face.landmarks - np.array([left, top], np.float32) for face in yunet.detect(moved)]
            looks.append(min(faces, key=lambda points: distance(points, landmarks)))
        once += [distance(points, landmarks) for points in looks]
        at_best.append(distance(np.mean(looks, axis=0), landmarks))
    print(f"yunet on moved photos: off by {np.mean(once):.2%}, the mean of 12 looks by {np.mean(at_best):.2%}")
    assert 0.05 < np.mean(once) < 0.1


@pytest.mark.parametrize("degrees", [-20, 20])
def test_turned_faces_are_found(detector: Detector, degrees: int, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    found = 0
    for image, landmarks in photos[::6]:
        matrix = cv2.getRotationMatrix2D((125, 125), degrees, 1)
        faces = detector.detect(cv2.warpAffine(image, matrix, (250, 250)))
        found += any(error(face, landmarks @ matrix[:, :2].T + matrix[:, 2]) < 0.3 for face in faces)
    assert found >= 8  # of 10


@pytest.mark.parametrize("pixels", [24, 16])
def test_small_faces_are_found(detector: Detector, pixels: int, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    """The aligned face 24 pixels wide, in a photo of 41 pixels and 30 of border; at 16 pixels some are missed."""
    errors = []
    for image, landmarks in photos[::6]:
        scale = pixels / native_size(landmarks)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        faces = detector.detect(cv2.copyMakeBorder(small, 30, 30, 30, 30, cv2.BORDER_REPLICATE))
        errors += [min((error(face, (landmarks + 0.5) * scale - 0.5 + 30) for face in faces), default=1.0)]
    found = [value for value in errors if value < 0.5]
    print(f"{detector.name}, {pixels} pixels: {len(found)} of {len(errors)}, mean landmark error {np.mean(found):.2%}")
    assert len(found) >= {24: 8, 16: {"mtcnn": 8, "yunet": 3}[detector.name]}[pixels]


def test_many_faces_are_found(detector: Detector, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    rows = [np.hstack([photos[5 * row + column][0] for column in range(4)]) for row in range(3)]
    faces = detector.detect(np.vstack(rows))
    found = 0
    for row in range(3):
        for column in range(4):
            landmarks = photos[5 * row + column][1] + [250 * column, 250 * row]
            found += any(error(face, landmarks) < 0.3 for face in faces)
    assert found >= 11  # of 12


def test_faces_partly_outside_do_no_harm(detector: Detector, photos: list[tuple[RgbImage, np.ndarray]]) -> None:
    """Cut at the middle of the mouth, and then through one eye: found or not, never an error."""
    found = 0
    for image, landmarks in photos[::12]:
        mouth = int(landmarks[3:, 1].mean())
        found += any(error(face, landmarks) < 0.4 for face in detector.detect(image[:mouth]))
        detector.detect(image[:, int(landmarks[1, 0]) :])
    assert found >= 1  # of 5
