"""`python -m pipeline.recognise` on made-up faces: every command, a video, and what is said of bad photos."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from common import cli
from common.errors import UserError
from common.images import RgbImage, write_png
from pipeline import recogniser
from pipeline.annotated import annotate, annotated_output
from pipeline.frames import Frame, open_frames
from pipeline.recognise import Config, main

PhotoOf = Callable[..., RgbImage]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    onnx_files: dict[str, str], blocks: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command line in this process: its exit status, output and errors."""
    monkeypatch.setattr(recogniser, "load_detector", lambda *_: blocks)

    def command(*words: object) -> tuple[int, str, str]:
        models = ["--threads", "1", "--edgeface", onnx_files["edgeface"], "--chain", onnx_files["chain"]]
        status = 0
        try:
            cli.run(main, Config, [str(words[0]), *models, *map(str, words[1:])])
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def photos(photo_of: PhotoOf, tmp_path: Path) -> Path:
    """Ann (person 0), Bob (1), both together, and files that are no use."""
    root = tmp_path / "photos"
    write_png(root / "ann_1.png", photo_of((0, 0, 100)))
    write_png(root / "ann_2.png", photo_of((0, 1, 20)))
    write_png(root / "bob.png", photo_of((1, 0, 90)))
    write_png(root / "both.png", photo_of((0, 2, 60), (1, 2, 18)))
    write_png(root / "dark.png", np.zeros((50, 50, 3), np.uint8))
    (root / "empty.jpg").touch()
    return root


@pytest.fixture
def gallery(run: Run, photos: Path, tmp_path: Path) -> Path:
    """Ann and Bob, enrolled."""
    path = tmp_path / "people.sqlite"
    assert run("enrol", "Ann", photos / "ann_1.png", photos / "ann_2.png", "--gallery", path)[0] == 0
    assert run("enrol", "Bob", photos / "bob.png", "--gallery", path)[0] == 0
    return path


@pytest.fixture
def film(photo_of: PhotoOf, tmp_path: Path) -> Path:
    """Ten frames: Ann and a stranger, then nobody."""
    path = tmp_path / "film.avi"
    image = photo_of((0, 5, 80), (7, 0, 64))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (image.shape[1], image.shape[0]))
    assert writer.isOpened()
    for number in range(10):
        writer.write(cv2.cvtColor(image if number < 6 else np.zeros_like(image), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def test_verify(run: Run, photos: Path, tmp_path: Path) -> None:
    status, out, _ = run("verify", photos / "ann_1.png", photos / "ann_2.png", "--json", tmp_path / "answer.json")
    assert status == 0
    assert "ann_2.png, face 1: 20 pixels, by way of the DSR" in out
    assert "same: score 0." in out
    assert "threshold 0.350, at 20 pixels" in out
    assert "note: not calibrated" in out
    record = json.loads((tmp_path / "answer.json").read_text())
    assert record["verdict"]["answer"] == "same"
    status, out, _ = run("verify", photos / "ann_1.png", photos / "bob.png", "--json", "-")
    assert json.loads(out)["verdict"]["answer"] == "different"


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        ("dark.png", "dark.png: blocks found no face"),
        ("both.png", "both.png shows 2 faces, expected one"),
        ("empty.jpg", "empty.jpg is empty (0 bytes)"),
        ("absent.jpg", "absent.jpg does not exist"),
    ],
)
def test_verify_names_the_photo_it_cannot_use(photo: str, words: str, run: Run, photos: Path) -> None:
    status, out, err = run("verify", photos / "ann_1.png", photos / photo)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err


def test_verify_the_largest_and_aligned_faces(
    run: Run, photos: Path, tmp_path: Path, face: Callable[..., RgbImage]
) -> None:
    status, out, _ = run("verify", photos / "ann_1.png", photos / "both.png", "--largest")
    assert status == 0
    assert "both.png, face 1: 60 pixels" in out
    write_png(tmp_path / "a.png", face(0, 0))
    write_png(tmp_path / "b.png", cv2.resize(face(0, 1), (16, 16), interpolation=cv2.INTER_AREA))
    status, out, _ = run("verify", tmp_path / "a.png", tmp_path / "b.png", "--aligned")
    assert status == 0
    assert "same: " in out
    assert "at 16 pixels" in out
    status, _, err = run("verify", tmp_path / "a.png", photos / "both.png", "--aligned")
    assert status == 2
    assert "an aligned face is square" in err


