"""facial_rec.record_file: InsightFace's layout byte by byte, round trips, and every kind of damage."""

from __future__ import annotations

import copy
import errno
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from facial_rec.record_file import Record, RecordFile, RecordWriter, write_people

MAGIC = b"\x0a\x23\xd7\xce"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Images 1 to 3, the last of them person 1's; people 4 and 5; the header 0."""
    path = tmp_path / "train.rec"
    assert write_people(path, [[b"first", b"second!!"], [b"third image"]]) == (3, 2)
    return path


def by_hand(path: Path, chunks: list[tuple[int, bytes]]) -> Path:
    """A `.rec` of these `(length word, padded bytes)` after the magic number each, and an index of its one record 7."""
    path.write_bytes(b"".join(MAGIC + struct.pack("<I", word) + data for word, data in chunks))
    path.with_suffix(".idx").write_text("7\t0\n")
    return path


def test_insightfaces_layout(written: Path) -> None:
    records = RecordFile(written)
    assert records.keys.tolist() == [0, 1, 2, 3, 4, 5]
    assert records.read(0) == Record((4.0, 6.0), b"")
    assert records.read(1) == Record((0.0,), b"first")
    assert records.read(3) == Record((1.0,), b"third image")
    assert records.read(4).labels == (1.0, 3.0)
    assert records.read(5).labels == (3.0, 4.0)


def test_bytes_are_those_of_mxnet(written: Path) -> None:
    """One record spelled out: magic, length, flag, label, id, id2, data, padding."""
    data = written.read_bytes()
    expected = MAGIC + struct.pack("<I", 24 + 5) + struct.pack("<IfQQ", 0, 0.0, 1, 0) + b"first" + b"\0" * 3
    assert data.startswith(expected)
    assert len(data) % 4 == 0
    lines = written.with_suffix(".idx").read_text().splitlines()
    assert lines[:2] == ["1\t0", f"2\t{len(expected)}"]
    assert lines[-1].startswith("0\t")


def test_scalar_and_listed_labels_by_hand(tmp_path: Path) -> None:
    scalar = struct.pack("<IfQQ", 0, 12.0, 7, 0) + b"abcd"
    listed = struct.pack("<IfQQ", 2, 0.0, 7, 0) + struct.pack("<2f", 12.0, 1.0) + b"abcd"
    assert RecordFile(by_hand(tmp_path / "a.rec", [(len(scalar), scalar)])).read(7) == Record((12.0,), b"abcd")
    assert RecordFile(by_hand(tmp_path / "b.rec", [(len(listed), listed)])).read(7) == Record((12.0, 1.0), b"abcd")


def test_data_that_holds_the_magic_number_is_cut_and_joined(tmp_path: Path) -> None:
    contents = [MAGIC, b"abcd" + MAGIC + b"efgh", MAGIC * 3 + b"x", b"ab" + MAGIC + b"cd", b"abcd" + MAGIC]
    path = tmp_path / "x.rec"
    with RecordWriter(path) as writer:
        for key, content in enumerate(contents):
            writer.add(key, 1.0, content)
    records = RecordFile(path)
    assert [records.read(key).data for key in range(len(contents))] == contents
    # In the first record the data ends with the magic number: cut there, and nothing after it.
    header = struct.pack("<IfQQ", 0, 1.0, 0, 0)
    cut = MAGIC + struct.pack("<I", 1 << 29 | 24) + header + MAGIC + struct.pack("<I", 3 << 29)
    assert path.read_bytes().startswith(cut + MAGIC)


def test_parts_by_hand(tmp_path: Path) -> None:
    header = struct.pack("<IfQQ", 0, 5.0, 7, 0)
    chunks = [(1 << 29 | 24, header), (2 << 29 | 4, b"abcd"), (3 << 29 | 3, b"efg\0")]
    assert RecordFile(by_hand(tmp_path / "x.rec", chunks)).read(7).data == MAGIC + b"abcd" + MAGIC + b"efg"


