"""Downloading a published file whose address and checksum are known."""

from __future__ import annotations

import http.client
import shutil
import urllib.request
from pathlib import Path

from tqdm import tqdm

from common.errors import UserError
from common.files import replacing, sha256_of

TIMEOUT_SECONDS = 20


def fetch_file(address: str, target: Path, sha256: str) -> Path:
    """Download `address` to `target`, whole or not at all, and return `target`.

    Raises UserError, with the address and where to put the file, when it cannot be reached or another file came.
    """
    print(f"{target.name} is not in {target.parent}: downloading {address}")
    with replacing(target) as temporary:
        try:
            stream(address, temporary)
        except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
            raise UserError(
                f"{target.name} is not here and {address} could not be fetched ({error}). "
                f"Download it yourself and put it at {target}."
            ) from error
        require_sha256(temporary, sha256, f"what {address} sent")
    return target


def require_sha256(path: Path, sha256: str, what: str = "") -> None:
    """UserError unless the bytes of `path` have this SHA-256; `what` names it in the message in place of the path."""
    found = sha256_of(path)
    if found != sha256:
        raise UserError(
            f"{what or path} has sha256 {found}, expected {sha256}: it is another file or damaged. Fetch it again."
        )


def stream(address: str, target: Path) -> None:
    """Write what `address` sends to `target`, with progress. Raises OSError and HTTPException as urllib does."""
    with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response, open(target, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm.wrapattr(file, "write", total=total, desc=target.name, unit="B") as sink:
            shutil.copyfileobj(response, sink)
