"""Reading face images, from a folder or a zip, with errors that name the file.

An image in code is RGB; here it is uint8 `(H, W, 3)`, which the packages above turn into float `(B, 3, H, W)` in
[0, 1].
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UserError
from common.files import replacing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".jp2", ".jfif", ".dng", ".cr2", ".nef", ".arw")
# Only these decoders are tried: Pillow has others (EPS, for one, starts another program) that no face set needs.
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MAX_PIXELS = 64_000_000  # an 8000 x 8000 image; more is a mistake or a decompression bomb
MAX_FILE_BYTES = 256 * 1024 * 1024
STRIP = 128  # rows
MOST_SCANS = 50  # of a JPEG: progressive ones have 10 or so, and each is another pass over all pixels

RgbImage = NDArray[np.uint8]

# What zipfile and Pillow's decoders raise for damaged bytes.
_DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, EOFError, SyntaxError, RuntimeError, OverflowError),
    AttributeError,
)
_DAMAGE_IN_STREAM = (zlib.error, struct.error, zipfile.BadZipFile)

_MARKER = re.compile(rb"\xff[^\x00\xff]")  # 0xFF followed by 0 is a number in a JPEG's scan, by 0xFF nothing
# Markers after which the decoder looks for the next one at once: TEM and reserved ones, RST0 to RST7, SOI.
_ALONE = (*range(0x01, 0xC0), *range(0xD0, 0xD9))
_END, _SCAN = 0xD9, 0xDA


class NotAnImageError(UserError):
    """The bytes are of no kind of image that is read."""


class TooManyPixelsError(UserError):
    """The picture is larger than is allowed."""


def decode_image(data: bytes, name: str, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> RgbImage:
    """Decode an image file's bytes to RGB uint8 `(H, W, 3)`, turned upright as its EXIF orientation says.

    Grey, palette and CMYK become RGB, 16 bits become 8, alpha is dropped. `size` is the `(height, width)` the caller
    needs, after turning. Raises UserError for an empty or truncated file, for a JPEG of too many scans, and for another
    size, NotAnImageError and TooManyPixelsError; pixels and scans are counted before any is unpacked.
    """
    if not data:
        raise UserError(f"{name} is empty (0 bytes): expected an image. Restore or remove it.")
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            if image.format in ("JPEG", "MPO") and (scans := _scans(data)) > MOST_SCANS:
                raise UserError(
                    f"{name} is a JPEG of {scans} scans, expected at most {MOST_SCANS}: a file made to take long. "
                    "Save it anew, or remove it."
                )
            image.load()
            image.getexif()  # read once; its bytes go, or turning would write them all again, at any length and broken
            for key in ("exif", "Raw profile type exif"):
                image.info.pop(key, None)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(
            f"{name} has more than {max_pixels:,} pixels: a mistake, or a file made to fill the memory. "
            "Reduce or remove it."
        ) from error
    except UnidentifiedImageError as error:
        raise NotAnImageError(f"{name} is not a PNG, JPEG, BMP or WebP image. Replace it with one.") from error
    except (*_DAMAGE, *_DAMAGE_IN_STREAM) as error:
        raise UserError(f"{name} is truncated or damaged ({error}). Restore or remove it.") from error
    if size is not None and pixels.shape[:2] != size:
        found, wanted = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{size[1]}x{size[0]}"
        raise UserError(
            f"{name} is {found}, expected {wanted}. Align and crop faces to the 112x112 ArcFace template first."
        )
    return pixels


def _scans(data: bytes) -> int:
    """How many scans a JPEG has, each of which is decoded to all of its pixels (ITU-T T.81, annex B)."""
    count, at = 0, 2
    while found := _MARKER.search(data, at):
        at, marker = found.end(), found.group()[-1]
        if marker == _END:
            break
        count += marker == _SCAN
        if marker not in _ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


def _to_rgb(image: Image.Image) -> RgbImage:
    """A strip at a time: Pillow's copies of a whole photo would take several times the memory of its pixels."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP):
        pixels[top : top + STRIP] = _strip_to_rgb(image.crop((0, top, image.width, min(top + STRIP, image.height))))
    return pixels