def test_random_access_from_threads_and_in_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "many.rec"
    with RecordWriter(path) as writer:
        for key in range(0, 400, 2):
            writer.add(key, float(key), bytes([key % 251]) * key)
    records = RecordFile(path)
    another = copy.deepcopy(records)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda key: another.read(key), reversed(records.keys.tolist())))
    assert [record.labels[0] for record in read] == [float(key) for key in range(398, -1, -2)]
    assert [len(record.data) for record in read] == list(range(398, -1, -2))
    with pytest.raises(UserError, match=r"many\.idx has no record 3"):
        records.read(3)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_file_is_named_at_once(written: Path, kept: float) -> None:
    data = written.read_bytes()
    written.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match=r"train\.(rec|idx).*truncated"):
        RecordFile(written)


def test_a_record_cut_off_says_by_how_much(tmp_path: Path) -> None:
    body = struct.pack("<IfQQ", 0, 0.0, 7, 0) + b"abcd"
    path = by_hand(tmp_path / "x.rec", [(len(body) + 40, body)])
    with pytest.raises(UserError, match=r"x\.rec, record 7 is cut off by the end of the file: 40 bytes are missing"):
        RecordFile(path)


def break_at(path: Path, place: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("place", "data", "words"),
    [
        (0, b"\0\0\0\0", r"record 1 begins with 0x00000000 at byte 0, expected 0xced7230a"),
        (4, struct.pack("<I", 2 << 29 | 29), r"record 1 goes on with part 2 at byte 0"),
        (4, struct.pack("<I", 1 << 29 | 29), r"record 1 goes on with part 0 at byte 40"),
        (4, struct.pack("<I", 20), r"record 1 has 20 bytes, fewer than the 24 of its header"),
        (8, struct.pack("<I", 3), r"record 1 announces 3 labels in 29 bytes"),
        (8, struct.pack("<I", 2**32 - 1), r"record 1 announces 4294967295 labels"),
    ],
)
def test_damage_is_named_by_record(written: Path, place: int, data: bytes, words: str) -> None:
    break_at(written, place, data)
    with pytest.raises(UserError, match=rf"train\.rec, {words}.*damaged or truncated: copy it again"):
        RecordFile(written).read(1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", r"train\.idx is empty"),
        ("0\t99999\n", r"train\.idx points record 0 at byte 99,999, outside .*train\.rec"),
        ("0\t-4\n", r"points record 0 at byte -4"),
        ("0\t0\n0\t40\n", r"names record 0 twice"),
        ("0 0 0\n", r"has 3 columns: expected lines `key<tab>offset`"),
        ("zero\t0\n", r"train\.idx is not an index .*expected lines"),
        ("1\t4\n", r"train\.rec, record 1 begins with"),
    ],
)
def test_a_bad_index_is_refused(written: Path, lines: str, words: str) -> None:
    written.with_suffix(".idx").write_text(lines)
    with pytest.raises(UserError, match=words):
        RecordFile(written)


@pytest.mark.parametrize("missing", [".rec", ".idx"])
def test_missing_files_are_named(written: Path, missing: str) -> None:
    written.with_suffix(missing).unlink()
    with pytest.raises(UserError, match=rf"train\{missing} is missing: expected"):
        RecordFile(written)


def test_a_stopped_writer_leaves_nothing(tmp_path: Path) -> None:
    def people() -> list[list[bytes]]:
        raise KeyboardInterrupt

    for broken in (lambda: [[b"a"], []], people):
        with pytest.raises((UserError, KeyboardInterrupt)):
            write_people(tmp_path / "x.rec", _lazily(broken))
        assert not list(tmp_path.iterdir())


def _lazily(people: Callable[[], list[list[bytes]]]) -> object:
    yield [b"image"]
    yield from people()


def test_bad_names_and_empty_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.bin: expected a name that ends in \.rec"):
        write_people(tmp_path / "x.bin", [[b"a"]])
    with pytest.raises(UserError, match="person 1 has no image"):
        write_people(tmp_path / "x.rec", [[b"a"], []])


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"x\.rec cannot be written \(No space left on device\)"):
        _write_on_a_full_disk(tmp_path / "x.rec", monkeypatch)
    assert list(tmp_path.iterdir()) == []


def _write_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordWriter(path) as writer:
        whole = writer._file

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(whole, name)

            def close(self) -> None:
                whole.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        writer._file = Full()  # type: ignore[assignment]
        writer.add(1, 0.0, b"image")