def test_enrol_names_what_it_leaves_out(run: Run, photos: Path, tmp_path: Path) -> None:
    where = tmp_path / "people.sqlite"
    status, out, err = run("enrol", "  Ann ", photos, "--gallery", where, "--json", tmp_path / "answer.json")
    assert status == 0
    assert f"Ann: 3 faces enrolled in {where}" in out
    assert "skipped: " in err
    assert "both.png shows 2 faces" in err
    assert "dark.png: blocks found no face" in err
    assert "empty.jpg is empty" in err
    assert "6 photos: 3 faces, 3 photos skipped" in err
    record = json.loads((tmp_path / "answer.json").read_text())
    assert (record["name"], record["embedding_ids"], len(record["skipped"])) == ("Ann", [1, 2, 3], 3)
    status, _, err = run("enrol", "Ann", photos / "dark.png", "--gallery", where)
    assert status == 2
    assert "dark.png: blocks found no face" in err
    assert run("enrol", "", photos / "bob.png", "--gallery", where)[0] == 2
    status, _, err = run("enrol", "Cid", "--gallery", tmp_path / "new.sqlite")
    assert status == 2
    assert "no photo was given" in err
    assert not (tmp_path / "new.sqlite").exists()


def test_identify(run: Run, gallery: Path, photos: Path, photo_of: PhotoOf, tmp_path: Path) -> None:
    status, out, _ = run("identify", photos / "both.png", "--gallery", gallery)
    assert status == 0
    lines = out.splitlines()
    assert "both.png, face 1: 60 pixels: Ann; same: score 0." in lines[0]
    assert lines[0].endswith("threshold 0.350, at 60 pixels")
    assert "both.png, face 2: 18 pixels, by way of the DSR: Bob; same" in lines[2]
    assert sum(line.startswith("note: not calibrated") for line in lines) == 1, "said once"
    write_png(photos / "new.png", photo_of((5, 0, 90)))
    status, out, err = run("identify", photos, "--gallery", gallery, "--json", "-", "--top", "1")
    record = json.loads(out)
    assert [face["name"] for face in record["faces"]] == ["Ann", "Ann", "Bob", "Ann", "Bob", None]
    assert len(record["faces"][0]["candidates"]) == 1
    assert "7 photos: 6 faces, 2 photos skipped" in err
    _, out, _ = run("identify", photos / "new.png", "--gallery", gallery)
    assert "unknown (most like " in out


def test_galleries_that_cannot_be_used(
    run: Run, gallery: Path, photos: Path, tmp_path: Path, write_onnx: Callable[..., Path]
) -> None:
    status, _, err = run("identify", photos / "bob.png", "--gallery", tmp_path / "absent.sqlite")
    assert status == 2
    assert "There is no gallery" in err
    other = [str(write_onnx(tmp_path / f"{kind}.onnx", kind, "f" * 64)) for kind in ("edgeface", "chain")]
    for command in (["identify"], ["enrol", "Cid"]):
        words = [*command, photos / "bob.png", "--gallery", gallery, "--edgeface", other[0], "--chain", other[1]]
        status, _, err = run(*words)
        assert status == 2
        assert "cannot be compared" in err
    status, _, err = run("verify", photos / "bob.png", photos / "bob.png", "--edgeface", other[0])
    assert status == 2
    assert "hold different recognisers" in err
    gallery.write_bytes(gallery.read_bytes()[:5000])
    status, _, err = run("identify", photos / "bob.png", "--gallery", gallery)
    assert status == 2
    assert "is damaged" in err
    assert run("identify", photos / "bob.png", "--top", "0")[0] == 2


