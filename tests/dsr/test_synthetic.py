"""Synthetic faces: same seed, same bytes; people differ; landmarks are true; YuNet and EdgeFace take them for faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dsr.synthetic import ARCFACE_TEMPLATE, render_aligned, render_scene, similarity
from dsr.synthetic_people import sample_identity
from dsr.synthetic_shot import sample_shot

DETECTOR_SCORE = 0.9  # YuNet's own default


def test_same_numbers_give_the_same_bytes() -> None:
    first = render_aligned(3, 1, 2)
    render_aligned(3, 0, 0)  # what was drawn in between makes no difference
    assert np.array_equal(first, render_aligned(3, 1, 2))
    assert first.shape == (112, 112, 3)
    assert first.dtype == np.uint8


@pytest.mark.parametrize("other", [(4, 1, 2), (3, 0, 2), (3, 1, 0), (3, 1, 1)])
def test_any_other_number_gives_another_picture(other: tuple[int, int, int]) -> None:
    difference = render_aligned(3, 1, 2).astype(int) - render_aligned(*other).astype(int)
    assert np.abs(difference).mean() > 4


def test_zero_is_a_number_like_any_other() -> None:
    """NumPy pads seeds with zeros: person 0 and picture 0 must not repeat another stream."""
    assert len({sample_shot(0, 0, image) for image in range(20)}) == 20
    assert len({sample_identity(seed, identity) for seed in range(5) for identity in range(20)}) == 100


def test_people_differ_in_geometry_and_colouring() -> None:
    people = [sample_identity(0, identity) for identity in range(200)]
    columns = {
        "eye distance": [p.eyes.distance for p in people],
        "nose width": [p.nose.width for p in people],
        "mouth width": [p.mouth.width for p in people],
        "jaw width": [p.skull.jaw_width for p in people],
        "skin": [p.skin.colour[0] for p in people],
        "hair": [p.hair.colour[0] for p in people],
    }
    for name, values in columns.items():
        assert np.std(values) / np.mean(values) > 0.05, name
    skin = np.array([p.skin.colour for p in people])
    assert skin[:, 0].min() < 0.2, "dark skin is missing"
    assert skin[:, 0].max() > 0.75, "fair skin is missing"
    assert (skin[:, 0] > skin[:, 2]).all(), "skin is never blue"
    assert {p.beard.kind for p in people} == {"none", "stubble", "moustache", "goatee", "full"}
    assert 10 < sum(p.glasses is not None for p in people) < 80


def test_pictures_of_one_person_differ_in_pose_light_and_expression() -> None:
    shots = [sample_shot(0, 0, image) for image in range(100)]
    assert np.degrees(np.std([s.yaw for s in shots])) > 8
    assert np.std([s.light.direction[0] for s in shots]) > 0.2
    assert np.std([s.expression.smile for s in shots]) > 0.2
    assert {s.expression.mouth_open > 0 for s in shots} == {True, False}


@pytest.mark.parametrize("identity", range(4))
def test_landmarks_lie_in_the_scene_in_arcface_order(identity: int) -> None:
    picture, points = render_scene(0, identity, 0)
    assert picture.shape == (250, 250, 3)
    assert points.shape == (5, 2)
    assert points.dtype == np.float32
    assert (points > 0).all()
    assert (points < 250).all()
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_aligned_face_is_the_scene_cut_along_its_landmarks() -> None:
    scene, points = render_scene(0, 3, 1)
    warped = cv2.warpAffine(scene, similarity(points.astype(float), ARCFACE_TEMPLATE), (112, 112))
    aligned = render_aligned(0, 3, 1)
    smooth = [cv2.GaussianBlur(image, (0, 0), 2).astype(float) for image in (warped, aligned)]
    inner = (slice(20, 92), slice(20, 92))
    assert np.corrcoef(smooth[0][inner].ravel(), smooth[1][inner].ravel())[0, 1] > 0.97


def test_similarity_against_opencv() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 250, (5, 2))
    turn = np.array([[0.4, -0.1], [0.1, 0.4]])
    target = source @ turn.T + [7, -3]
    found = similarity(source, target)
    expected, _ = cv2.estimateAffinePartial2D(source, target)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, np.c_[turn, [7, -3]], atol=1e-9)


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_negative_numbers_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        render_aligned(*numbers)


def test_yunet_finds_them(shared: Path) -> None:
    detector = cv2.FaceDetectorYN.create(
        str(shared / "weights/face_detection_yunet_2023mar.onnx"), "", (250, 250), DETECTOR_SCORE
    )
    found, errors = 0, []
    for identity in range(60):
        scene, truth = render_scene(0, identity, identity % 7)
        faces = detector.detect(np.ascontiguousarray(scene[..., ::-1]))[1]
        if faces is not None:
            found += 1
            distance = np.linalg.norm(faces[0, 4:14].reshape(5, 2) - truth, axis=1)
            errors.append(distance.mean() / np.linalg.norm(truth[0] - truth[1]))
    print(f"YuNet at {DETECTOR_SCORE}: {found} of 60 found, landmarks off by {np.mean(errors):.3f} eye distances")
    assert found >= 0.95 * 60
    assert np.mean(errors) < 0.2


def test_edgeface_tells_them_apart(shared: Path) -> None:
    import torch
    from sklearn.metrics import roc_curve

    from facial_rec.embedder import load_embedder

    people = np.repeat(np.arange(30), 6)
    faces = np.stack([render_aligned(0, int(person), index % 6) for index, person in enumerate(people)])
    embedder = load_embedder(shared / "weights/edgeface_xxs_q.pt")
    with torch.no_grad():
        batch = torch.from_numpy(faces).permute(0, 3, 1, 2).float().div(255)
        embeddings = torch.cat([embedder(part) for part in batch.split(60)])
    unit = torch.nn.functional.normalize(embeddings).numpy()
    first, second = np.triu_indices(len(people), 1)
    similarity_of = (unit[first] * unit[second]).sum(1)
    false_accept, true_accept, _ = roc_curve(people[first] == people[second], similarity_of)
    equal = np.argmin(np.abs(false_accept - (1 - true_accept)))
    rate = (false_accept[equal] + 1 - true_accept[equal]) / 2
    print(f"EdgeFace-XXS on synthetic faces: EER {rate:.4f}")
    assert rate <= 0.15
