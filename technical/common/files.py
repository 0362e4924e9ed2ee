"""Files that are either whole or absent: atomic writes, checksums, JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import UserError

_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
}


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, renamed over it when the block ends well and removed when it does not.

    Raises UserError where there is no room, no permission, or a folder of that name.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UserError(f"{target} is a folder: expected the name of a file to write.")
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        own = {None, str(temporary), str(target), *map(str, target.parents)}
        if error.errno in _UNWRITABLE and error.filename in own:
            raise UserError(
                f"{target} cannot be written ({error.strerror}). Give another place, or make room."
            ) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_with(target: Path, write: Callable[[Path], object]) -> None:
    """Call `write(path)` on a temporary neighbour of `target`, then rename it over `target`."""
    with replacing(target) as temporary:
        write(temporary)


def write_text(target: Path, text: str) -> None:
    r"""Write `text` as UTF-8, atomically; bytes of a file name that are none are shown as `\udc..`."""
    write_with(target, lambda path: path.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinities are refused (ValueError): JSON has no such numbers."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or malformed one is a UserError that names it."""
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a JSON file.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}). Make it again with the command that wrote it.") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
