"""Photos as users give them: a path, the bytes of a file, or an array; single ones, folders and zips. No torch here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.images import IMAGE_FORMATS, MAX_FILE_BYTES, MAX_PIXELS, ImageStore, RgbImage, decode_image
from facial_rec.detector import require_photo

Photo = str | Path | bytes | RgbImage


@dataclass(frozen=True)
class NamedPhoto:
    """A photo that has not been read yet."""

    name: str
    read: Callable[[], RgbImage]
    """Raises UserError where it cannot be."""


def read_photo(photo: Photo, name: str = "the photo") -> tuple[str, RgbImage]:
    """What errors call the photo, and its pixels, RGB uint8 `(H, W, 3)`, upright.

    `name` is for bytes and arrays; a path is its own. Raises UserError for a path that is missing, a folder or
    unreadable, for an array of another kind, and as `decode_photo`.
    """
    if isinstance(photo, np.ndarray):
        require_photo(photo)
        return name, photo
    if isinstance(photo, bytes):
        return name, decode_photo(photo, name)
    path = Path(photo)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: expected one photo.")
        if not path.is_file():
            raise UserError(f"{path} does not exist: expected a photo.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} has more than {MAX_FILE_BYTES:,} bytes: expected a photo. Reduce it.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). May you read it?") from error
    return str(path), decode_photo(data, str(path))


def decode_photo(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> RgbImage:
    """As `common.images.decode_image`, whose errors it raises; an animation is an error too: which picture is meant?"""
    image = decode_image(data, name, max_pixels=max_pixels)
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as file:
        frames = (
            getattr(file, "n_frames", 1) if file.format in ("PNG", "WEBP") else 1
        )  # telephones' JPEGs hold previews
    if frames > 1:
        raise UserError(f"{name} is an animation of {frames} pictures: expected one photo. Save one of them as a file.")
    return image


def photos_in(paths: Sequence[Path]) -> list[NamedPhoto]:
    """The photos at `paths`: files, and all images in folders and zips. UserError for none, and as `ImageStore`.

    Pictures in a folder or zip that are of no kind that is read are counted on the standard error.
    """
    if not paths:
        raise UserError("no photo was given: expected at least one photo, folder or zip.")
    found: list[NamedPhoto] = []
    for path in paths:
        if os.path.isdir(path) or path.suffix.lower() == ".zip":  # a name too long is no folder, and no error here
            store = ImageStore(path)
            if store.left_out:
                print(f"skipped: {path} holds {store.not_read}", file=sys.stderr)
            found += [NamedPhoto(f"{path}/{name}", partial(_stored, store, name)) for name in store.names]
        else:
            found.append(NamedPhoto(str(path), partial(_single, path)))
    return found


def _stored(store: ImageStore, name: str) -> RgbImage:
    return decode_photo(store.read_bytes(name), f"{store.root}/{name}")


def _single(path: Path) -> RgbImage:
    return read_photo(path)[1]
