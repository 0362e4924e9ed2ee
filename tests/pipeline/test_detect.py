"""`python -m pipeline.detect` and `get_aligned_face`, with a detector that finds a face wherever it is not dark."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.images import RgbImage, write_png
from facial_rec.alignment import align_face, template
from pipeline import aligned_face, detect
from pipeline.aligned_face import get_aligned_face
from pipeline.detect import Config, main
from pipeline.detector import DetectedFace


class Stub:
    name = "mtcnn"

    def detect(self, image: RgbImage) -> list[DetectedFace]:
        if image.max() < 20:
            return []
        small = (template(20) + 2).astype(np.float32)
        large = (template(60) + 30).astype(np.float32)
        return [
            DetectedFace(np.array([2, 2, 22, 22], np.float32), small, 0.99),
            DetectedFace(np.array([30, 30, 90, 90], np.float32), large, 0.9),
        ]


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "load_detector", lambda *_: Stub())
    monkeypatch.setattr(aligned_face, "_default_detector", Stub)


def photo(seed: int) -> RgbImage:
    return np.random.default_rng(seed).integers(0, 256, (100, 120, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    write_png(root / "a.png", photo(0))
    write_png(root / "sub" / "b.png", photo(1))
    write_png(root / "dark.png", np.zeros((50, 50, 3), np.uint8))
    (root / "empty.jpg").touch()
    (root / "text.jpg").write_text("no image")
    return root


def test_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main(Config(photos, out))
    said = capsys.readouterr().out
    assert "5 photos: 4 faces in 2, 3 skipped" in said
    assert "empty.jpg is empty" in said
    assert "text.jpg is not a PNG" in said
    assert "dark.png: mtcnn found no face" in said
    with open(out / "faces.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["crop"] for row in rows] == ["a.png_1.png", "a.png_2.png", "sub/b.png_1.png", "sub/b.png_2.png"]
    assert float(rows[1]["native_size"]) == pytest.approx(60)
    for row in rows:
        original = photo(0 if row["photo"] == "a.png" else 1)
        points = np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in detect.LANDMARKS])
        crop = np.asarray(Image.open(out / "crops" / row["crop"])).astype(int)
        assert np.abs(crop - align_face(original, points)).mean() < 2, "the table's landmarks give the crop"
    table = json.loads((out / "faces.json").read_text())
    assert table["detector"] == "mtcnn"
    assert len(table["faces"]) == 4
    picture = np.asarray(Image.open(out / "boxes" / "sub" / "b.png.png"))
    assert picture.shape == (100, 120, 3)
    assert (picture != photo(1)).any()


def test_one_photo_and_a_zip(photos: Path, tmp_path: Path) -> None:
    main(Config(photos / "a.png", tmp_path / "one", size=32))
    assert Image.open(tmp_path / "one/crops/a.png_1.png").size == (32, 32)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(photos / "a.png", "a.png")
        archive.write(photos / "a.png", "../up.png")
        archive.writestr("/root.png", (photos / "a.png").read_bytes())
    main(Config(tmp_path / "z.zip", tmp_path / "deep" / "zip"))
    assert [path.name for path in (tmp_path / "deep/zip/boxes").iterdir()] == ["a.png.png"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["zip"]


def test_no_face_anywhere_is_an_error(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no photo gave a face"):
        main(Config(photos / "dark.png", tmp_path / "out"))
    with pytest.raises(UserError, match="--size 7"):
        main(Config(photos, tmp_path / "out", size=7))
    with pytest.raises(UserError, match="does not exist"):
        main(Config(tmp_path / "absent", tmp_path / "out"))


def test_aligned_face_is_that_of_the_largest(photos: Path) -> None:
    expected = align_face(photo(0), template(60) + 30)
    assert np.array_equal(get_aligned_face(photos / "a.png"), expected)
    assert get_aligned_face(str(photos / "a.png"), Stub(), 24).shape == (24, 24, 3)


def test_aligned_face_refusals(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dark\.png: mtcnn found no face"):
        get_aligned_face(photos / "dark.png")
    with pytest.raises(UserError, match=r"absent\.png does not exist"):
        get_aligned_face(tmp_path / "absent.png")
    with pytest.raises(UserError, match=r"empty\.jpg is empty"):
        get_aligned_face(photos / "empty.jpg")


def test_command_line_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, pipeline.detect as d\n"
        "try: d.cli.run(d.main, d.Config)\n"
        "except SystemExit as end: code = end.code\n"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    write_png(tmp_path / "grey.png", np.full((40, 40, 3), 128, np.uint8))
    command = [sys.executable, "-c", code, str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr
    assert "grey.png: mtcnn found no face" in done.stdout
