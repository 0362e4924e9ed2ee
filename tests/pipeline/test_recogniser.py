"""pipeline.Recogniser on made-up faces: what it embeds and answers, and everything it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.images import RgbImage, write_png
from facial_rec.alignment import align_face
from facial_rec.thresholds import DevelopmentSet, MadeFor, SizeThresholds, Thresholds
from pipeline import Recogniser, RecogniserSettings, recogniser
from pipeline.decisions import decide
from pipeline.face_crops import DSR_BELOW, Face, aligned_crop, crop_size, find_crops, largest_crop
from pipeline.photos import photos_in, read_photo

PhotoOf = Callable[..., RgbImage]


@pytest.fixture
def make(onnx_files: dict[str, str], blocks: Any) -> Callable[..., Recogniser]:
    def made(**settings: Any) -> Recogniser:
        return Recogniser(RecogniserSettings(**{**onnx_files, "threads": 1, **settings}), blocks)

    return made


@pytest.fixture
def table() -> Callable[..., Thresholds]:
    """Thresholds for the pooled model, or for other weights."""

    def made(edgeface: str = "e" * 64, dsr: str = "d" * 64, protocol: str = "lr-hr") -> Thresholds:
        sizes = (
            SizeThresholds(16, "dsr", 0.5, 0.3),
            SizeThresholds(32, "dsr", 0.7, 0.5),
            SizeThresholds(None, "hr", 0.8, 0.6),
        )
        development = DevelopmentSet("made up", "0" * 64, 6, 18)
        made_for = MadeFor("pooled", edgeface, dsr)
        return Thresholds(made_for, protocol, "canonical", 0.001, 0.05, development, "2026", "calibrate", sizes)

    return made


def a_face(resolution: int, by_dsr: bool | None = None) -> Face:
    return Face("p", 1, None, None, None, resolution, resolution < DSR_BELOW if by_dsr is None else by_dsr)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_importing_it_never_imports_torch() -> None:
    code = (
        "import sys; from pipeline import Recogniser, get_aligned_face, open_gallery; import pipeline.recognise; "
        "print(Recogniser.__name__, {'torch', 'sklearn', 'scipy', 'psycopg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Recogniser set()\n"


def test_the_package_has_nothing_else_to_give() -> None:
    with pytest.raises(ImportError, match="nothing_else"):
        from pipeline import nothing_else  # type: ignore[attr-defined] # noqa: F401


@pytest.mark.parametrize(
    ("native", "below", "size"),
    [(3.0, 28, 8), (16.4, 28, 16), (27.9, 28, 28), (28.0, 28, 112), (400, 28, 112), (63.8, 64, 64), (3.0, 0, 112)],
)
def test_small_faces_are_cropped_at_their_own_size(native: float, below: float, size: int) -> None:
    assert crop_size(native, below) == size


def test_crops_are_the_aligned_faces(photo_of: PhotoOf, blocks: Any) -> None:
    image = photo_of((0, 0, 20), (1, 0, 90))
    small, large = find_crops("p", image, blocks)
    assert (small.face.resolution, small.face.by_dsr, small.pixels.shape) == (20, True, (20, 20, 3))
    assert (large.face.resolution, large.face.by_dsr, large.pixels.shape) == (90, False, (112, 112, 3))
    found = blocks.detect(image)
    assert np.array_equal(small.pixels, align_face(image, found[0].landmarks, 20))
    assert np.array_equal(large.pixels, align_face(image, found[1].landmarks, 112))
    assert (small.face.number, large.face.number) == (1, 2)
    assert largest_crop([small, large]) is large
    assert np.abs(small.pixels.astype(int) - image[16:36, 16:36]).mean() < 3


def test_aligned_faces_of_any_size(face: Callable[..., RgbImage]) -> None:
    full = face(0, 0)
    for side, size in ((8, 8), (35, 35), (36, 112), (64, 112), (112, 112), (200, 112)):
        crop = aligned_crop("p", np.ascontiguousarray(np.resize(full, (side, side, 3))))
        assert crop.pixels.shape == (size, size, 3)
        assert (crop.face.resolution, crop.face.by_dsr, crop.face.box) == (side, side < DSR_BELOW, None)
    for shape in ((7, 7, 3), (100, 112, 3)):
        with pytest.raises(UserError, match=f"p is {shape[1]}x{shape[0]}: an aligned face is square"):
            aligned_crop("p", np.zeros(shape, np.uint8))
    crops = [aligned_crop("p", np.zeros((side, side, 3), np.uint8)) for side in (30, 50)]
    assert largest_crop(crops) is crops[1]


def test_many_faces_go_through_the_networks_together(
    make: Callable[..., Recogniser], face: Callable[..., RgbImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, calls = make(), []
    for name in ("_edgeface", "_chain"):
        network = getattr(chosen, name)
        monkeypatch.setattr(chosen, name, lambda x, network=network: (calls.append(x.shape), network(x))[1])
    crops = [aligned_crop("p", face(person, 0, (112, 16, 20)[person % 3])) for person in range(9)]
    together = chosen.embed(crops)
    assert sorted(calls) == [(3, 3, 16, 16), (3, 3, 20, 20), (3, 3, 112, 112)]
    for crop, one in zip(crops, together, strict=True):
        np.testing.assert_allclose(one.embedding, chosen.embed([crop])[0].embedding, atol=1e-6)
        assert one.face is crop.face
        assert np.linalg.norm(one.embedding) == pytest.approx(1)
    assert chosen.embed([]) == []


def test_verify(make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path) -> None:
    chosen = make()
    write_png(tmp_path / "a.png", photo_of((0, 0, 100)))
    other = encoded(Image.fromarray(photo_of((0, 1, 20))))
    found = chosen.verify(tmp_path / "a.png", other)
    assert found.verdict.answer == "same"
    assert (found.verdict.threshold, found.verdict.resolution, found.verdict.calibrated) == (0.35, 20, False)
    assert "not calibrated" in found.verdict.notes[0]
    assert (found.first.photo, found.second.photo) == (str(tmp_path / "a.png"), "the second photo")
    one, two = chosen.faces(tmp_path / "a.png")[0], chosen.faces(other)[0]
    assert found.verdict.score == pytest.approx(float(one.embedding @ two.embedding))
    assert chosen.verify(photo_of((0, 0, 100)), photo_of((3, 0, 100))).verdict.answer == "different"
    record = json.loads(json.dumps(found.record()))
    assert record["verdict"]["answer"] == "same"
    assert record["second"]["by_dsr"] is True
    assert "embedding" not in json.dumps(record)


def test_verify_refuses_no_face_and_two(make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path) -> None:
    chosen, good = make(), photo_of((0, 0, 90))
    write_png(tmp_path / "none.png", np.zeros((50, 50, 3), np.uint8))
    write_png(tmp_path / "two.png", photo_of((1, 0, 40), (0, 0, 90)))
    with pytest.raises(UserError, match=r"none\.png: blocks found no face"):
        chosen.verify(good, tmp_path / "none.png")
    with pytest.raises(UserError, match="the first photo: blocks found no face"):
        chosen.verify(np.zeros((50, 50, 3), np.uint8), good)
    with pytest.raises(UserError, match=r"two\.png shows 2 faces, expected one.*--largest"):
        chosen.verify(tmp_path / "two.png", good)
    found = chosen.verify(tmp_path / "two.png", good, largest=True)
    assert (found.verdict.answer, found.first.number) == ("same", 2)
    assert chosen.find(tmp_path / "none.png") == []


def test_a_photo_lying_on_its_side_is_turned(make: Callable[..., Recogniser], photo_of: PhotoOf) -> None:
    upright = Image.fromarray(photo_of((0, 0, 100), (1, 0, 60)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise to stand upright
    turned = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    expected, found = (make().faces(encoded(upright)), make().faces(turned))
    assert [one.face.box for one in found] == [one.face.box for one in expected]
    np.testing.assert_allclose(found[1].embedding, expected[1].embedding, atol=1e-6)


def test_other_kinds_of_pixels_are_read_alike(make: Callable[..., Recogniser], photo_of: PhotoOf) -> None:
    colour, chosen = Image.fromarray(photo_of((0, 0, 100))), make()
    grey = colour.convert("L")
    deep = Image.fromarray((np.asarray(grey).astype(np.uint16) << 8).astype(np.uint16))
    clear = colour.convert("RGBA")
    clear.putalpha(128)
    kinds = {
        "cmyk": (encoded(colour.convert("CMYK"), "JPEG", quality=95), colour),
        "16 bit": (encoded(deep), grey),
        "rgba": (encoded(clear), colour),
        "grey": (encoded(grey), grey),
        "palette": (encoded(colour.quantize(256)), colour),
    }
    for name, (data, like) in kinds.items():
        assert chosen.verify(data, np.array(like.convert("RGB"))).verdict.score > 0.97, name


def test_what_is_no_photo_is_refused(make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path) -> None:
    chosen, good = make(), photo_of((0, 0, 90))
    picture = Image.fromarray(good)
    frames = [Image.fromarray(good // 2)]
    files = {
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "half.png": encoded(picture)[:2000],
        "moving.webp": encoded(picture, "WEBP", save_all=True, append_images=frames, lossless=True),
        "moving.png": encoded(picture, save_all=True, append_images=frames),
        "moving.gif": encoded(picture, "GIF", save_all=True, append_images=frames),
        "wide.png": encoded(Image.new("1", (20_000, 3_300))),
    }
    expected = {
        "empty.jpg": r"empty \(0 bytes\)",
        "text.jpg": "is not a PNG",
        "half.png": "truncated or damaged",
        "moving.webp": "animation of 2 pictures",
        "moving.png": "animation of 2 pictures",
        "moving.gif": "is not a PNG",
        "wide.png": "has more than 64,000,000 pixels",
        "absent.png": "does not exist",
        ".": "is a folder",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name, words in expected.items():
        with pytest.raises(UserError, match=words) as caught:
            chosen.verify(good, tmp_path / name)
        assert name.rstrip(".") in str(caught.value)
    with pytest.raises(UserError, match=r"cannot be read \(File name too long"):
        chosen.verify(good, tmp_path / ("x" * 300))
    for array in (good.astype(np.float32), good[..., 0], good[:0]):
        with pytest.raises(UserError, match="expected an RGB image"):
            chosen.find(array)
    with pytest.raises(UserError, match="the photo is empty"):
        read_photo(b"")


def test_photos_of_a_zip_and_of_folders(photo_of: PhotoOf, tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", photo_of((0, 0, 30)))
    write_png(tmp_path / "b.png", photo_of((1, 0, 30)))
    found = photos_in([tmp_path / "in", tmp_path / "b.png"])
    assert [one.name for one in found] == [f"{tmp_path}/in/a.png", f"{tmp_path}/b.png"]
    assert np.array_equal(found[0].read(), photo_of((0, 0, 30)))
    assert np.array_equal(found[1].read(), photo_of((1, 0, 30)))
    with pytest.raises(UserError, match="absent"):
        photos_in([tmp_path / "absent.zip"])
    with pytest.raises(UserError, match="File name too long"):
        photos_in([tmp_path / ("x" * 300)])[0].read()


def test_enrol_and_identify(make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path) -> None:
    chosen = make()
    with chosen.open_gallery(tmp_path / "g.sqlite") as gallery:
        with pytest.raises(UserError, match="holds nobody"):
            chosen.identify(gallery, photo_of((0, 0, 90)))
        kept = chosen.enrol(gallery, "Ann", [photo_of((0, 0, 90)), photo_of((0, 1, 20))])
        chosen.enrol(gallery, "Bob", [photo_of((1, 0, 112))], aligned=False)
        assert len(kept.embedding_ids) == 2
        assert gallery.entries("Ann")[1].metadata == {
            "photo": "photo 2",
            "face": 1,
            "resolution": 20,
            "by_dsr": True,
            "dsr_sha256": chosen.models[1].metadata.source_sha256["dsr"],
        }
        found = chosen.identify(gallery, photo_of((1, 2, 18), (5, 0, 90), (0, 3, 100)))
        assert [one.label for one in found] == ["Bob", "unknown", "Ann"]
        assert [one.name for one in found] == ["Bob", None, "Ann"]
        assert found[0].verdict.resolution == 18
        assert {one.name for one in found[1].candidates} == {"Ann", "Bob"}
        assert len(chosen.identify(gallery, photo_of((0, 3, 90)), top=1)[0].candidates) == 1
        with pytest.raises(UserError, match="the photo: blocks found no face"):
            chosen.identify(gallery, np.zeros((50, 50, 3), np.uint8))
        with pytest.raises(UserError, match="photo 2 shows 2 faces"):
            chosen.enrol(gallery, "Cid", [photo_of((2, 0, 90)), photo_of((2, 0, 90), (3, 0, 90))])
        with pytest.raises(UserError, match="No face was given for Cid"):
            chosen.enrol(gallery, "Cid", [])
        assert [one.name for one in gallery.people()] == ["Ann", "Bob"]
        assert chosen.identify_faces(gallery, []) == []


def test_small_enrolled_faces_set_the_threshold_too(
    make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path
) -> None:
    chosen = make()
    with chosen.open_gallery(tmp_path / "g.sqlite") as gallery:
        chosen.enrol(gallery, "Ann", [photo_of((0, 0, 16))])
        assert chosen.identify(gallery, photo_of((0, 1, 100)))[0].verdict.resolution == 16
        gallery.enrol("Bob", chosen.faces(photo_of((1, 0, 20)))[0].embedding)  # without saying its resolution
        assert chosen.identify(gallery, photo_of((1, 1, 100)))[0].verdict.resolution == 100


def test_a_face_that_another_dsr_restored_is_noted(
    make: Callable[..., Recogniser], photo_of: PhotoOf, tmp_path: Path
) -> None:
    chosen = make()
    with chosen.open_gallery(tmp_path / "g.sqlite") as gallery:
        chosen.enrol(gallery, "Ann", [photo_of((0, 0, 16))])
        assert recogniser.OTHER_DSR not in chosen.identify(gallery, photo_of((0, 1, 100)))[0].verdict.notes
        one = chosen.faces(photo_of((1, 0, 20)))[0]
        gallery.enrol("Bob", one.embedding, [{"resolution": 20, "by_dsr": True, "dsr_sha256": "0" * 64}])
        assert recogniser.OTHER_DSR in chosen.identify(gallery, photo_of((1, 1, 100)))[0].verdict.notes


def test_galleries_of_others_are_refused(
    make: Callable[..., Recogniser], write_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    with make().open_gallery(tmp_path / "g.sqlite") as gallery:
        gallery.enrol("Ann", np.ones(512))
    other = {kind: str(write_onnx(tmp_path / f"{kind}.onnx", kind, "f" * 64)) for kind in ("edgeface", "chain")}
    with pytest.raises(UserError, match="cannot be compared"):
        make(**other).open_gallery(tmp_path / "g.sqlite")
    content = bytearray((tmp_path / "g.sqlite").read_bytes())
    content[200:] = b"x" * (len(content) - 200)
    (tmp_path / "g.sqlite").write_bytes(content)
    with pytest.raises(UserError, match=r"g\.sqlite is damaged"):
        make().open_gallery(tmp_path / "g.sqlite")
    with pytest.raises(UserError, match="There is no gallery"):
        make().open_gallery(tmp_path / "absent.sqlite", create=False)


def test_two_recognisers_are_refused(
    make: Callable[..., Recogniser], write_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="hold different recognisers"):
        make(edgeface=str(write_onnx(tmp_path / "other.onnx", "edgeface", "f" * 64)))
    with pytest.raises(UserError, match="does not say which weights"):
        make(chain=str(write_onnx(tmp_path / "none.onnx", "chain", "none")))
    assert make().sha256 == "e" * 64


def test_missing_models_name_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path)
    with pytest.raises(UserError) as caught:
        Recogniser()
    words = str(caught.value)
    assert "edgeface.onnx and chain.onnx not found" in words
    commands = [line.split() for line in words.splitlines() if "pipeline.export" in line]
    assert [command[-1] for command in commands] == ["checkpoints/edgeface.onnx", "checkpoints/chain.onnx"]
    assert {"--what", "chain"} <= set(commands[1])
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="no ONNX model"):
        Recogniser(RecogniserSettings(edgeface="model.onnx", chain="model.onnx"))
    with pytest.raises(UserError, match="--dsr-below 65"):
        Recogniser(RecogniserSettings(dsr_below=65))


def test_an_embedding_of_zeros_is_refused(make: Callable[..., Recogniser]) -> None:
    with pytest.raises(UserError, match="all zeros"):
        recogniser.unit(np.zeros((1, 512), np.float32))
    row = recogniser.unit(np.full((1, 4), 2, np.float32))
    np.testing.assert_allclose(row, 0.5)


@pytest.mark.parametrize(
    ("score", "sizes", "answer", "threshold", "resolution"),
    [
        (0.9, (200, 300), "same", 0.8, 200),
        (0.7, (200, 300), "cannot tell", 0.8, 200),
        (0.59, (300, 200), "different", 0.8, 200),
        (0.55, (16, 300), "same", 0.5, 16),
        (0.61, (300, 24), "same", 0.6, 24),  # interpolated
        (0.5, (300, 24), "cannot tell", 0.6, 24),
        (0.39, (300, 24), "different", 0.6, 24),
        (0.99, (300, 10), "cannot tell", None, 10),
    ],
)
def test_thresholds_go_by_the_probes_resolution(
    score: float, sizes: tuple[int, int], answer: str, threshold: float | None, resolution: int, table: Any
) -> None:
    found = decide(score, a_face(sizes[0]), a_face(sizes[1]), table())
    assert (found.answer, found.resolution, found.calibrated) == (answer, resolution, True)
    assert found.threshold == pytest.approx(threshold)
    assert found.notes == ()


def test_where_thresholds_do_not_fit_it_is_said(table: Any) -> None:
    def notes(first: Face, second: Face, protocol: str = "lr-hr") -> str:
        return "; ".join(decide(0.5, first, second, table(protocol=protocol)).notes)

    assert "both faces are small" in notes(a_face(16), a_face(20))
    assert "two small ones" in notes(a_face(16), a_face(100), "lr-lr")
    assert notes(a_face(16), a_face(20), "lr-lr") == ""
    assert "without the DSR, and the thresholds were chosen by way of it" in notes(
        a_face(30, by_dsr=False), a_face(100)
    )
    largest = max(row.size for row in table().sizes if row.size is not None)
    assert "by way of the DSR, and the thresholds were chosen without it" in notes(
        a_face(largest + 2, by_dsr=True), a_face(100)
    )
    assert notes(a_face(largest + 2, by_dsr=False), a_face(100)) == ""


def test_a_cutoff_that_cannot_be_used_is_said(table: Any) -> None:
    """Of a table that refuses probes of 16 pixels by the length of their embedding: the chain's have length 1."""
    rows = [replace(row, quality_cutoff=2.0) if row.size == 16 else row for row in table().sizes]
    refusing = replace(table(), sizes=tuple(rows), quality_measure="norm")
    found = decide(0.55, a_face(16), a_face(300), refusing)
    assert found.answer == "same"
    assert len(found.notes) == 1
    assert "refuses probes by their norm" in found.notes[0]
    assert decide(0.9, a_face(200), a_face(300), refusing).notes == ()