def _strip_to_rgb(image: Image.Image) -> RgbImage:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def write_png(path: Path, image: RgbImage) -> None:
    """Write RGB uint8 `(H, W, 3)` as PNG, atomically."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


class ImageStore:
    """The image files under a folder or inside a zip, by their path relative to it (with `/`), hidden ones left out.

    Safe to use from several threads and after a fork; a path inside the zip is only ever read, never extracted.
    Raises UserError for a root that is missing, holds no image, or is a damaged zip.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._local = threading.local()
        if self.root.is_dir():
            self._is_zip = False
            inside = [(path, path.relative_to(self.root).as_posix()) for path in _files_under(self.root)]
            found = [name for path, name in inside if _is_image_name(name) and path.is_file()]
            everything = [name for _, name in inside]
        elif self.root.is_file():
            self._is_zip = True
            everything = self._archive().namelist()
            found = [name for name in everything if _is_image_name(name)]
        else:
            raise UserError(f"{self.root} does not exist: expected a folder or a zip of images.")
        self.names = sorted(set(found))  # a zip may hold a name twice, and gives the last of them
        self.left_out = sorted(name for name in set(everything) if _is_shown(name, OTHER_SUFFIXES))
        """Pictures of kinds that are not read."""
        if not self.names:
            others = f", only {self.not_read}" if self.left_out else ""
            raise UserError(
                f"{self.root} holds no image ({', '.join(IMAGE_SUFFIXES)}){others}. Is it the right folder?"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def not_read(self) -> str:
        """In words, how many pictures of which kinds were left out; empty where none was."""
        kinds = sorted({PurePosixPath(name).suffix.lower() for name in self.left_out})
        count = f"{len(self.left_out)} picture{'s' if self.left_out[1:] else ''}"
        return f"{count} of kinds that are not read ({', '.join(kinds)})" if kinds else ""

    def read(self, name: str, size: tuple[int, int] | None = None) -> RgbImage:
        """RGB uint8 `(H, W, 3)` of one image; see `decode_image` for `size` and the errors."""
        return decode_image(self.read_bytes(name), f"{self.root}/{name}", size)

    def read_bytes(self, name: str) -> bytes:
        """The file's bytes as they are. Raises UserError for one that is missing, too large or unreadable."""
        try:
            if self._is_zip:
                return self._read_member(name)
            path = self.root / name
            self._check_length(name, path.stat().st_size)
            return path.read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"{self.root}/{name} is missing. Restore it, or make the list of files again.") from error
        except (*_DAMAGE, *_DAMAGE_IN_STREAM) as error:
            raise UserError(f"{self.root}/{name} cannot be read ({error}). Restore the file.") from error

    def _read_member(self, name: str) -> bytes:
        archive = self._archive()
        try:
            member = archive.getinfo(name)
        except KeyError as error:
            raise FileNotFoundError(name) from error
        self._check_length(name, member.file_size)
        return archive.read(member)

    def _check_length(self, name: str, length: int) -> None:
        if length > MAX_FILE_BYTES:
            raise UserError(f"{self.root}/{name} has {length:,} bytes, expected an image below {MAX_FILE_BYTES:,}.")

    def _archive(self) -> zipfile.ZipFile:
        # A zip handle holds a file position: every thread and every forked worker needs its own.
        if getattr(self._local, "pid", None) != os.getpid():
            try:
                self._local.archive = zipfile.ZipFile(self.root)
            except (*_DAMAGE, *_DAMAGE_IN_STREAM) as error:
                raise UserError(f"{self.root} is not a readable zip ({error}): expected a folder or a zip.") from error
            self._local.pid = os.getpid()
        return self._local.archive

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


def _files_under(root: Path) -> Iterator[Path]:
    """Every file below `root`, in linked folders too, each folder once; a link to a folder that it lies in is not
    followed. Raises UserError for a folder that may not be read."""

    def closed(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):  # gone meanwhile
            return
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): make it readable, or move it away.")

    seen: set[Path] = set()
    starts = [root]
    while starts:  # what lies there itself comes before what links lead to
        for folder, inside, files in os.walk(starts.pop(0), onerror=closed):
            here = Path(folder).resolve()
            if here in seen:
                inside.clear()
                continue
            seen.add(here)
            inside[:] = sorted(one for one in inside if not _is_hidden(one))
            links = [Path(folder) / one for one in inside if (Path(folder) / one).is_symlink()]
            starts += [link for link in links if link.resolve() not in (here, *here.parents)]
            yield from (Path(folder) / name for name in files)


def _is_image_name(name: str) -> bool:
    return _is_shown(name, IMAGE_SUFFIXES)


def _is_shown(name: str, suffixes: Collection[str]) -> bool:
    """Whether the name ends so, and nothing of it is hidden."""
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes and not any(map(_is_hidden, path.parts)) and not path.is_absolute()


def _is_hidden(part: str) -> bool:
    """Whether a folder or file of this name is nobody's picture: hidden, or the system's own."""
    return part.startswith(".") or part in ("__MACOSX", "lost+found")