def test_cluster(run: Run, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status, out, err = run("cluster", photos, "--out", page, "--json", tmp_path / "groups.json")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("person")]
    assert len(lines) == 2
    assert "person 1: 3 faces: " in lines[0]
    assert all(name in lines[0] for name in ("ann_1.png", "ann_2.png", "both.png"))
    assert "5 faces, 2 photos skipped" in err
    assert page.read_text().count("<img ") == 5
    record = json.loads((tmp_path / "groups.json").read_text())
    assert [len(person) for person in record["people"]] == [3, 2]
    (tmp_path / "nothing").mkdir()
    write_png(tmp_path / "nothing" / "dark.png", np.zeros((50, 50, 3), np.uint8))
    status, _, err = run("cluster", tmp_path / "nothing", "--out", tmp_path / "none.html")
    assert status == 2
    assert "dark.png: blocks found no face" in err
    assert not (tmp_path / "none.html").exists()


def test_cluster_of_aligned_faces(run: Run, people: Path, tmp_path: Path) -> None:
    status, out, _ = run("cluster", people, "--aligned", "--threshold", "0.6", "--out", tmp_path / "page.html")
    assert status == 0
    assert sum(line.startswith("person") for line in out.splitlines()) == 6


def test_watch_a_video(run: Run, gallery: Path, film: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.avi"
    status, out, err = run("watch", film, "--gallery", gallery, "--every", "2", "--out", seen)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["frame"] for line in lines] == [0, 2, 4, 6, 8]
    assert [line["seconds"] for line in lines] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert [[face["label"] for face in line["faces"]] for line in lines] == [["Ann", "unknown"]] * 3 + [[]] * 2
    assert lines[0]["faces"][0]["resolution"] == pytest.approx(80, abs=2)
    assert "5 frames: 6 faces, 0 problems" in err
    copy = cv2.VideoCapture(str(seen), cv2.CAP_FFMPEG)
    assert (copy.get(cv2.CAP_PROP_FRAME_COUNT), copy.get(cv2.CAP_PROP_FPS)) == (5, 5)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_watch_a_folder(run: Run, gallery: Path, photos: Path, tmp_path: Path) -> None:
    status, out, err = run("watch", photos, "--gallery", gallery, "--out", tmp_path / "pictures")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["name"] for line in lines] == ["ann_1.png", "ann_2.png", "bob.png", "both.png", "dark.png"]
    assert [len(line["faces"]) for line in lines] == [1, 1, 1, 2, 0]
    assert "skipped: " in err
    assert "empty.jpg is empty" in err
    written = sorted((tmp_path / "pictures").iterdir())
    assert len(written) == 5
    picture, original = (np.asarray(Image.open(path)) for path in (written[0], photos / "ann_1.png"))
    assert picture.shape == original.shape
    assert (picture != original).any()