def test_the_table_comes_from_the_file_or_from_the_models(
    make: Callable[..., Recogniser], write_onnx: Callable[..., Path], table: Any, tmp_path: Path, photo_of: PhotoOf
) -> None:
    assert make().thresholds is None
    inside = write_onnx(tmp_path / "chain.onnx", "chain", thresholds=table())
    assert make(chain=str(inside)).thresholds == table()
    table().save(tmp_path / "table.json")
    chosen = make(calibration=tmp_path / "table.json")
    assert chosen.thresholds == table()
    verdict = chosen.verify(photo_of((0, 0, 16)), photo_of((0, 1, 100))).verdict
    assert (verdict.answer, verdict.threshold, verdict.reject) == ("same", 0.5, 0.3)
    table(dsr="c" * 64).save(tmp_path / "other.json")
    with pytest.raises(UserError, match=r"other\.json: These thresholds were made with another DSR"):
        make(calibration=tmp_path / "other.json")
    wrong = write_onnx(tmp_path / "wrong.onnx", "chain", thresholds=table(edgeface="a" * 64))
    with pytest.raises(UserError, match="inside the models: These thresholds were made with another recogniser"):
        make(chain=str(wrong))


def test_an_edgefaces_table_is_used_only_if_it_is_of_the_chains_dsr(
    make: Callable[..., Recogniser], write_onnx: Callable[..., Path], table: Any, tmp_path: Path
) -> None:
    """The shipped EdgeFace carries the table of the shipped DSR; another DSR is no error, and not calibrated."""
    of_this = write_onnx(tmp_path / "of_this.onnx", "edgeface", thresholds=table())
    assert make(edgeface=str(of_this)).thresholds == table()
    of_another = write_onnx(tmp_path / "of_another.onnx", "edgeface", thresholds=table(dsr="c" * 64))
    assert make(edgeface=str(of_another)).thresholds is None


def test_a_table_made_without_dsr_can_be_used(make: Callable[..., Recogniser], table: Any, tmp_path: Path) -> None:
    without = replace(table(), made_for=replace(table().made_for, dsr_sha256=None))
    without.save(tmp_path / "bicubic.json")
    assert make(calibration=tmp_path / "bicubic.json").thresholds == without
