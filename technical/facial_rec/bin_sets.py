"""`.bin` verification sets in InsightFace's form: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW.

A file is a pickle of `(images, labels)`: encoded images, as bytes or as one-dimensional uint8 arrays, of which 2i and
2i + 1 are pair i, and a label for each pair, true for genuine. Source: InsightFace, recognition/arcface_torch/eval/
verification.py, https://github.com/deepinsight/insightface. It is read by `facial_rec.bin_pickle`, which runs no code.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import replacing
from common.images import RgbImage, decode_image
from facial_rec.bin_pickle import RefusedGlobal, read_plain_pickle
from facial_rec.faceset import HR_SIZE
from facial_rec.pairs import Pair, PairList

MAX_BIN_BYTES = 512 * 1024**2  # the published sets have 40 to 100 MB
MAX_IMAGE_BYTES = 4 * 1024 * 1024  # a 112 x 112 image has 40 KB at most, uncompressed
FOLDS = 10
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError)
_DAMAGE_OF_SIZE = (OverflowError, MemoryError, RecursionError, AssertionError)


class BinSource:
    """The images of a `.bin` file and its pairs.

    An image that is there several times, byte for byte, counts once, under the number of its first place. Raises
    UserError, naming the file and the image, for a file that is missing, too large, damaged, not of this form, or that
    asks for code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        images, labels = _read(path)
        self.fingerprints = [hashlib.sha256(image).hexdigest() for image in images]
        first: dict[str, int] = {}
        for number, fingerprint in enumerate(self.fingerprints):
            first.setdefault(fingerprint, number)
        self._images = {name_of(number): images[number] for number in first.values()}
        self._fingerprints = {name_of(number): fingerprint for fingerprint, number in first.items()}
        self.pairs = _pairs([first[fingerprint] for fingerprint in self.fingerprints], labels)

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def names(self) -> Sequence[str]:
        return list(self._images)

    def read(self, name: str) -> RgbImage:
        """RGB uint8 `(112, 112, 3)`. Raises UserError, naming the file and the image's number."""
        return decode_image(self._images[name], f"{self.path}, image {int(name)}", (HR_SIZE, HR_SIZE))

    def fingerprint(self, name: str) -> str:
        return self._fingerprints[name]


def name_of(number: int) -> str:
    """What the image of this number, counted from 0, is called.

    >>> name_of(7)
    '000007'
    """
    return f"{number:06d}"


def write_bin(path: Path, encoded_images: Sequence[bytes], labels: Sequence[bool]) -> None:
    """Write a `.bin` verification set, atomically; images 2i and 2i + 1 are pair i.

    Raises ValueError unless there are two images a label, and UserError for more than a reader takes.
    """
    if len(encoded_images) != 2 * len(labels) or not labels:
        raise ValueError(f"expected two images a label, found {len(encoded_images)} and {len(labels)}")
    if (length := sum(map(len, encoded_images))) > MAX_BIN_BYTES:
        raise UserError(
            f"{path} would hold images of {length:,} bytes together, and at most {MAX_BIN_BYTES:,} are read: give "
            "fewer pairs, or images that are compressed more."
        )
    with replacing(path) as temporary, open(temporary, "wb") as file:
        pickle.dump((list(encoded_images), [bool(label) for label in labels]), file, protocol=4)


def _read(path: Path) -> tuple[list[bytes], list[bool]]:
    content = _unpickled(path)
    if not isinstance(content, list) or len(content) != 2:
        raise _wrong(path, f"its content is {_kind(content)}")
    images, labels = content
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(images, list) or not isinstance(labels, list):
        raise _wrong(path, f"its parts are {_kind(images)} and {_kind(labels)}")
    if not images:
        raise UserError(f"{path} holds no image: expected pairs of them. Make or copy it again.")
    if len(images) % 2:
        raise UserError(f"{path} holds {len(images):,} images: expected an even number, two a pair. Is it whole?")
    if len(labels) != len(images) // 2:
        raise UserError(f"{path} holds {len(labels):,} labels for {len(images) // 2:,} pairs: expected one a pair.")
    lengths = sum(len(image) for image in images if isinstance(image, bytes | bytearray | np.ndarray))
    if lengths > MAX_BIN_BYTES:  # a pickle can hold one image and name it a million times
        raise UserError(f"{path} holds images of {lengths:,} bytes together: expected at most {MAX_BIN_BYTES:,}.")
    return [_image(path, *item) for item in enumerate(images)], [_label(path, *item) for item in enumerate(labels)]


def _unpickled(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a .bin verification set.")
    if path.stat().st_size > MAX_BIN_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: expected a .bin set of at most {MAX_BIN_BYTES:,}.")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty (0 bytes): expected a .bin verification set. Copy it again.")
    try:
        return read_plain_pickle(path.read_bytes())
    except RefusedGlobal as error:
        raise UserError(
            f"{path} asks for {error}, which no verification set needs. A pickle can run code; it was not run. "
            "Get the file from its authors, or make one with `python -m pipeline.make_bin`."
        ) from error
    except (OSError, *_DAMAGE, *_DAMAGE_OF_SIZE) as error:
        raise UserError(f"{path} is not a readable .bin verification set ({error}). Copy or make it again.") from error


def _wrong(path: Path, found: str) -> UserError:
    return UserError(f"{path} is not a .bin verification set: {found}, expected a list of images and one of labels.")


def _kind(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


def _image(path: Path, number: int, image: Any) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = image.tobytes()
    if not isinstance(image, bytes | bytearray):
        raise UserError(f"{path}, image {number} is {_kind(image)}: expected an encoded image's bytes.")
    if not 0 < len(image) <= MAX_IMAGE_BYTES:
        raise UserError(f"{path}, image {number} has {len(image):,} bytes: expected 1 to {MAX_IMAGE_BYTES:,}.")
    return bytes(image)


def _label(path: Path, number: int, label: Any) -> bool:
    if not isinstance(label, bool | int) or label not in (0, 1):
        raise UserError(f"{path}, label {number} is {label!r:.40}: expected True (genuine) or False (impostor).")
    return bool(label)


def _pairs(places: Sequence[int], labels: Sequence[bool]) -> PairList:
    """The pairs in their order; `places[i]` is where the picture of image i stands first.

    Folds are consecutive blocks whose sizes differ by one at most, as scikit-learn's unshuffled KFold makes them.
    """
    people = _people(places, labels)
    folds = min(FOLDS, len(labels))
    fold_numbers = np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(len(labels)), folds)])
    pairs = []
    for fold, genuine, first, second in zip(fold_numbers, labels, places[::2], places[1::2], strict=True):
        subjects = (f"person of {name_of(people[first])}", f"person of {name_of(people[second])}")
        pairs.append(Pair(name_of(first), name_of(second), *subjects, int(fold), genuine))
    return PairList(tuple(pairs), folds, people_known=False)


def _people(places: Sequence[int], labels: Sequence[bool]) -> dict[int, int]:
    """For each picture the lowest-numbered one that genuine pairs link it to: as much as the file tells of people."""
    parent = {place: place for place in places}

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for genuine, first, second in zip(labels, places[::2], places[1::2], strict=True):
        if genuine:
            low, high = sorted((root(first), root(second)))
            parent[high] = low
    return {place: root(place) for place in parent}
