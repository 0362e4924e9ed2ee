"""Reading face images, from a folder or a zip, with errors that name the file.

An image in code is RGB; here it is uint8 `(H, W, 3)`, which the packages above turn into float `(B, 3, H, W)` in [0, 1].
"""

from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from common.errors import UserError
from common.files import replacing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 64_000_000  # an 8000 x 8000 image; more is a mistake or a decompression bomb

RgbImage = NDArray[np.uint8]


def decode_image(data: bytes, name: str, size: tuple[int, int] | None = None) -> RgbImage:
    """Decode an image file's bytes to RGB uint8 `(H, W, 3)`.

    `size` is the `(height, width)` the caller needs. Raises UserError for an empty, truncated, oversized or non-image
    file, and for one whose size differs.
    """
    if not data:
        raise UserError(f"{name} is empty (0 bytes): expected an image. Restore or remove it.")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{name} is {image.width}x{image.height}: more than {MAX_PIXELS:,} pixels are not read.")
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image that Pillow can read. Replace it with a PNG or JPEG.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is truncated or damaged ({error}). Restore or remove it.") from error
    if size is not None and pixels.shape[:2] != size:
        found, wanted = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{size[1]}x{size[0]}"
        raise UserError(
            f"{name} is {found}, expected {wanted}. Align and crop faces to the 112x112 ArcFace template first."
        )
    return pixels


def write_png(path: Path, image: RgbImage) -> None:
    """Write RGB uint8 `(H, W, 3)` as PNG, atomically."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


class ImageStore:
    """The image files under a folder or inside a zip, by their path relative to it (with `/`).

    Safe to use from several threads and after a fork; a path inside the zip is only ever read, never extracted.
    Raises UserError for a root that is missing, holds no image, or is a damaged zip.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._local = threading.local()
        if self.root.is_dir():
            self._is_zip = False
            found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if _is_image_name(p.name))
        elif self.root.is_file():
            self._is_zip = True
            found = (name for name in self._archive().namelist() if _is_image_name(name))
        else:
            raise UserError(f"{self.root} does not exist: expected a folder or a zip of images.")
        self.names = sorted(found)
        if not self.names:
            raise UserError(f"{self.root} holds no image ({', '.join(IMAGE_SUFFIXES)}). Is it the right folder?")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str, size: tuple[int, int] | None = None) -> RgbImage:
        """RGB uint8 `(H, W, 3)` of one image; see `decode_image` for `size` and the errors."""
        return decode_image(self.read_bytes(name), f"{self.root}/{name}", size)

    def read_bytes(self, name: str) -> bytes:
        try:
            return self._archive().read(name) if self._is_zip else (self.root / name).read_bytes()
        except (KeyError, FileNotFoundError) as error:
            raise UserError(f"{self.root}/{name} is missing.") from error
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{self.root}/{name} cannot be read ({error}). Restore the file.") from error

    def _archive(self) -> zipfile.ZipFile:
        # A zip handle holds a file position: every thread and every forked worker needs its own.
        if getattr(self._local, "pid", None) != os.getpid():
            try:
                self._local.archive = zipfile.ZipFile(self.root)
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(f"{self.root} is not a readable zip ({error}): expected a folder or a zip.") from error
            self._local.pid = os.getpid()
        return self._local.archive

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


def _is_image_name(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden
