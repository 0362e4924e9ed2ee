"""`python -m dsr.prepare_dataset lfw`: the fetcher, the test split and no other, and going on after a kill."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.images import ImageStore, RgbImage, write_png
from dsr import lfw, prepare_dataset
from dsr.prepare_dataset import Config, Lfw, main
from facial_rec.alignment import align_face, template
from facial_rec.detector import DetectedFace

PHOTOS = ("Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002", "Bob/Bob_0001")


def photo(seed: int) -> RgbImage:
    return np.random.default_rng(seed).integers(0, 256, (250, 250, 3), dtype=np.uint8)


class Stub:
    """Finds one face off the centre and one near it; none in Bob, whose photo is black."""

    name = "mtcnn"

    def __init__(self) -> None:
        self.calls = 0
        self.fail_at = -1

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        if not image.any():
            return []
        near = (template(140) + np.array([55, 60])).astype(np.float32)
        return [
            DetectedFace(np.array([0, 0, 60, 60], np.float32), near / 2, 0.99),
            DetectedFace(np.array([60, 60, 190, 200], np.float32), near, 0.9),
        ]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub()
    monkeypatch.setattr(prepare_dataset, "load_detector", lambda name, weights: found)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index, name in enumerate(PHOTOS):
        write_png(root / f"{name}.png", np.zeros((250, 250, 3), np.uint8) if index == 2 else photo(index))
    return root


def test_the_test_split_is_made(stub: Stub, photos: Path, tmp_path: Path) -> None:
    main(Config(Lfw(source=photos, out=tmp_path / "out")))
    hr = tmp_path / "out/test_processed/hr_images"
    assert sorted(path.name for path in hr.iterdir()) == ["Ann_Lee_0001.png", "Ann_Lee_0002.png", "Bob_0001.png"]
    face = np.asarray(Image.open(hr / "Ann_Lee_0002.png"))
    assert np.array_equal(face, align_face(photo(1), stub.detect(photo(1))[1].landmarks)), "the face near the centre"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test_processed"]
    meta = json.loads((tmp_path / "out/test_processed/meta.json").read_text())
    assert meta["cut_out_without_detection"] == ["Bob/Bob_0001.png"]
    assert meta["source"].startswith("LFW")
    assert meta["command"].startswith("python -m dsr.prepare_dataset lfw --source")


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_other_splits_are_refused(stub: Stub, photos: Path, tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match=f"--split {split}: LFW is a test set"):
        main(Config(Lfw(source=photos, out=tmp_path / "out", split=split)))
    assert not (tmp_path / "out").exists()


def test_a_killed_run_goes_on(stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.fail_at = 2
    with pytest.raises(KeyboardInterrupt):
        main(Config(Lfw(source=photos, out=tmp_path / "out")))
    stub.calls, stub.fail_at = 0, -1
    main(Config(Lfw(source=photos, out=tmp_path / "out")))
    assert stub.calls == 2, "the first photo was aligned already"
    with pytest.raises(UserError, match="--overwrite"):
        main(Config(Lfw(source=photos, out=tmp_path / "out")))


def test_a_killed_run_of_other_photos_leaves_none_in_the_split(stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.fail_at = 3
    with pytest.raises(KeyboardInterrupt):
        main(Config(Lfw(source=photos, out=tmp_path / "out")))
    stub.calls, stub.fail_at = 0, -1
    write_png(photos / "Ann_Lee/Ann_Lee_0001.png", photo(7))  # corrected
    (photos / "Ann_Lee/Ann_Lee_0002.png").rename(photos / "Ann_Lee/Ann_Lee_0000.png")
    main(Config(Lfw(source=photos, out=tmp_path / "out")))
    assert stub.calls == 3
    hr = tmp_path / "out/test_processed/hr_images"
    assert sorted(path.name for path in hr.iterdir()) == ["Ann_Lee_0001.png", "Ann_Lee_0002.png", "Bob_0001.png"]
    for number, seed in ((1, 1), (2, 7)):  # numbered again, in the order of the names
        face = align_face(photo(seed), stub.detect(photo(seed))[1].landmarks)
        assert np.array_equal(np.asarray(Image.open(hr / f"Ann_Lee_000{number}.png")), face)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test_processed"]


def archive(home: Path, name: str, photos: Path) -> None:
    """What scikit-learn's fetcher looks for before it downloads."""
    folder = home / "lfw_home"
    folder.mkdir(parents=True)
    for listed in ("pairsDevTrain.txt", "pairsDevTest.txt", "pairs.txt"):
        (folder / listed).touch()
    with tarfile.open(folder / name, "w:gz") as tar:
        for path in sorted(photos.rglob("*.png")):
            data = io.BytesIO()
            Image.open(path).save(data, format="JPEG")
            info = tarfile.TarInfo(f"lfw/{path.parent.name}/{path.stem}.jpg")
            info.size = data.tell()
            data.seek(0)
            tar.addfile(info, data)


def test_scikit_learn_fetches_the_original_photos(photos: Path, tmp_path: Path) -> None:
    archive(tmp_path / "home", "lfw.tgz", photos)
    folder = lfw.fetch_lfw(tmp_path / "home")
    assert ImageStore(folder).names == [f"{name}.jpg" for name in PHOTOS]
    assert lfw.fetch_lfw(tmp_path / "home") == folder


def test_no_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", unreachable)
    with pytest.raises(UserError, match=r"could not be downloaded \(no route to host\).*--source"):
        lfw.fetch_lfw(tmp_path)


def test_the_usual_place_is_where_lfw_faces_are() -> None:
    """Against the mean of the five landmarks over LFW photos of 250 pixels: eyes near (104, 112) and (147, 112)."""
    points = lfw.centred_landmarks(np.zeros((250, 250, 3), np.uint8))
    assert points.shape == (5, 2)
    np.testing.assert_allclose(points[:2].mean(axis=0), [123, 111], atol=6)


def test_photos_that_may_be_unpacked_in_part_are_named(photos: Path, tmp_path: Path) -> None:
    archive(tmp_path / "home", "lfw.tgz", photos)
    half = tmp_path / "home" / "lfw_home" / "lfw"
    half.mkdir()
    with pytest.raises(UserError, match=r"lfw may hold a part of LFW only: .*lfw\.tgz.* else remove the folder"):
        lfw.fetch_lfw(tmp_path / "home")
    half.rmdir()
    assert ImageStore(lfw.fetch_lfw(tmp_path / "home")).names == [f"{name}.jpg" for name in PHOTOS]
