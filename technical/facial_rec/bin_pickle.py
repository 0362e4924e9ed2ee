"""Reading a pickle of image bytes and labels without running what it asks for.

A pickle is a program: it may name any function and call it. `.bin` files need none but those by which numpy writes an
array, so only these names are known here, and each stands for something that merely keeps the bytes it is given.
Every instruction is looked at first, because some claim more memory than the file has bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMPY_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMPY_BUFFER = ("numpy.core.numeric", "numpy._core.numeric")
_DTYPES = {"u1": np.uint8, "b1": np.bool_}
_INSTRUCTIONS = {instruction.code: instruction for instruction in pickletools.opcodes}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class RefusedGlobal(pickle.UnpicklingError):
    """The pickle asked for a function or class that no verification set needs; its name is the message."""


def read_plain_pickle(data: bytes) -> Any:
    """What `data` holds: lists, tuples, bytes, numbers, and numpy arrays of uint8 or bool; nothing else.

    Python 2's strings come as bytes. Raises RefusedGlobal for any other global, and what the unpickler raises for
    damaged data: UnpicklingError, EOFError, ValueError, TypeError, and the other exceptions of Python's own types.
    """
    _check_instructions(data)
    return _with_arrays(_Unpickler(data).load())


def _check_instructions(data: bytes) -> None:
    """Read the pickle through without running it; ValueError where an instruction is cut short or claims too much."""
    stream = io.BytesIO(data)
    count = 0
    while True:
        code = stream.read(1).decode("latin-1")
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            raise ValueError(f"no pickle instruction at byte {stream.tell() - 1}" if code else "it ends too early")
        count += 1
        argument = None
        if instruction.name == "STRING":  # pickletools refuses Python 2's, which may hold any byte
            stream.readline()
        elif instruction.arg is not None:
            argument = instruction.arg.reader(stream)  # ValueError when the file has fewer bytes than announced
        if instruction.name in _PUTS and (not isinstance(argument, int) or not 0 <= argument <= count):
            raise ValueError(f"a memory slot numbered {argument} among {count} instructions")
        if code == pickle.STOP.decode():
            return


class _Unpickler(pickle.Unpickler):
    """Knows only the globals of `_known_globals`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._globals = _known_globals(_Encoder(len(data)))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._globals:
            raise RefusedGlobal(f"{module}.{name}")
        return self._globals[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedGlobal(f"persistent object {pid}")


class _Stand:
    """Something to call in place of a global, which a pickle cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what it names")


@dataclass
class _Dtype:
    """In place of `numpy.dtype`: its code alone. What numpy adds of byte order means nothing to single bytes."""

    code: str

    def __setstate__(self, state: Any) -> None:
        return


@dataclass
class _Array:
    """In place of an array: its shape, type and bytes."""

    shape: Any = None
    dtype: Any = None
    data: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, _, self.data = state

    def array(self) -> NDArray[Any]:
        """The array itself. Raises ValueError unless it is one-dimensional, of uint8 or bool, and whole."""
        if not isinstance(self.dtype, _Dtype) or self.dtype.code not in _DTYPES:
            raise ValueError(f"an array of {getattr(self.dtype, 'code', self.dtype)}, expected uint8 or bool")
        if not isinstance(self.data, bytes | bytearray) or self.shape != (len(self.data),):
            raise ValueError(f"an array of shape {self.shape}, expected one dimension and as many bytes")
        return np.frombuffer(self.data, _DTYPES[self.dtype.code])


@dataclass
class _Encoder:
    """In place of `_codecs.encode`, by which Python 3 writes bytes for Python 2; latin-1 only.

    All results together may not exceed the file, or a short pickle that encodes one string again and again would
    fill the memory.
    """

    allowance: int
    used: int = 0

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
            raise RefusedGlobal(f"_codecs.encode to {encoding}")
        self.used += len(text)
        if self.used > self.allowance:
            raise pickle.UnpicklingError("it makes more bytes than the file holds")
        return text.encode("latin-1")


def _known_globals(encode: _Encoder) -> dict[tuple[str, str], Any]:
    dtype, array_type = _Stand(lambda code, *_: _Dtype(_text(code))), _Stand(_refuse)
    reconstruct, buffer = _Stand(lambda *_: _Array()), _Stand(lambda data, kind, shape, *_: _Array(shape, kind, data))
    known = {("numpy", "dtype"): dtype, ("numpy", "ndarray"): array_type, ("_codecs", "encode"): _Stand(encode)}
    known |= {(module, "_reconstruct"): reconstruct for module in _NUMPY_CORE}
    known |= {(module, "_frombuffer"): buffer for module in _NUMPY_BUFFER}
    known |= {(module, "bytes"): _Stand(lambda: b"") for module in ("builtins", "__builtin__")}  # protocol 2's b""
    return known


def _refuse(*arguments: Any) -> Any:
    raise pickle.UnpicklingError("an array type is named, never called")


def _text(code: Any) -> str:
    return code.decode("latin-1") if isinstance(code, bytes) else str(code)


def _with_arrays(value: Any) -> Any:
    """`value` with the stand-ins in it and in its lists, no deeper, turned into arrays."""
    if not isinstance(value, tuple | list):
        return _plain(value)
    if len(value) != 2:  # no set; and one list, named again and again, would be copied as often
        return list(value)
    return [[_plain(item) for item in part] if isinstance(part, tuple | list) else _plain(part) for part in value]


def _plain(item: Any) -> Any:
    return item.array() if isinstance(item, _Array) else item
