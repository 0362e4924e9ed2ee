"""common.images: every kind of image becomes upright 8-bit RGB, and everything else is refused by name."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common import images
from common.errors import UserError
from common.images import ImageStore, RgbImage, decode_image, write_png


def sample(height: int = 40, width: int = 32) -> RgbImage:
    """A smooth colour gradient: JPEG keeps it almost unchanged."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = rows * 255 // height, columns * 255 // width
    return np.stack([red, green, 255 - red], axis=-1).astype(np.uint8)


def encode(image: Image.Image, suffix: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def png(height: int = 40, width: int = 32) -> bytes:
    return encode(Image.fromarray(sample(height, width)))


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# --- What is read ----------------------------------------------------------------------------------------------------


def many_scans(data: bytes, count: int) -> bytes:
    """The progressive JPEG with its last scan `count` times more."""
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * count + data[end:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = encode(Image.fromarray(sample()), "JPEG", progressive=True)
    assert 5 < images._scans(usual) < 20
    assert images._scans(many_scans(usual, 30)) == images._scans(usual) + 30
    assert decode_image(many_scans(usual, 30), "face").shape == (40, 32, 3)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("was decoded"))
    with pytest.raises(UserError, match=r"face is a JPEG of 1\d\d scans, expected at most 50: .* Save it anew"):
        decode_image(many_scans(usual, 100), "face")


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\x02", b"\xff\xff\x00"])
def test_long_runs_are_counted_in_one_pass(filler: bytes) -> None:
    """A run of 0xFF that is tried from each of its bytes would take hours."""
    usual = encode(Image.fromarray(sample()), "JPEG")
    assert images._scans(usual[:-2] + filler * (2_000_000 // len(filler)) + usual[-2:]) == 1


def test_a_reserved_marker_hides_no_scans() -> None:
    """The decoder skips no segment behind one, so nothing may be skipped here."""
    usual = encode(Image.fromarray(sample()), "JPEG", progressive=True)
    first = usual.index(b"\xff\xda")
    hidden = usual[: first + 14] + b"\xff\x02\xff\xff\x01" + usual[first + 14 :]
    assert images._scans(hidden) == images._scans(usual)


def test_what_is_no_scan_of_a_jpeg_is_not_counted_as_one() -> None:
    usual, words = encode(Image.fromarray(sample()), "JPEG"), b"\xff\xda" * 1000
    assert images._scans(usual) == 1
    comment = usual[:2] + b"\xff\xfe" + (2 + len(words)).to_bytes(2, "big") + words + usual[2:]
    for data in (comment, usual + words):  # a telephone appends a film to some photos
        assert images._scans(data) == 1
        assert np.array_equal(decode_image(data, "face"), decode_image(usual, "face"))
    for end in range(len(comment)):  # cut anywhere, it ends
        images._scans(comment[:end])


@pytest.mark.parametrize(("suffix", "tolerance"), [("PNG", 0), ("BMP", 0), ("JPEG", 12), ("WEBP", 16)])
def test_every_format_becomes_rgb(suffix: str, tolerance: int) -> None:
    decoded = decode_image(encode(Image.fromarray(sample()), suffix), "face")
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - sample()).max() <= tolerance


def test_the_array_can_be_written_to() -> None:
    decode_image(png(), "face")[0, 0] = 0  # torch warns about, and would write through, a read-only array


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_other_modes_become_what_they_show(mode: str) -> None:
    converted = Image.fromarray(sample()).convert(mode)
    expected = np.asarray(converted.convert("RGB"))
    assert np.array_equal(decode_image(encode(converted), "face"), expected)


def test_alpha_is_dropped_not_blended() -> None:
    rgba = np.dstack([sample(), np.full((40, 32), 17, np.uint8)])
    assert np.array_equal(decode_image(encode(Image.fromarray(rgba)), "face"), sample())


def test_cmyk_jpeg() -> None:
    decoded = decode_image(encode(Image.fromarray(sample()).convert("CMYK"), "JPEG", quality=95), "face")
    assert np.abs(decoded.astype(int) - sample()).max() <= 12


def test_16_bit_grey_keeps_its_scale() -> None:
    """Pillow's own conversion clips at 255, which makes a 16-bit face white."""
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    decoded = decode_image(encode(Image.fromarray(grey)), "face")
    assert np.array_equal(decoded, np.stack([(grey >> 8).astype(np.uint8)] * 3, axis=-1))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: np.transpose(a, (1, 0, 2))),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(np.transpose(a, (1, 0, 2)), 2)),
        (8, np.rot90),
    ],
)
def test_a_photo_is_turned_as_its_exif_says(orientation: int, turn: Callable[[RgbImage], RgbImage]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(Image.fromarray(sample()), exif=exif), "face")
    assert np.array_equal(decoded, turn(sample()))


