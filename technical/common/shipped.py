"""The weights that come with the repository: which they are, how to get one back, whether a file still is one of them.

`checkpoints/SHA256SUMS` lists them as sha256sum does: `cd checkpoints && sha256sum -c SHA256SUMS` checks them all.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from common import paths
from common.errors import UserError
from common.files import sha256_of

LIST = "SHA256SUMS"


def shipped_files() -> dict[str, str]:
    """SHA-256 by file name, as `checkpoints/SHA256SUMS` lists them; empty without a list. UserError for a bad line."""
    file = _folder() / LIST
    if not file.is_file():
        return {}
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if match is None:
            raise UserError(f"{file} holds {line!r}: expected a SHA-256, two blanks and a file name.")
        found[match[2]] = match[1]
    return found


def restoring(name: str | Path) -> str:
    """How to get the file `name` back, to end an error with; empty where it is none that is shipped."""
    path = Path(name)
    if path.parent not in (Path(), Path("checkpoints")) or path.name not in shipped_files():
        return ""
    return f" It comes with the repository: `git checkout checkpoints/{path.name}` brings it back."


def weights_sha256(path: Path) -> str:
    """SHA-256 of a weights file; a warning, once, where it lies in `checkpoints/` and the list there has another."""
    found = sha256_of(path)
    if path.parent.resolve() == _folder().resolve():
        listed = shipped_files().get(path.name, found)
        if listed != found:
            _warn(path, found, listed)
    return found


def _folder() -> Path:
    return paths.REPOSITORY_ROOT / "checkpoints"


@cache
def _warn(path: Path, found: str, listed: str) -> None:
    print(
        f"warning: {path} is not the file that {LIST} lists (sha256 {found[:12]}…, listed {listed[:12]}…). "
        f"`git checkout checkpoints/{path.name}` restores it; if it is your own, remove its line from the list.",
        file=sys.stderr,
    )
