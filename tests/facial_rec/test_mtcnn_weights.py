"""MTCNN's weights: as joblib reads them, and refused where they are a program."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from common.errors import UserError
from facial_rec.joblib_arrays import read_arrays
from facial_rec.mtcnn_weights import NETWORKS, read_mtcnn_weights

_SPEC = find_spec("mtcnn")
assert _SPEC is not None
assert _SPEC.submodule_search_locations
WEIGHTS = Path(_SPEC.submodule_search_locations[0]) / "assets" / "weights"


def dumped(value: Any, path: Path) -> bytes:
    joblib.dump(value, path, compress="lz4")
    return path.read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_what_joblib_reads(name: str) -> None:
    ours, theirs = read_mtcnn_weights()[name], joblib.load(WEIGHTS / f"{name}.lz4")
    assert len(ours) == len(theirs)
    assert all(np.array_equal(own, other) for own, other in zip(ours, theirs, strict=True))


def test_neither_torch_nor_tensorflow_is_imported() -> None:
    code = (
        "import sys; from facial_rec.detector import load_detector; load_detector();"
        "sys.exit(', '.join({'torch', 'tensorflow', 'mtcnn', 'joblib', 'sklearn'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([np.zeros(3, np.float32), Evil()], r"asks for (posix|nt)\.system"),
        ([np.zeros(3)], "f8"),
        ([np.zeros(3, ">f4")], "byte order"),
        ([np.asfortranarray(np.zeros((3, 4), np.float32))], "C order"),
        ([np.array([{}], object)], "array of O8"),
        ([1, 2], "something else"),
        ({"a": np.zeros(3, np.float32)}, "something else"),
    ],
)
def test_anything_but_arrays_is_refused(
    value: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        read_arrays(dumped(value, tmp_path / "x.lz4"), "x.lz4")
    assert not (tmp_path / "evil").exists()


def test_damage_is_named() -> None:
    whole = (WEIGHTS / "pnet.lz4").read_bytes()
    rng = np.random.default_rng(0)
    for length in (0, 3, 10, 200, len(whole) // 2):
        with pytest.raises(UserError, match=r"p\.lz4"):
            read_arrays(whole[:length], "p.lz4")
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, 400, 4):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(UserError):  # any other exception fails the test
            read_arrays(bytes(damaged), "p.lz4")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    data = dumped([np.zeros(20_000_000, np.float32)], tmp_path / "bomb.lz4")
    assert len(data) < 1_000_000
    with pytest.raises(UserError, match="more than 67,108,864 bytes"):
        read_arrays(data, "bomb.lz4")


def test_another_network_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pnet\.lz4 is missing"):
        read_mtcnn_weights(tmp_path)
    dumped([np.zeros(3, np.float32)], tmp_path / "pnet.lz4")
    with pytest.raises(UserError, match="another network"):
        read_mtcnn_weights(tmp_path)