def test_the_size_is_checked_after_turning() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(sample(40, 32)), exif=exif)
    assert decode_image(data, "face", size=(32, 40)).shape == (32, 40, 3)


def test_write_png_round_trip(tmp_path: Path) -> None:
    write_png(tmp_path / "new" / "face.png", sample())
    assert np.array_equal(ImageStore(tmp_path).read("new/face.png"), sample())


# --- What is refused -------------------------------------------------------------------------------------------------


def test_an_empty_file() -> None:
    with pytest.raises(UserError, match=r"ann_1\.png is empty \(0 bytes\)"):
        decode_image(b"", "ann_1.png")


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_image(suffix: str, kept: float) -> None:
    data = encode(Image.fromarray(sample(112, 112)), suffix)
    with pytest.raises(UserError, match=r"ann_1 is truncated or damaged .* Restore or remove it"):
        decode_image(data[: int(len(data) * kept)], "ann_1")


def test_text_named_jpg() -> None:
    with pytest.raises(UserError, match=r"ann_1\.jpg is not a PNG, JPEG, BMP or WebP image"):
        decode_image(b"<html>404 not found</html>", "ann_1.jpg")


def test_a_format_that_no_face_set_needs() -> None:
    """EPS is the reason: Pillow reads it by starting Ghostscript on the file."""
    with pytest.raises(UserError, match="is not a PNG"):
        decode_image(encode(Image.fromarray(sample()), "EPS"), "ann_1.png")


def test_the_wrong_size() -> None:
    with pytest.raises(UserError, match=r"ann_1\.png is 32x40, expected 112x112"):
        decode_image(png(), "ann_1.png", size=(112, 112))


@pytest.mark.parametrize("side", [9_000, 20_000])  # Pillow warns about the one and refuses the other by itself
def test_too_many_pixels(side: int) -> None:
    data = encode(Image.new("1", (side, side)))
    assert len(data) < 100_000
    with pytest.raises(UserError, match="more than 64,000,000 pixels"):
        decode_image(data, "bomb.png")


