"""facial_rec.faceset: every layout that is read, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.images import write_png
from facial_rec.faceset import Face, FaceSet, subject_of

FLAT = ["ann_lee_1.png", "ann_lee_2.png", "bob_1.png"]
PER_IDENTITY = ["ann_lee/a.png", "ann_lee/b.png", "bob/bob_0001.png"]
PROCESSED = [f"hr_images/{name}" for name in FLAT]


def write(root: Path, names: list[str], size: int = 112) -> Path:
    for index, name in enumerate(names):
        write_png(root / name, np.full((size, size, 3), index, np.uint8))
    return root


def zipped(root: Path) -> Path:
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root).as_posix())
    return target


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("names", [FLAT, PER_IDENTITY, PROCESSED], ids=["flat", "per-identity", "hr_images"])
def test_layouts(tmp_path: Path, names: list[str], packed: bool) -> None:
    root = write(tmp_path / "faces", names)
    if names is PROCESSED:
        write(root, [f"vlr_images/{name}" for name in FLAT], size=16)
    faces = FaceSet(zipped(root) if packed else root)
    assert len(faces) == 3
    assert [face.subject for face in faces.faces] == ["ann_lee", "ann_lee", "bob"]
    assert faces.subjects == ["ann_lee", "bob"]
    assert [int(faces.read(face)[0, 0, 0]) for face in faces.faces] == [0, 1, 2]
    faces.require_identities(2)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee"),
        ("set/Ann_Lee/x.jpg", "Ann_Lee"),
        ("hr_images/ann_lee_3.png", "ann_lee"),
        ("vlr_images/ann_lee_3.png", "ann_lee"),
        ("ann_12.png", "ann"),
        ("photo.png", "photo"),
        ("_1.png", "_1"),
        ("ann_.png", "ann_"),
    ],
)
def test_subject_of(name: str, subject: str) -> None:
    assert subject_of(name) == subject


def test_stem_is_shared_by_twins() -> None:
    assert Face("hr_images/ann_3.png", "ann").stem == Face("vlr_images/ann_3.jpg", "ann").stem == "ann_3"


def test_one_identity_is_refused_with_advice(tmp_path: Path) -> None:
    faces = FaceSet(write(tmp_path / "faces", ["ann_1.png", "ann_2.png"]))
    with pytest.raises(UserError, match=r"2 images of 1 identity: at least 2 are needed\. Name files <subject>_<n>"):
        faces.require_identities()
    faces.require_identities(1)


def test_empty_and_missing_roots_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "processed/hr_images").mkdir(parents=True)
    for name, words in [("empty", "holds no image"), ("processed", "hr_images holds no image"), ("no", "not exist")]:
        with pytest.raises(UserError, match=words):
            FaceSet(tmp_path / name)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    path.write_text("not a zip")
    with pytest.raises(UserError, match="not a readable zip"):
        FaceSet(path)


def test_size_is_checked_unless_any_will_do(tmp_path: Path) -> None:
    faces = FaceSet(write(tmp_path / "faces", ["ann_1.png"], size=16))
    with pytest.raises(UserError, match=r"ann_1\.png is 16x16, expected 112x112"):
        faces.read(faces.faces[0])
    assert faces.read(faces.faces[0], size=None).shape == (16, 16, 3)
