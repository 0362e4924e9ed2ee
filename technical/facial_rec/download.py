"""Fetching the authors' EdgeFace files by name.

Published by George et al. (Idiap) under CC BY-NC-SA 4.0, research use. The authors publish no checksums, and none is
invented here: a download is checked by its size where that is known, by strict keys and by parameter count, and its
SHA-256 is printed for your records.
"""

from __future__ import annotations

import http.client
from pathlib import Path

from common.errors import UserError
from common.fetch import stream
from common.files import replacing, sha256_of
from common.paths import REPOSITORY_ROOT, find_weights
from facial_rec.edgeface import VARIANTS, count_parameters, get_model
from facial_rec.weights import find_edgeface, load_strictly, read_state, recognise

ADDRESS = "https://gitlab.idiap.ch/bob/bob.paper.tbiom2023_edgeface/-/raw/master/checkpoints/{name}.pt"
KNOWN_SIZES = {"edgeface_xxs": 5_030_619, "edgeface_xxs_q": 1_734_661, "edgeface_xs_q": 2_993_451}
"""Bytes of the official files, where they are known."""


def edgeface_file(weights: str | Path, allow_download: bool = True) -> Path:
    """The file `weights`, here or in `checkpoints/`; a published name that is not there is downloaded from the authors.

    A published name needs no ending. Raises UserError where there is no such file, and none to download.
    """
    path = find_weights(weights) or (find_weights(f"{weights}.pt") if str(weights) in VARIANTS else None)
    return path or (download_weights(str(weights)) if allow_download else None) or find_edgeface(weights)


def download_weights(name: str, folder: Path = REPOSITORY_ROOT / "checkpoints") -> Path | None:
    """Download a published EdgeFace into `folder`; None when `name` is not one of theirs.

    `name` is a variant with or without `.pt`. Raises UserError, with the address and where to put the file, when the
    address cannot be reached or what came is not that network.
    """
    stem = name.removesuffix(".pt")
    if stem not in VARIANTS or stem == "edgeface_tiny":
        return None
    address, target = ADDRESS.format(name=stem), folder / f"{stem}.pt"
    print(f"[EdgeFace] {name} is not in {folder}: downloading {address}")
    with replacing(target) as temporary:
        try:
            stream(address, temporary)
        except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
            raise UserError(
                f"{name} is not here and {address} could not be fetched ({error}). "
                f"Download it yourself and put it at {target}, or give --edgeface another file."
            ) from error
        try:
            verify_download(temporary, stem)
        except UserError as error:
            raise UserError(
                f"What {address} sent was not kept: {error} Or put the file at {target} yourself."
            ) from error
    print(f"[EdgeFace] Saved {target}, sha256 {sha256_of(target)} (CC BY-NC-SA 4.0, research use)")
    return target


def verify_download(path: Path, name: str) -> None:
    """Raise UserError unless `path` is a state dict of the variant `name` with the right size and every key."""
    size, expected = path.stat().st_size, KNOWN_SIZES.get(name)
    if expected is not None and size != expected:
        raise UserError(f"The download of {name} has {size:,} bytes, expected {expected:,}. Try again.")
    state = read_state(path)
    _, model = recognise(state, path)
    load_strictly(model, state, path)
    found, wanted = count_parameters(model), count_parameters(get_model(name))
    if found != wanted:
        raise UserError(f"The download of {name} has {found:,} parameters, expected {wanted:,}.")
