"""The landmark refiner: torch against ONNX, from crop to photo and back, within MTCNN, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from common.errors import UserError
from common.images import RgbImage
from common.paths import REPOSITORY_ROOT
from facial_rec import detector_mtcnn, landmark_refiner
from facial_rec.alignment import ARCFACE_TEMPLATE, similarity_transform, template
from facial_rec.detector import DetectedFace
from facial_rec.detector_mtcnn import MtcnnDetector
from facial_rec.landmark_crops import CROP, in_pixels, in_sides
from facial_rec.landmark_labels import MIRRORED, mirrored, moved
from facial_rec.landmark_net import LandmarkNet, landmarks_onnx
from facial_rec.landmark_refiner import FORMAT, LandmarkRefiner, load_refiner
from facial_rec.mtcnn_networks import mtcnn_onnx

ABOUT = {"format": FORMAT, "passes": "1"}
PLACE = np.array([[1.3, -0.4, 31.0], [0.4, 1.3, 12.0]])


@pytest.fixture
def network() -> LandmarkNet:
    """Random, with batch norms that are not the identity."""
    torch.manual_seed(0)
    network = LandmarkNet()
    torch.nn.init.normal_(network.out.weight, std=1.0)
    for _ in range(5):
        network.train()(torch.rand(16, 3, CROP, CROP) * 255)
    return network.eval()


def written(folder: Path, network: LandmarkNet, **about: str) -> Path:
    path = folder / "landmarks.onnx"
    path.write_bytes(landmarks_onnx(network, ABOUT | about))
    return path


def test_a_mirrored_photo_has_mirrored_landmarks(network: LandmarkNet, tmp_path: Path) -> None:
    refiner, photo = LandmarkRefiner(written(tmp_path, network), threads=1), noise((112, 112))
    guess = moved(ARCFACE_TEMPLATE, np.array([[0.6, 0.1, 20.0], [-0.1, 0.6, 25.0]]))[None]
    found = refiner.refine(photo, guess)
    again = mirrored(refiner.refine(np.ascontiguousarray(photo[:, ::-1]), mirrored(guess)))
    np.testing.assert_allclose(found, again, atol=1.2)  # the template is not quite its mirror image
    assert np.abs(found - guess).max() > 2.5


def noise(size: tuple[int, int] = (180, 200)) -> RgbImage:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 5])
def test_onnx_says_what_torch_says(network: LandmarkNet, tmp_path: Path, batch: int) -> None:
    images = torch.rand(batch, 3, 4, 4).repeat_interleave(CROP // 4, 2).repeat_interleave(CROP // 4, 3) * 255
    expected = network(images).detach().numpy()
    session = LandmarkRefiner(written(tmp_path, network), threads=1)._session
    (found,) = session.run(["landmarks"], {"input": images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if batch > 1:
        assert np.abs(expected - expected.mean(axis=0)).max() > 1e-3  # it does look at the face


def test_the_file_is_small_and_plain(network: LandmarkNet, tmp_path: Path) -> None:
    path = written(tmp_path, network)
    model = onnx.load(path)
    assert path.stat().st_size <= 700 * 1024
    assert model.opset_import[0].version <= 17
    assert {node.op_type for node in model.graph.node} <= {"Sub", "Mul", "Conv", "Relu", "Flatten", "Gemm", "Reshape"}


def test_landmarks_return_to_the_photo(tmp_path: Path) -> None:
    said = in_sides(template(CROP))
    said = (said + np.array([1, 0], np.float32) + said[MIRRORED] * np.array([-1, 1], np.float32)) / 2
    refiner = LandmarkRefiner(written(tmp_path, saying(said)), threads=1)
    guesses = np.stack([moved(ARCFACE_TEMPLATE + np.eye(5, 2) * shift, PLACE) for shift in (0, 3)])
    found = refiner.refine(noise(), guesses)
    for guess, points in zip(guesses, found, strict=True):
        to_crop = np.vstack([similarity_transform(guess, template(CROP)), [0, 0, 1]])
        np.testing.assert_allclose(points, moved(in_pixels(said), np.linalg.inv(to_crop)[:2]), atol=1e-2)
    assert refiner.refine(noise(), guesses[:0]).shape == (0, 5, 2)


def saying(landmarks: np.ndarray) -> LandmarkNet:
    """A network that gives the same landmarks, in sides of the crop, whatever it looks at."""
    network = LandmarkNet()
    torch.nn.init.zeros_(network.out.weight)
    network.out.bias.data = torch.from_numpy(landmarks.reshape(10)).float() - network.anchors
    return network


def test_passes_are_one_after_the_other(network: LandmarkNet, tmp_path: Path) -> None:
    refiner = LandmarkRefiner(written(tmp_path, network, passes="2"), threads=1)
    guess = moved(ARCFACE_TEMPLATE, PLACE)[None]
    once = refiner.refine(noise(), guess, passes=1)
    np.testing.assert_allclose(refiner.refine(noise(), guess), refiner.refine(noise(), once, passes=1), atol=1e-3)
    np.testing.assert_array_equal(refiner.refine(noise(), guess, passes=0), guess)


def test_many_faces_are_refined_as_each_alone(
    network: LandmarkNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmark_refiner, "BATCH", 3)
    refiner = LandmarkRefiner(written(tmp_path, network), threads=1)
    guesses = np.stack([moved(ARCFACE_TEMPLATE, PLACE + shift) for shift in range(7)])
    together = refiner.refine(noise(), guesses)
    alone = np.concatenate([refiner.refine(noise(), guess[None]) for guess in guesses])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_other_files_are_refused(network: LandmarkNet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.onnx is missing: expected landmarks\.onnx"):
        LandmarkRefiner(tmp_path / "absent.onnx")
    (tmp_path / "onet.onnx").write_bytes(mtcnn_onnx()["onet"])
    with pytest.raises(UserError, match=r"onet\.onnx has the format None .* no landmark refiner"):
        LandmarkRefiner(tmp_path / "onet.onnx")
    path = written(tmp_path, network)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"landmarks\.onnx is no ONNX model"):
        LandmarkRefiner(path)
    for passes in ("0", "many", "9"):
        with pytest.raises(UserError, match="passes"):
            LandmarkRefiner(written(tmp_path, network, passes=passes))
    torch.nn.init.constant_(network.out.bias, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        LandmarkRefiner(written(tmp_path, network)).refine(noise(), moved(ARCFACE_TEMPLATE, PLACE)[None])


def test_without_the_file_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(landmark_refiner, "find_weights", lambda name: None)
    landmark_refiner._say_missing.cache_clear()
    assert [load_refiner(), load_refiner()] == [None, None]
    assert capsys.readouterr().err.count("landmarks.onnx is not in checkpoints/") == 1


class Found(MtcnnDetector):
    """Its cascade always finds two faces."""

    def _propose(self, image: RgbImage) -> np.ndarray:
        return np.array([[40, 20, 90, 70], [100, 60, 170, 130]], np.float32)

    def _refine(self, image: RgbImage, windows: np.ndarray) -> np.ndarray:
        return windows

    def _look(self, network: str, image: RgbImage, windows: np.ndarray) -> list[np.ndarray]:
        points = np.repeat(ARCFACE_TEMPLATE[None] / 112, 2, axis=0)
        return [np.array([0.9, 0.95], np.float32), np.zeros((2, 4), np.float32), points]


def test_mtcnn_refines_unless_told_not_to(
    network: LandmarkNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmark_refiner, "find_weights", lambda name: written(tmp_path, network))
    own, refined = Found(threads=1, refine=False).detect(noise()), Found(threads=1).detect(noise())
    assert [one.score for one in refined] == [one.score for one in own] == pytest.approx([0.95, 0.9])
    expected = LandmarkRefiner(tmp_path / "landmarks.onnx").refine(noise(), landmarks_of(own))
    np.testing.assert_allclose(landmarks_of(refined), expected, atol=1e-3)
    assert np.abs(landmarks_of(own) - expected).max() > 0.1
    monkeypatch.setattr(detector_mtcnn, "load_refiner", lambda threads: pytest.fail("not asked for"))
    assert MtcnnDetector(threads=1, refine=False).detect(np.zeros((60, 60, 3), np.uint8)) == []


def landmarks_of(faces: list[DetectedFace]) -> np.ndarray:
    return np.stack([face.landmarks for face in faces])


def test_the_file_in_checkpoints_says_what_it_is() -> None:
    path = REPOSITORY_ROOT / "checkpoints" / "landmarks.onnx"
    about = LandmarkRefiner(path)._session.get_modelmeta().custom_metadata_map
    assert about["licence"].startswith("CC BY-NC-SA 4.0")
    assert min(len(about[key]) for key in ("trained_on", "labels", "settings", "landmarks")) > 10
    assert about["input"].startswith("input: float32 (N, 3, 64, 64)")
    assert path.stat().st_size <= 700 * 1024
