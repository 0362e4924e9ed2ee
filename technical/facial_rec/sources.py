"""Where the images of an evaluation come from: a folder, a zip, or a `.bin` verification set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from common.errors import UserError
from common.images import ImageStore, RgbImage, decode_image
from facial_rec.faceset import HR_SIZE


class ImageSource(Protocol):
    """Aligned 112 x 112 faces by name."""

    @property
    def label(self) -> str:
        """What records and errors call it: the path as it was given."""

    @property
    def names(self) -> Sequence[str]:
        """Its images, each once."""

    def read(self, name: str) -> RgbImage:
        """RGB uint8 `(112, 112, 3)`. Raises UserError for a missing or damaged image, and for another size."""

    def fingerprint(self, name: str) -> str:
        """SHA-256, in hexadecimal, of the image file's bytes: the same picture under any name."""


class StoreSource:
    """The images of a folder or a zip; `names` keeps only some of them."""

    def __init__(self, store: ImageStore, names: Sequence[str] | None = None) -> None:
        self.store = store
        self.names: Sequence[str] = store.names if names is None else names
        self._fingerprints: dict[str, str] = {}

    @property
    def label(self) -> str:
        return str(self.store.root)

    def read(self, name: str) -> RgbImage:
        data = self.store.read_bytes(name)
        found = hashlib.sha256(data).hexdigest()
        if self._fingerprints.setdefault(name, found) != found:
            raise UserError(f"{self.label}/{name} changed while it was used. Start again when nothing writes there.")
        return decode_image(data, f"{self.label}/{name}", (HR_SIZE, HR_SIZE))

    def fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            self._fingerprints[name] = hashlib.sha256(self.store.read_bytes(name)).hexdigest()
        return self._fingerprints[name]
