"""`.rec` files of images with their `.idx`, as InsightFace ships training sets (MS1M, Glint360K), without mxnet.

The container is dmlc's RecordIO: every record is `magic, length word, data`, padded to four bytes; the word's upper
three bits say whether the data goes on in the next part, which happens where it holds the magic number itself
(https://github.com/dmlc/dmlc-core/blob/main/include/dmlc/recordio.h). The data of an image record is mxnet's header
`flag, label, id, id2`, then `flag` more labels if flag is not 0, then the encoded image. The `.idx` has a line
`key<tab>offset` for each record. In InsightFace's sets record 0 holds two labels `(n, m)`: records 1 .. n-1 are images,
and n .. m-1 are people, each with the range `(first, end)` of its images.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.files import replacing

Ints = NDArray[np.int64]
MAGIC = 0xCED7230A
_WORDS = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_LENGTH = (1 << 29) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
MAX_LABELS = 4096  # more in one header is a damaged file
EXACT = 1 << 24  # up to here a 32-bit float, as which keys are labels in the ranges, holds every whole number


@dataclass(frozen=True)
class Record:
    """One record's labels and what follows them."""

    labels: tuple[float, ...]
    """One, or the several of a list."""
    data: bytes
    """The encoded image; empty for the records that say which images a person has."""


