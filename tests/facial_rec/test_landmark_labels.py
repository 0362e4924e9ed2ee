"""Labels of the landmark refiner: what an aligned face says of its landmarks, and what YuNet adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.images import RgbImage
from facial_rec import landmark_labels
from facial_rec.alignment import ARCFACE_TEMPLATE, similarity_transform
from facial_rec.detector import DetectedFace
from facial_rec.faceset import FaceSet
from facial_rec.landmark_labels import label_face, label_faces, mirrored, moved, onto_template, reference_shift

TURNED = np.array([[0.9, -0.2, 9.0], [0.2, 0.9, -4.0]])
SHAPE = ARCFACE_TEMPLATE + np.array([[-1, 1], [1, 1], [0, 3], [-1, -2], [1, -2]], np.float32)


class Stub:
    """Finds the landmarks that a function of (look number, size of the picture) gives, in 112x112 of the middle."""

    name = "stub"

    def __init__(self, landmarks: object = SHAPE, wider: float = 0.0) -> None:
        self.landmarks, self.wider, self.looks = landmarks, wider, 0

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        self.looks += 1
        scale, border = {176: (1.0, 32), 168: (1.5, 0), 224: (2.0, 0), 352: (2.0, 32)}[image.shape[0]]
        if self.landmarks is None:
            return []
        points = np.array(self.landmarks, np.float64)
        points[:, 0] += self.wider * np.array([-1, 1, 0, -1, 1]) * (border == 32 and scale == 2.0)
        points = (points + border + 0.5) * scale - 0.5
        return [DetectedFace(np.zeros(4, np.float32), points.astype(np.float32), 0.9)]


def test_a_label_lies_on_the_template_whatever_turn_and_size_was_seen() -> None:
    turned = moved(SHAPE, TURNED)
    again = onto_template(turned)
    np.testing.assert_allclose(similarity_transform(again, ARCFACE_TEMPLATE), [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    np.testing.assert_allclose(again, onto_template(SHAPE), atol=1e-3)
    detector = Stub()
    found = label_face(np.zeros((112, 112, 3), np.uint8), detector)
    assert found is not None
    assert detector.looks == 6
    symmetric = onto_template((onto_template(SHAPE) + mirrored(onto_template(SHAPE))) / 2)
    np.testing.assert_allclose(found, symmetric, atol=1e-3)


def test_a_mirror_image_mirrored_is_the_face() -> None:
    np.testing.assert_allclose(mirrored(mirrored(SHAPE)), SHAPE, atol=1e-5)
    assert mirrored(SHAPE)[0, 0] == pytest.approx(111 - SHAPE[1, 0])


def test_unsure_faces_have_no_label() -> None:
    face = np.zeros((112, 112, 3), np.uint8)
    assert label_face(face, Stub(None)) is None
    assert label_face(face, Stub(SHAPE + 12)) is None  # another face, beside this one
    turned_head = SHAPE + np.array([[0, 0], [0, 0], [12, 0], [0, 0], [0, 0]])
    assert label_face(face, Stub(turned_head)) is None  # its mirror image says the opposite


def test_the_mean_shape_is_the_reference_looks(people: Path) -> None:
    faces, detector = FaceSet(people), Stub(wider=2.0)
    labels = np.stack([label_face(faces.read(one), detector) for one in faces.faces])
    labels[3] = np.nan
    shift = reference_shift(faces, labels, detector)
    expected = label_face(faces.read(faces.faces[0]), detector, landmark_labels.REFERENCE)
    np.testing.assert_allclose(labels[0] + shift, expected, atol=0.02)
    np.testing.assert_allclose(mirrored(SHAPE + shift) - mirrored(SHAPE), shift, atol=1e-3)
    with pytest.raises(UserError, match="sure of no face"):
        reference_shift(faces, labels, Stub(None))


def test_labelling_goes_on_after_a_kill(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmark_labels, "KEPT_EVERY", 4)
    faces, kept = FaceSet(people), tmp_path / "labels.npz"
    whole = label_faces(faces, Stub(), tmp_path / "whole.npz", "labels")
    assert whole.shape == (18, 5, 2)
    assert np.isfinite(whole).all()

    class Killed(Stub):
        def detect(self, image: RgbImage) -> list[DetectedFace]:
            if self.looks == 6 * 9:
                raise KeyboardInterrupt
            return super().detect(image)

    with pytest.raises(KeyboardInterrupt):
        label_faces(faces, Killed(), kept, "labels")
    rest = Stub()
    np.testing.assert_array_equal(label_faces(faces, rest, kept, "labels"), whole)
    assert rest.looks == 6 * 10  # 8 of the 18 were kept
    with pytest.raises(UserError, match=r"labels\.npz holds landmarks of other faces"):
        label_faces(FaceSet(people / "P0"), Stub(), kept, "labels")
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"labels\.npz cannot be read"):
        label_faces(faces, Stub(), kept, "labels")


def test_a_half_copied_file_of_labels_is_named(people: Path, tmp_path: Path) -> None:
    faces = FaceSet(people)
    kept = tmp_path / "labels.npz"
    np.savez(kept, names=np.array(["a"]), labels=np.zeros((1, 5, 2), np.float32))
    kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    with pytest.raises(UserError, match=r"labels\.npz cannot be read .*Remove it, and they are made again"):
        label_faces(faces, Stub(), kept, "labels")
