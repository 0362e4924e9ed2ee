"""Reading numpy arrays from a joblib file packed with LZ4, without running what it asks for.

Such a file is a pickle with the bytes of each array laid in after the object that describes it. A pickle may name any
function and call it; here only the three names that describe a float32 array are known, and each stands for something
that merely keeps what it is given.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from facial_rec.bin_pickle import RefusedGlobal

MAX_BYTES = 64 * 1024 * 1024  # unpacked; the largest known file of this kind has 1.6 million
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError, OverflowError, MemoryError)


def read_arrays(data: bytes, name: str) -> list[NDArray[np.float32]]:
    """The float32 arrays of a joblib file that holds a list of them; `data` is the file's bytes, `name` is for errors.

    Raises UserError for a damaged file, one that unpacks to more than `MAX_BYTES`, and one that holds anything else.
    """
    try:
        stream = io.BytesIO(_unpacked(data))
        found = _Unpickler(stream).load()
    except RefusedGlobal as error:
        raise UserError(
            f"{name} asks for {error}, which no array needs: refused. Install the package again."
        ) from error
    except (RuntimeError, pickle.UnpicklingError, *_DAMAGE) as error:  # RuntimeError is LZ4's
        raise UserError(f"{name} is damaged or no list of arrays ({error}). Install the package again.") from error
    if not isinstance(found, list) or not all(isinstance(item, _Array) and item.values is not None for item in found):
        raise UserError(f"{name} holds something else than a list of arrays. Install the package again.")
    return [item.values for item in found]


def _unpacked(data: bytes) -> bytes:
    unpacked = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=MAX_BYTES)
    if len(unpacked) == MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    return unpacked


class _Array:
    """In place of joblib's NumpyArrayWrapper: reads the array that follows its description in `stream`."""

    stream: io.BytesIO
    values: NDArray[np.float32] | None = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype = state["shape"], state["dtype"]
        if not isinstance(dtype, _Float32) or state["order"] != "C":
            raise ValueError("an array that is not float32 in C order")
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side > 0 for side in shape):
            raise ValueError(f"an array of shape {shape}")
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.read(self.stream.read(1)[0])  # so many bytes of padding
        data = self.stream.read(4 * math.prod(shape))
        self.values = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)


class _Float32:
    """In place of `numpy.dtype("f4")`; its byte order comes as state."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code != "f4":
            raise ValueError(f"an array of {code}, expected f4")

    def __setstate__(self, state: Any) -> None:
        if state[1] != "<":
            raise ValueError(f"byte order {state[1]}, expected little-endian")


class _ArrayType:
    """In place of `numpy.ndarray`, which is named in each description and never called."""

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError("an array type is named, never called")


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python, as joblib's own: it takes from the stream exactly what it reads, so that the arrays'
    bytes follow, and no more memory than the file has bytes."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        here = type("_ArrayHere", (_Array,), {"stream": stream})
        self._known: dict[tuple[str, str], type] = {
            ("joblib.numpy_pickle", "NumpyArrayWrapper"): here,
            ("numpy", "dtype"): _Float32,
            ("numpy", "ndarray"): _ArrayType,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise RefusedGlobal(f"{module}.{name}")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedGlobal(f"persistent object {pid}")