def test_watch_aligned_faces(run: Run, gallery: Path, tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    write_png(tmp_path / "frames" / "1.png", face(1, 4))
    write_png(tmp_path / "frames" / "2.png", face(1, 4)[:, :90])
    status, out, err = run("watch", tmp_path / "frames", "--gallery", gallery, "--aligned")
    assert status == 0
    labels = [[one["label"] for one in json.loads(line)["faces"]] for line in out.splitlines()]
    assert labels == [["Bob"], []]
    assert "skipped: 2.png is 90x112: an aligned face is square" in err


def test_a_gallery_without_anybody(run: Run, gallery: Path, photos: Path, film: Path) -> None:
    with sqlite3.connect(gallery) as connection:
        connection.execute("DELETE FROM embeddings")
    for words in (["identify", photos / "bob.png"], ["watch", film]):
        status, out, err = run(*words, "--gallery", gallery)
        assert (status, out) == (2, "")
        assert "holds nobody. Enrol somebody first" in err


def test_watch_refuses_what_is_no_video(run: Run, gallery: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    for source, words in (
        (tmp_path / "absent.avi", "does not exist: expected a video"),
        (tmp_path / "text.avi", "is no video that OpenCV"),
        (tmp_path / "empty.mp4", "is no video that OpenCV"),
        (photos / "bob.png", "is one picture"),
    ):
        status, out, err = run("watch", source, "--gallery", gallery)
        assert (status, out) == (2, "")
        assert words in err
    status, _, err = run("watch", photos, "--gallery", gallery, "--out", tmp_path / "a.gif")
    assert status == 2
    assert "expected a video" in err
    assert run("watch", photos, "--gallery", gallery, "--every", "0")[0] == 2
    assert run("watch", photos, "--gallery", tmp_path / "absent.sqlite")[0] == 2


def test_a_video_that_is_cut_off_says_so(film: Path) -> None:
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    frames = open_frames(film)
    read = len(list(frames.pictures))
    assert 0 < read < 10
    assert f"says it has 10 frames, and ends after {read}" in frames.problems[0]


def test_a_failed_copy_leaves_no_file(tmp_path: Path, photos: Path) -> None:
    frame = next(open_frames(photos).pictures)

    def stop() -> None:
        with annotated_output(tmp_path / "copy.mp4", 5.0) as write:
            write(frame, [])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop()
    assert not list(tmp_path.glob("*copy*"))
    assert np.array_equal(annotate(frame.image, []), frame.image)


def test_the_command_line_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['recognise', *sys.argv[1:]]; import pipeline.recognise as r\n"
        "try: r.cli.run(r.main, r.Config)\n"
        "except SystemExit as end: code = end.code\n"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    models = ["--edgeface", str(tmp_path / "e.onnx"), "--chain", str(tmp_path / "c.onnx")]
    command = [sys.executable, "-c", code, "verify", "a.jpg", "b.jpg", *models]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f"python -m pipeline.export --to onnx --what chain --out {tmp_path}" in done.stderr


def test_a_video_that_could_not_be_written_whole_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV drops frames without a word where the disk is full; here it drops every second one."""
    out = tmp_path / "seen.avi"
    out.write_bytes(b"an older one")
    writer = cv2.VideoWriter

    class Dropping:
        fourcc = staticmethod(writer.fourcc)

        def __init__(self) -> None:
            self.whole, self.seen = writer(), 0

        def open(self, *arguments: Any) -> bool:
            return self.whole.open(*arguments)

        def write(self, picture: Any) -> None:
            self.seen += 1
            if self.seen % 2:
                self.whole.write(picture)

        def release(self) -> None:
            self.whole.release()

    monkeypatch.setattr(cv2, "VideoWriter", Dropping)

    def film() -> None:
        with annotated_output(out, 5) as write:
            for number in range(4):
                write(Frame(number, None, "x", np.zeros((64, 64, 3), np.uint8)), [])

    with pytest.raises(UserError, match=r"seen\.avi: only 2 of 4 frames could be written"):
        film()
    assert out.read_bytes() == b"an older one"
    assert [path.name for path in tmp_path.iterdir()] == ["seen.avi"]


def test_a_page_that_is_a_folder_is_refused_before_the_photos(run: Run, photos: Path, tmp_path: Path) -> None:
    status, _, err = run("cluster", photos, "--out", tmp_path)
    assert status == 2
    assert "is a folder: expected the page to write" in err
    status, _, err = run("cluster", photos, "--threshold", "25", "--out", tmp_path / "page.html")
    assert status == 2
    assert "found 25" in err


def test_pictures_that_are_not_read_are_counted(run: Run, gallery: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "telephone.HEIC").touch()
    words = f"{photos} holds 1 picture of kinds that are not read (.heic)"
    for command in (
        ("identify", photos, "--gallery", gallery),
        ("cluster", photos, "--out", tmp_path / "page.html"),
        ("watch", photos, "--gallery", gallery),
    ):
        status, _, err = run(*command)
        assert status == 0, err
        assert words in err


def test_ctrl_c_keeps_what_was_written_of_a_video(tmp_path: Path) -> None:
    frame, out = Frame(0, None, "x", np.full((48, 64, 3), 128, np.uint8)), tmp_path / "seen.avi"

    def interrupted() -> None:
        with annotated_output(out, 5) as write:
            for _ in range(3):
                write(frame, [])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["seen.avi"]
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    out.write_bytes(b"an older one, whole")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert out.read_bytes() == b"an older one, whole"
    assert [path.name for path in tmp_path.iterdir()] == ["seen.avi"]
    (tmp_path / "notes.txt").write_text("a file")
    with (
        pytest.raises(UserError, match=r"--out .*seen\.avi: its folder cannot be made \(.*\)\. Name another"),
        annotated_output(tmp_path / "notes.txt" / "seen.avi", 5),
    ):
        pass