class RecordFile:
    """The records of a `.rec` by key, in any order, through its `.idx`.

    Safe to use from several threads and processes. Raises UserError, naming file and record, for a missing or damaged
    file, an index that points outside, and a record that is not one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.keys, self.offsets = _read_index(self.path)
        self._map: mmap.mmap | None = None
        self.size = self.path.stat().st_size
        outside = np.flatnonzero((self.offsets < 0) | (self.offsets + _WORDS.size > self.size))
        if len(outside):
            where = f"record {self.keys[outside[0]]} at byte {self.offsets[outside[0]]:,}"
            raise UserError(
                f"{_index_of(self.path)} points {where}, outside {self.path} with its {self.size:,} bytes: the .rec is "
                "truncated or of another set. Copy both again."
            )
        self._rows = {} if self._is_dense() else {int(key): row for row, key in enumerate(self.keys)}
        self.read(int(self.keys[np.argmax(self.offsets)]))  # so that a file cut short is named before training

    def __len__(self) -> int:
        return len(self.keys)

    def _is_dense(self) -> bool:
        """Whether keys are consecutive, so that millions of them need no table."""
        return bool((np.diff(self.keys) == 1).all())

    def __contains__(self, key: int) -> bool:
        return key in self._rows if self._rows else bool(self.keys[0] <= key <= self.keys[-1])

    def read(self, key: int) -> Record:
        """The record with this key."""
        if key not in self:
            raise UserError(f"{_index_of(self.path)} has no record {key}: is it the index of this {self.path.name}?")
        row = self._rows[key] if self._rows else key - int(self.keys[0])
        return self._parse(key, b"".join(self._parts(key, int(self.offsets[row]))))

    def _parts(self, key: int, offset: int) -> Iterator[bytes]:
        """The parts of a record's data, the magic number put back between them."""
        data, wanted = self._data(), (_WHOLE, _FIRST)
        while True:
            if offset + _WORDS.size > self.size:
                raise self._error(key, "is cut off by the end of the file")
            magic, word = _WORDS.unpack_from(data, offset)
            kind, length = word >> 29, word & _LENGTH
            if magic != MAGIC:
                raise self._error(key, f"begins with {magic:#010x} at byte {offset:,}, expected {MAGIC:#010x}")
            if kind not in wanted:
                raise self._error(key, f"goes on with part {kind} at byte {offset:,}, expected {wanted}")
            start = offset + _WORDS.size
            if start + length > self.size:
                missing = start + length - self.size
                raise self._error(key, f"is cut off by the end of the file: {missing:,} bytes are missing")
            if kind in (_MIDDLE, _LAST):
                yield _MAGIC_BYTES
            yield data[start : start + length]
            if kind in (_WHOLE, _LAST):
                return
            offset, wanted = start + length + -length % 4, (_MIDDLE, _LAST)

    def _parse(self, key: int, content: bytes) -> Record:
        if len(content) < _HEADER.size:
            raise self._error(key, f"has {len(content)} bytes, fewer than the {_HEADER.size} of its header")
        count, label, _, _ = _HEADER.unpack_from(content)
        if count == 0:
            return Record((label,), content[_HEADER.size :])
        end = _HEADER.size + 4 * count
        if count > MAX_LABELS or end > len(content):
            raise self._error(key, f"announces {count} labels in {len(content)} bytes")
        return Record(tuple(np.frombuffer(content, "<f4", count, _HEADER.size).tolist()), content[end:])

    def _error(self, key: int, what: str) -> UserError:
        return UserError(f"{self.path}, record {key} {what}. The file is damaged or truncated: copy it again.")

    def _data(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def _index_of(path: Path) -> Path:
    return path.with_suffix(".idx")


def _read_index(path: Path) -> tuple[Ints, Ints]:
    """Keys, rising, and offsets. Raises UserError for a missing, empty or malformed `.idx`."""
    index = _index_of(path)
    for file, what in ((path, "a .rec file of training faces"), (index, f"the index of {path.name}, beside it")):
        if not file.is_file():
            raise UserError(f"{file} is missing: expected {what}.")
        if not file.stat().st_size:
            raise UserError(f"{file} is empty (0 bytes): expected {what}. Copy it again.")
    try:
        table = np.loadtxt(index, dtype=np.int64, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{index} is not an index ({error}): expected lines `key<tab>offset`.") from error
    if table.shape[1] != 2:
        raise UserError(f"{index} has {table.shape[1]} columns: expected lines `key<tab>offset`.")
    keys, offsets = table[np.argsort(table[:, 0], kind="stable")].T
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice):
        raise UserError(f"{index} names record {keys[twice[0]]} twice: expected each key once. Make it again.")
    return np.ascontiguousarray(keys), np.ascontiguousarray(offsets)


class RecordWriter:
    """Writes a `.rec` and its `.idx`, which appear when the `with` block ends well and not before."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.suffix != ".rec":
            raise UserError(f"{self.path}: expected a name that ends in .rec.")
        self._stack = ExitStack()
        self._lines: list[str] = []

    def __enter__(self) -> RecordWriter:
        self._index_path = self._stack.enter_context(replacing(_index_of(self.path)))
        self._file: BinaryIO = self._stack.enter_context(replacing(self.path)).open("wb")
        return self

    def add(self, key: int, labels: Iterable[float] | float, data: bytes = b"") -> None:
        """Append a record; a single number is written as a plain label, several as a list."""
        if isinstance(labels, Iterable):
            values = np.asarray(list(labels), "<f4")
            header = _HEADER.pack(len(values), 0.0, key, 0) + values.tobytes()
        else:
            header = _HEADER.pack(0, labels, key, 0)
        self._lines.append(f"{key}\t{self._file.tell()}\n")
        for part in _split(header + data):
            self._file.write(part)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:  # which removes or renames what was written
            try:
                self._file.close()
            except OSError:
                if error is None:  # else that one says why
                    raise
            if error is None:
                self._index_path.write_text("".join(self._lines), encoding="ascii")
                _index_of(self.path).unlink(missing_ok=True)  # an old index must never stand beside the new file
            else:
                raise error


def _split(content: bytes) -> Iterator[bytes]:
    """The parts that a record is written in: cut wherever the magic number stands at a multiple of four."""
    if len(content) > _LENGTH:
        raise UserError(f"a record of {len(content):,} bytes: expected at most {_LENGTH:,}.")
    words = np.frombuffer(content, "<u4", len(content) // 4)
    starts = [0, *(4 * int(place) + 4 for place in np.flatnonzero(words == MAGIC))]
    ends = [*(start - 4 for start in starts[1:]), len(content)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        last = number == len(starts) - 1
        kind = (_WHOLE if last else _FIRST) if number == 0 else (_LAST if last else _MIDDLE)
        yield _WORDS.pack(MAGIC, kind << 29 | (end - start)) + content[start:end] + b"\0" * (-(end - start) % 4)


def write_people(path: Path, people: Iterable[Iterable[bytes]]) -> tuple[int, int]:
    """Write encoded images, a group for each person, as InsightFace lays a set out; gives images and people.

    People are labelled 0, 1, … in their order; each must have an image. The people's ranges are left out where a key
    is too large for a label, which is a 32-bit float.
    """
    ranges: list[tuple[int, int]] = []
    key = 1
    with RecordWriter(path) as writer:
        for person, images in enumerate(people):
            first = key
            for image in images:
                writer.add(key, float(person), image)
                key += 1
            if key == first:
                raise UserError(f"{path}: person {person} has no image. Leave people without images out.")
            ranges.append((first, key))
        if key + len(ranges) > EXACT:
            return key - 1, len(ranges)
        for number, (first, end) in enumerate(ranges):
            writer.add(key + number, (float(first), float(end)))
        writer.add(0, (float(key), float(key + len(ranges))))
    return key - 1, len(ranges)
