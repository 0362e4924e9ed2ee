"""Print, one line each, what `pipeline.recognise` and `pipeline.detect` say to bad photos, galleries and videos.

    python tools/show_photo_refusals.py            # --small: the widest photo is less high, for the tests

Makes its own files in a temporary folder, from made-up faces and a recogniser of random weights; needs no data and no
network. What is taken is shown too: with the cosine to the embedding of the same picture in 8-bit RGB, or with the
memory that it took.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tiny_recogniser import Ran, export_tiny, run_apart, run_here

from dsr.synthetic import render_scene
from pipeline import detect, recognise
from pipeline.gallery import open_gallery

GOOD = "good.png"
WIDE, SMALL = (20_000, 2_000), (20_000, 200)


@dataclass(frozen=True)
class Case:
    """A command that is to be refused."""

    what: str
    words: list[str]
    names: str
    """The file that the message must name."""


def main() -> None:
    """Show every case; exit with an error if one ended otherwise than it should."""
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        size = SMALL if "--small" in sys.argv[1:] else WIDE
        make_photos()
        make_wide(size)
        make_galleries()
        models = [word for flag in export_tiny(Path(name)).items() for word in flag]
        enrolled = recognise_with(["enrol", "Ann", GOOD, "--gallery", "people.sqlite"], models)
        assert enrolled.status == 0, enrolled.err
        wrong = [case.what for case in recognise_cases() if not refused(case, recognise_with(case.words, models), name)]
        wrong += [case.what for case in detect_cases() if not refused(case, run_here(detect, case.words), name)]
        wrong += [kind for kind in KINDS if not taken(kind, models)]
        wrong += [] if measured(("wide.jpg", "wide.png"), size, models) else ["wide photo"]
        wrong += [] if clustered(models) else ["one-photo cluster"]
    if wrong:
        raise SystemExit(f"not as they should be: {', '.join(wrong)}")


def recognise_with(words: list[str], models: list[str]) -> Ran:
    """`pipeline.recognise` with the tiny models, unless the words name others."""
    return run_here(recognise, [words[0], *models, "--threads", "1", *words[1:]])


def refused(case: Case, ran: Ran, folder: str) -> bool:
    """Print the message; whether it is one, names the file, and the command ended with 1 or 2."""
    print(f"{case.what}: {ran.error.replace(folder + '/', '') or 'ACCEPTED'}")
    return ran.status in (1, 2) and case.names in ran.error and "Traceback" not in ran.err


def taken(kind: str, models: list[str]) -> bool:
    """Print how alike the embeddings of the plain photo and of one of another kind of pixels are."""
    like = "grey_rgb.png" if "grey" in kind else GOOD
    ran = recognise_with(["verify", like, kind, "--json", "-"], models)
    if ran.status:
        print(f"{KINDS[kind]}: REFUSED: {ran.error}")
        return False
    score = json.loads(ran.out)["verdict"]["score"]
    print(f"{KINDS[kind]}: accepted, made RGB; cosine to the same picture in RGB {score:.4f}")
    return bool(score > 0.9)


def measured(files: tuple[str, ...], size: tuple[int, int], models: list[str]) -> bool:
    """Print what photos of many pixels take in a process of their own, beside what a small one takes."""
    words = ["verify", *models, "--threads", "1", GOOD]
    small, *wide = (run_apart(recognise, [*words, file]) for file in (GOOD, *files))
    for file, ran in zip(files, wide, strict=True):
        what = f"{size[0]}x{size[1]} pixels, {file}"
        print(f"{what}: {ran.error or 'accepted'}; peak {ran.peak} MB, with a small photo {small.peak} MB")
    return not any(ran.status for ran in wide)


def clustered(models: list[str]) -> bool:
    """Print the people of a folder with one photo."""
    ran = recognise_with(["cluster", "one", "--out", "one.html"], models)
    print(f"one-photo cluster: {ran.error or 'accepted: ' + ran.out.splitlines()[0]}")
    return ran.status == 0


def recognise_cases() -> list[Case]:
    """What `pipeline.recognise` must refuse."""
    verified = {
        "no face": "none.png",
        "two faces in a verify": "two.png",
        "0 bytes": "empty.jpg",
        "animated GIF": "moving.gif",
        "animated PNG": "moving.png",
        "animated WebP": "moving.webp",
        "truncated JPEG": "cut.jpg",
        "truncated PNG": "cut.png",
        "text named .jpg": "text.jpg",
        "SVG": "drawing.svg",
        "decompression bomb": "bomb.png",
        "folder for a photo": "one",
        "missing file": "missing.jpg",
        "whole photo given as aligned": "wide.jpg",
    }
    cases = [Case(what, ["verify", GOOD, file], file) for what, file in verified.items()]
    cases[-1].words.append("--aligned")
    return [
        *cases,
        Case("no face to identify", ["identify", "none.png", "--gallery", "people.sqlite"], "none.png"),
        Case("gallery of another model", ["identify", GOOD, "--gallery", "other.sqlite"], "other.sqlite"),
        Case("enrolling with another model", ["enrol", "Ann", GOOD, "--gallery", "other.sqlite"], "other.sqlite"),
        Case("corrupted gallery", ["identify", GOOD, "--gallery", "corrupted.sqlite"], "corrupted.sqlite"),
        Case("cut gallery", ["identify", GOOD, "--gallery", "cut.sqlite"], "cut.sqlite"),
        Case("gallery that is no database", ["identify", GOOD, "--gallery", "text.jpg"], "text.jpg"),
        Case("missing gallery", ["identify", GOOD, "--gallery", "missing.sqlite"], "missing.sqlite"),
        Case("empty folder", ["cluster", "nothing"], "nothing"),
        Case("folder without a face", ["cluster", "faceless"], "none.png"),
        Case("video that is none", ["watch", "text.avi", "--gallery", "people.sqlite"], "text.avi"),
        Case("empty video", ["watch", "empty.mp4", "--gallery", "people.sqlite"], "empty.mp4"),
        Case("photo for a video", ["watch", GOOD, "--gallery", "people.sqlite"], GOOD),
        Case("missing video", ["watch", "missing.mp4", "--gallery", "people.sqlite"], "missing.mp4"),
        Case("missing model", ["verify", GOOD, GOOD, "--chain", "missing.onnx"], "missing.onnx"),
        Case("model that is none", ["verify", GOOD, GOOD, "--chain", "text.jpg"], "text.jpg"),
        Case("thresholds that are none", ["verify", GOOD, GOOD, "--calibration", "text.jpg"], "text.jpg"),
    ]


def detect_cases() -> list[Case]:
    """What `pipeline.detect` must refuse."""
    files = {
        "no face": "none.png",
        "0 bytes": "empty.jpg",
        "truncated JPEG": "cut.jpg",
        "SVG": "drawing.svg",
        "decompression bomb": "bomb.png",
        "empty folder": "nothing",
        "missing file": "missing.jpg",
    }
    return [Case(f"detect, {what}", [file, "--out", "found"], file) for what, file in files.items()]


KINDS = {
    "cmyk.jpg": "CMYK",
    "grey.png": "grey",
    "deep_grey.png": "16 bits, grey",
    "deep.png": "16 bits, RGB",
    "clear.png": "RGBA",
    "palette.png": "palette",
    "turned.jpg": "on its side, with EXIF orientation",
}


def make_photos() -> None:
    """Write every photo and video there is a case for."""
    scene, other = (render_scene(0, person, 0)[0] for person in (0, 3))
    photo, grey = Image.fromarray(scene), Image.fromarray(scene).convert("L")
    photo.save(GOOD)
    Image.new("RGB", (200, 200), (90, 120, 150)).save("none.png")
    Image.fromarray(np.hstack([scene, other])).save("two.png")
    for kind in ("gif", "png", "webp"):
        photo.save(f"moving.{kind}", save_all=True, append_images=[Image.fromarray(other)])
    for kind in ("jpg", "png"):
        photo.save(f"whole.{kind}")
        content = Path(f"whole.{kind}").read_bytes()
        Path(f"cut.{kind}").write_bytes(content[: len(content) // 2])
    for name in ("empty.jpg", "empty.mp4"):
        Path(name).touch()
    for name in ("text.jpg", "text.avi"):
        Path(name).write_text("This is text, whatever it is called.\n")
    Path("drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n')
    write_bomb(Path("bomb.png"), 20_000)
    for folder in ("one", "nothing", "faceless"):
        Path(folder).mkdir()
    photo.save("one/photo.jpg")
    Image.new("RGB", (200, 200)).save("faceless/none.png")

    photo.convert("CMYK").save("cmyk.jpg", quality=95)
    grey.save("grey.png")
    grey.convert("RGB").save("grey_rgb.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) << 8).save("deep_grey.png")
    cv2.imwrite("deep.png", scene[:, :, ::-1].astype(np.uint16) << 8)
    clear = photo.convert("RGBA")
    clear.putalpha(128)
    clear.save("clear.png")
    photo.quantize(256).save("palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise to stand upright
    photo.transpose(Image.Transpose.ROTATE_90).save("turned.jpg", quality=95, exif=exif)


def make_wide(size: tuple[int, int]) -> None:
    """A photo with one face, as high as the photo."""
    wide, side = Image.new("RGB", size, (90, 120, 150)), size[1]
    scene = cv2.resize(render_scene(0, 0, 0)[0], (side, side), interpolation=cv2.INTER_CUBIC)
    wide.paste(Image.fromarray(scene), (size[0] // 2, 0))
    wide.save("wide.jpg", quality=95)
    wide.save("wide.png", compress_level=1)


def write_bomb(path: Path, side: int) -> None:
    """A PNG of `side` x `side` black or white pixels in a few kilobytes."""
    packer, packed = zlib.compressobj(9), io.BytesIO()
    for _ in range(side):
        packed.write(packer.compress(bytes(1 + side // 8)))
    packed.write(packer.flush())
    parts = {b"IHDR": struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), b"IDAT": packed.getvalue(), b"IEND": b""}
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def make_galleries() -> None:
    """One of another model, and two that are damaged."""
    with open_gallery("other.sqlite", "ab" * 32, 512) as gallery:
        gallery.enrol("Ann", np.ones(512))
    content = Path("other.sqlite").read_bytes()
    Path("corrupted.sqlite").write_bytes(content[:200] + b"x" * (len(content) - 200))
    Path("cut.sqlite").write_bytes(content[:5000])


if __name__ == "__main__":
    main()
