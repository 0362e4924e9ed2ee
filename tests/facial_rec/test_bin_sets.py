"""facial_rec.bin_sets and facial_rec.bin_pickle: what is read, what is refused, and that nothing is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from sklearn.model_selection import KFold

from common.errors import UserError
from common.images import RgbImage
from facial_rec import bin_sets
from facial_rec.bin_sets import BinSource, write_bin

LABELS = [True, False, True]
PEOPLE = [0, 0, 1, 2, 3, 3]


@pytest.fixture
def encoded(face: Callable[..., RgbImage]) -> list[bytes]:
    """Six PNG files: three pairs of people 0 0, 1 2, 3 3."""
    return [png(face(person, photo)) for photo, person in enumerate(PEOPLE)]


def png(image: RgbImage) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes as Python 2 wrote its strings."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, data: bytes) -> None:
        if self.bin:
            short = len(data) < 256
            self.write((b"U" + struct.pack("<B", len(data)) if short else b"T" + struct.pack("<i", len(data))) + data)
        else:
            self.write(b"S" + repr(data)[1:].encode("ascii") + b"\n")
        self.memoize(data)

    dispatch[bytes] = save_string


def python2_pickle(content: Any, protocol: int) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol).dump(content)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


def check(source: BinSource, encoded: Sequence[bytes], face: Callable[..., RgbImage]) -> None:
    assert len(source.names) == 6
    for photo, person in enumerate(PEOPLE):
        np.testing.assert_array_equal(source.read(bin_sets.name_of(photo)), face(person, photo))
    assert source.pairs.genuine.tolist() == LABELS
    assert [(pair.first, pair.second) for pair in source.pairs.pairs][1] == ("000002", "000003")


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_python_3(
    tmp_path: Path, encoded: list[bytes], face: Callable[..., RgbImage], protocol: int
) -> None:
    check(BinSource(written(tmp_path / "a.bin", (encoded, LABELS), protocol)), encoded, face)
    arrays = [np.frombuffer(image, np.uint8).copy() for image in encoded]
    check(BinSource(written(tmp_path / "b.bin", [arrays, LABELS], protocol)), encoded, face)
    check(BinSource(written(tmp_path / "c.bin", (arrays, np.array(LABELS)), protocol)), encoded, face)


@pytest.mark.parametrize("protocol", range(3))
def test_every_protocol_of_python_2(
    tmp_path: Path, encoded: list[bytes], face: Callable[..., RgbImage], protocol: int
) -> None:
    path = tmp_path / "two.bin"
    path.write_bytes(python2_pickle((encoded, LABELS), protocol))
    check(BinSource(path), encoded, face)
    arrays = [np.frombuffer(image, np.uint8).copy() for image in encoded]
    path.write_bytes(python2_pickle((arrays, LABELS), protocol))
    assert b"numpy.core.multiarray" in path.read_bytes()
    check(BinSource(path), encoded, face)


def test_the_writer_is_read_by_a_plain_unpickler(tmp_path: Path, encoded: list[bytes]) -> None:
    """As InsightFace reads it."""
    write_bin(tmp_path / "out.bin", encoded, LABELS)
    with open(tmp_path / "out.bin", "rb") as file:
        content = pickle.load(file, encoding="bytes")  # noqa: S301 - written two lines above
    assert content == (encoded, LABELS)
    with pytest.raises(ValueError, match="two images a label, found 6 and 2"):
        write_bin(tmp_path / "out.bin", encoded, LABELS[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


def test_people_are_linked_by_pictures_and_genuine_pairs(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    a, b, c, d, e = (png(face(person, 1)) for person in range(5))
    # a = b, b = c by genuine pairs; d and e are strangers to all; the last pair contradicts the first two.
    write_bin(tmp_path / "x.bin", [a, b, b, c, a, d, d, e, a, c], [True, True, False, False, False])
    source = BinSource(tmp_path / "x.bin")
    pairs = source.pairs
    assert not pairs.people_known
    assert list(source.names) == ["000000", "000001", "000003", "000005", "000007"]
    assert pairs.genuine.tolist() == [True, True, False, False, False]
    subjects = [(pair.first_subject, pair.second_subject) for pair in pairs.pairs]
    assert len({subject for pair in subjects for subject in pair}) == 3
    assert subjects[0] == subjects[1] == subjects[4]
    assert (pairs.pairs[4].first, pairs.pairs[4].second) == ("000000", "000003")


def test_fingerprints_are_of_the_encoded_bytes(tmp_path: Path, encoded: list[bytes]) -> None:
    write_bin(tmp_path / "x.bin", encoded, LABELS)
    source = BinSource(tmp_path / "x.bin")
    assert source.fingerprint("000002") == hashlib.sha256(encoded[2]).hexdigest()
    assert source.label == str(tmp_path / "x.bin")


def test_folds_are_those_of_kfold(tmp_path: Path, encoded: list[bytes]) -> None:
    labels = [bool(index % 2) for index in range(23)]
    write_bin(tmp_path / "x.bin", (encoded * 8)[:46], labels)
    pairs = BinSource(tmp_path / "x.bin").pairs
    assert pairs.folds == 10
    expected = np.zeros(23, dtype=int)
    for fold, (_, test) in enumerate(KFold(n_splits=10, shuffle=False).split(expected)):
        expected[test] = fold
    assert pairs.fold_numbers.tolist() == expected.tolist()


class Malicious:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"(builtins|__builtin__)\.eval"), (open, r"(_?io|__builtin__)\.open")],
)
def test_code_is_named_and_not_run(
    tmp_path: Path, encoded: list[bytes], protocol: int, function: Callable[..., Any], named: str
) -> None:
    flag = tmp_path / "flag"
    argument = {os.system: f"touch {flag}", eval: f"open({str(flag)!r}, 'w')", open: str(flag)}[function]
    arguments = (argument, "w") if function is open else (argument,)
    path = written(tmp_path / "evil.bin", ([*encoded, Malicious(function, *arguments)], LABELS), protocol)
    with pytest.raises(UserError, match=rf"evil\.bin asks for {named}.*can run code; it was not run"):
        BinSource(path)
    assert not flag.exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"cnumpy\nload\n.", "asks for numpy.load"),
        (b"cnumpy.core.multiarray\nscalar\n.", "asks for numpy.core.multiarray.scalar"),
        (b"(S'x'\nios\nsystem\n.", "asks for os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.", "asks for _codecs.encode to b'rot13'"),
        (b"Pname\n.", "persistent object"),
        (b"cnumpy\nndarray\n(K\x02tR.", "an array type is named, never called"),
        (b"cnumpy\ndtype\n}U\x05_callK\x01sb.", "may not change what it names"),
        (b"cnumpy\ndtype\nN}U\x05_callK\x01s\x86b.", "may not change what it names"),
        (b"cnumpy\ndtype\n)\x81.", "not a readable"),
        (b"\x82\x01.", "not a readable"),
        (b"Nr\xff\xff\xff\x7f.", "a memory slot numbered 2147483647 among 2 instructions"),
        (b"Np4000000000\n.", "a memory slot numbered 4000000000"),
        (b"\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "not a readable"),
        (b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "not a readable"),
        (b"\xff\xff", "no pickle instruction at byte 0"),
        (b"PK\x03\x04 a zip", "not a readable"),
        (b"(((((", "it ends too early"),
        (b"I" + b"9" * 10_000 + b"\n.", "not a readable"),
    ],
)
def test_hostile_and_damaged_pickles_are_refused(tmp_path: Path, program: bytes, words: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(program)
    with pytest.raises(UserError, match=r"x\.bin") as caught:
        BinSource(path)
    assert words in str(caught.value)


def test_encoding_one_string_again_and_again_is_refused(tmp_path: Path) -> None:
    """A text of 1 kB, turned to bytes a thousand times, is a megabyte from a file of 13 kB."""
    start = b"\x80\x02X\x00\x04\x00\x00" + b"a" * 1024 + b"q\x000" + b"](" + b"c_codecs\nencode\nq\x01"
    again = b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R"
    (tmp_path / "x.bin").write_bytes(start + again * 1000 + b"e.")
    with pytest.raises(UserError, match="it makes more bytes than the file holds"):
        BinSource(tmp_path / "x.bin")


def test_naming_one_image_again_and_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[bytes]
) -> None:
    monkeypatch.setattr(bin_sets, "MAX_BIN_BYTES", 100_000)
    path = written(tmp_path / "x.bin", ([encoded[0]] * 2000, [True] * 1000))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"holds images of [\d,]+ bytes together: expected at most 100,000"):
        BinSource(path)


def test_naming_one_list_again_and_again_is_refused(tmp_path: Path) -> None:
    """Ten thousand times a list of ten thousand numbers would be a hundred million, from a file of 40 kB."""
    inner = b"](" + b"K\x01" * 10_000 + b"eq\x00"
    (tmp_path / "x.bin").write_bytes(b"\x80\x02](" + inner + b"h\x00" * 10_000 + b"e.")
    with pytest.raises(UserError, match="its content is a list of 10001"):
        BinSource(tmp_path / "x.bin")
    assert peak_of_reading(tmp_path / "x.bin") < 20 * 1024**2


def peak_of_reading(path: Path) -> int:
    """Most bytes that Python held at a time while it was refused."""
    tracemalloc.start()
    with pytest.raises(UserError):
        BinSource(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[bytes]
) -> None:
    monkeypatch.setattr(bin_sets, "MAX_BIN_BYTES", 1000)
    with pytest.raises(UserError, match=r"has [\d,]+ bytes: expected a \.bin set of at most 1,000"):
        BinSource(written(tmp_path / "x.bin", (encoded, LABELS)))


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(tmp_path: Path, encoded: list[bytes], keep: float) -> None:
    data = pickle.dumps((encoded, LABELS))
    (tmp_path / "x.bin").write_bytes(data[: int(keep * len(data)) + 1])
    with pytest.raises(UserError, match=r"x\.bin is not a readable \.bin verification set"):
        BinSource(tmp_path / "x.bin")


def test_random_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    whole = pickle.dumps(([np.arange(9, dtype=np.uint8)] * 2, [True]), protocol=2)
    for _ in range(400):
        data = bytearray(whole)
        for place in chance.integers(0, len(data), 3):
            data[place] = chance.integers(256)
        (tmp_path / "x.bin").write_bytes(bytes(data))
        with contextlib.suppress(UserError):
            BinSource(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (7, "its content is a int"),
        ([1, 2, 3], "its content is a list of 3"),
        ({"a": 1}, "its content is a dict"),
        ((1, [True]), "its parts are a int and a list of 1"),
        (([], []), "holds no image"),
        (([b"x"] * 3, [True]), "holds 3 images: expected an even number"),
        (([b"x"] * 4, [True]), "holds 1 labels for 2 pairs"),
        (([b"x", "text"], [True]), "image 1 is a str"),
        (([b"x", b""], [True]), "image 1 has 0 bytes"),
        (([b"x", b"x"], [2]), "label 0 is 2: expected True"),
        (([b"x", b"x"], ["True"]), "label 0 is 'True'"),
        (([b"x", np.zeros(4, dtype=np.float32)], [True]), "an array of f4, expected uint8"),
        (([b"x", np.zeros((4, 4), dtype=np.uint8)], [True]), r"an array of shape (4, 4), expected one dimension"),
    ],
)
def test_another_structure_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError, match=r"x\.bin") as caught:
        BinSource(written(tmp_path / "x.bin", content))
    assert words in str(caught.value)


def test_bad_images_are_named_by_file_and_number(
    tmp_path: Path, encoded: list[bytes], face: Callable[..., RgbImage]
) -> None:
    write_bin(tmp_path / "x.bin", [*encoded[:3], b"no image", png(face(1, 1, 32)), encoded[4][:900]], LABELS)
    source = BinSource(tmp_path / "x.bin")
    for number, words in ((3, "is not a PNG"), (4, "is 32x32, expected 112x112"), (5, "is truncated or damaged")):
        with pytest.raises(UserError, match=rf"x\.bin, image {number} {words}"):
            source.read(bin_sets.name_of(number))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.bin is missing"):
        BinSource(tmp_path / "none.bin")
    (tmp_path / "empty.bin").touch()
    with pytest.raises(UserError, match=r"empty\.bin is empty \(0 bytes\)"):
        BinSource(tmp_path / "empty.bin")


def test_more_than_is_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[bytes]
) -> None:
    monkeypatch.setattr(bin_sets, "MAX_BIN_BYTES", 1000)
    with pytest.raises(UserError, match=r"x\.bin would hold images of [\d,]+ bytes together, and at most 1,000 are"):
        write_bin(tmp_path / "x.bin", encoded[:2], [True])
    assert not (tmp_path / "x.bin").exists()