def test_a_photo_whose_exif_cannot_be_written_again_is_turned() -> None:
    """Its software is named by a fraction, where text belongs: nothing of the EXIF but the orientation is of use."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x0131, 5, 1, 38)
    tiff = b"II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<III", 0, 1, 2)
    data = encode(Image.fromarray(sample()), "JPEG", exif=b"Exif\0\0" + tiff)
    upright = encode(Image.fromarray(sample()), "JPEG")
    assert np.array_equal(decode_image(data, "face"), np.rot90(decode_image(upright, "face"), -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "WEBP"])
def test_damaged_bytes_give_an_image_or_a_user_error(suffix: str) -> None:
    """Nothing else escapes, whatever byte is wrong."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix == "BMP" else {"exif": exif}
    data = encode(Image.fromarray(sample()), suffix, **options)
    dice = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            assert decode_image(bytes(damaged[: dice.randint(len(data) // 2, len(data))]), "face").shape[2] == 3
        except UserError:
            refused += 1
    assert refused > 0


# --- Folders and zips ------------------------------------------------------------------------------------------------

MEMBERS = {
    "ben/2.png": png(),
    "ann/1.JPG": encode(Image.fromarray(sample()), "JPEG"),
    "ann/.1.png": b"hidden",
    ".thumbnails/ann.png": b"hidden",
    "__MACOSX/ann/1.png": b"resource fork",
    "notes.txt": b"no image",
    "Thumbs.db": b"no image",
}


def folder_of(root: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(params=["folder", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    if request.param == "zip":
        return ImageStore(make_zip(tmp_path / "faces.zip", MEMBERS))
    return ImageStore(folder_of(tmp_path / "faces", MEMBERS))


def test_images_are_listed_in_order_and_the_rest_ignored(store: ImageStore) -> None:
    assert store.names == ["ann/1.JPG", "ben/2.png"]
    assert len(store) == 2


def test_linked_folders_are_read_and_loops_are_not(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", {"1.png": png()})
    folder_of(tmp_path / "faces", {"ben/1.png": png()})
    for name, target in (("ann", tmp_path / "elsewhere"), ("ben/all", tmp_path / "faces")):
        (tmp_path / "faces" / name).symlink_to(target, target_is_directory=True)
    assert ImageStore(tmp_path / "faces").names == ["ann/1.png", "ben/1.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_an_archive_is_one_image(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for _ in range(2):
            archive.writestr("ann/1.png", png())
    assert ImageStore(tmp_path / "faces.zip").names == ["ann/1.png"]


def test_an_archive_cannot_name_a_place_outside(tmp_path: Path) -> None:
    members = {"/elsewhere/ann.png": png(), "../ann.png": png(), "ann/1.png": png()}
    assert ImageStore(make_zip(tmp_path / "faces.zip", members)).names == ["ann/1.png"]


def test_images_are_read_by_name(store: ImageStore) -> None:
    assert np.array_equal(store.read("ben/2.png"), sample())
    assert store.read_bytes("ben/2.png") == MEMBERS["ben/2.png"]


def test_a_missing_image_is_named(store: ImageStore) -> None:
    with pytest.raises(UserError, match=r"ann/7\.png is missing"):
        store.read("ann/7.png")


def test_the_wrong_size_is_named_with_its_root(store: ImageStore) -> None:
    with pytest.raises(UserError, match=rf"{store.root}/ben/2\.png is 32x40"):
        store.read("ben/2.png", size=(112, 112))


def test_a_store_can_go_to_another_process(store: ImageStore) -> None:
    store.read("ben/2.png")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - as DataLoader workers do
    assert np.array_equal(again.read("ben/2.png"), sample())


def test_a_store_can_be_read_from_threads(store: ImageStore) -> None:
    results: list[RgbImage] = []

    def read() -> None:
        results.extend(store.read("ben/2.png") for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(np.array_equal(result, sample()) for result in results)


def test_a_folder_named_like_an_image_is_no_image(tmp_path: Path) -> None:
    folder_of(tmp_path, {"ann.png/1.png": png()})
    assert ImageStore(tmp_path).names == ["ann.png/1.png"]


def test_a_hidden_parent_of_the_root_hides_nothing(tmp_path: Path) -> None:
    assert ImageStore(folder_of(tmp_path / ".cache" / "faces", {"1.png": png()})).names == ["1.png"]


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist: expected a folder or a zip"):
        ImageStore(tmp_path / "nowhere")


@pytest.mark.parametrize("members", [{}, {"notes.txt": b"x", ".hidden.png": b"x"}])
def test_a_root_without_images(tmp_path: Path, members: dict[str, bytes]) -> None:
    (tmp_path / "faces").mkdir()
    with pytest.raises(UserError, match=r"faces holds no image .* right folder"):
        ImageStore(folder_of(tmp_path / "faces", members))
    with pytest.raises(UserError, match=r"faces\.zip holds no image"):
        ImageStore(make_zip(tmp_path / "faces.zip", members))


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(b"text")
    with pytest.raises(UserError, match=r"faces\.zip is not a readable zip .* expected a folder or a zip"):
        ImageStore(tmp_path / "faces.zip")


def test_a_truncated_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "faces.zip", MEMBERS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="is not a readable zip"):
        ImageStore(path)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "faces.zip", {"ann/1.png": png(), "ben/2.png": png()})
    data = bytearray(path.read_bytes())
    start = data.index(b"ann/1.png") + len("ann/1.png")
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    store = ImageStore(path)
    with pytest.raises(UserError, match=r"ann/1\.png cannot be read .* Restore the file"):
        store.read("ann/1.png")
    assert np.array_equal(store.read("ben/2.png"), sample())


def test_damaged_zips_give_an_image_or_a_user_error(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "faces.zip", {"ann/1.png": png(), "ben/2.png": png()})
    data = path.read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            store = ImageStore(path)
            for name in store.names:
                store.read(name)
        except UserError:
            refused += 1
    assert refused > 0


def test_a_file_too_long_to_be_an_image(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match=r"ben/2\.png has [\d,]+ bytes, expected an image below 100"):
        store.read("ben/2.png")


def test_a_member_that_points_outside_the_zip_is_ignored(tmp_path: Path) -> None:
    store = ImageStore(make_zip(tmp_path / "faces.zip", {"../../evil.png": png(), "ann/1.png": png()}))
    assert store.names == ["ann/1.png"]


@pytest.mark.parametrize(("name", "least", "most"), [("large.png", 7, 9), ("large.webp", 14, 18)])
def test_a_photo_takes_little_more_memory_than_its_pixels(tmp_path: Path, name: str, least: int, most: int) -> None:
    """4 bytes a pixel in Pillow and 3 in the array, with some room; before, there were 15. WebP's decoder adds 9."""
    Image.new("RGB", (5000, 4000)).save(tmp_path / name, **({"compress_level": 1} if name.endswith("png") else {}))
    code = (
        "import re, sys; from pathlib import Path; from common.images import decode_image\n"
        "def peak(): return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before, data = peak(), Path(sys.argv[1]).read_bytes()\n"
        "print(*decode_image(data, 'p').shape, peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True)
    *shape, grown = map(int, done.stdout.split())
    assert shape == [4000, 5000, 3], done.stderr
    assert least <= grown / 20_000_000 < most


def test_folders_that_are_linked_with_each_other_are_read_once(tmp_path: Path) -> None:
    folder_of(tmp_path, {f"{name}/1.png": png() for name in "abc"})
    for one in "abc":
        for other in "abc":
            if one != other:
                (tmp_path / one / f"to_{other}").symlink_to(tmp_path / other, target_is_directory=True)
    assert ImageStore(tmp_path).names == ["a/1.png", "b/1.png", "c/1.png"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {"ann/1.png": png(), "ben/1.png": png(), "lost+found/1.png": png(), ".trash/1.png": png()})
    scandir = os.scandir

    def closed(path: Any) -> Any:
        if Path(path).name in no_entry:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    no_entry = {"lost+found", ".trash"}
    monkeypatch.setattr(os, "scandir", closed)
    assert ImageStore(tmp_path).names == ["ann/1.png", "ben/1.png"], "of those nothing is wanted"
    no_entry.add("ben")
    with pytest.raises(UserError, match=r"ben cannot be read \(Permission denied\): make it readable"):
        ImageStore(tmp_path)


def test_pictures_of_other_kinds_are_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, {"1.png": png(), "2.HEIC": b"", "a/3.gif": b"", ".4.gif": b"", "note.txt": b""})
    store = ImageStore(tmp_path)
    assert store.names == ["1.png"]
    assert store.not_read == "2 pictures of kinds that are not read (.gif, .heic)"
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"holds no image .*, only 2 pictures of kinds that are not read"):
        ImageStore(tmp_path)
