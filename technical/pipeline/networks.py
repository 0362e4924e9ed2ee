"""Loading the networks of the chain, with names and checksums for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from common.device import select_device
from common.errors import UserError
from common.files import sha256_of
from dsr.checkpoint import load_dsr
from dsr.losses import LpipsLoss, find_lpips_backbone
from facial_rec.embedder import load_embedder
from pipeline.chain import DEFAULT_BATCH, Chain

DEFAULT_EDGEFACE = "edgeface_xxs_dsr.pth"
DEFAULT_DSR = "dsr.pt"
"""What every command takes unless told otherwise: the pair in `checkpoints/`, trained for each other."""
NO_DSR = "none"

Checksums = dict[str, str]


def load_chain(
    edgeface: Sequence[str],
    dsr: str,
    device: str = "cpu",
    batch_size: int = DEFAULT_BATCH,
    threads: int = 0,
) -> tuple[Chain, Checksums]:
    """Recognisers and, unless `none`, a DSR, from files or names in `checkpoints/`; and the SHA-256 of every file.

    A recogniser is called by its file's stem, a checksum by its file name; by the whole path where two files agree.
    Raises UserError for what cannot be loaded, a file given twice, and a number of threads below 0.
    """
    chosen = select_device(device)
    set_threads(threads)
    embedders = [load_embedder(file, chosen) for file in edgeface]
    paths = [embedder.source.path for embedder in embedders]
    checksums = dict(zip(distinct_names(paths, suffix=True), [e.source.sha256 for e in embedders], strict=True))
    names = distinct_names(paths, suffix=False)
    chain = Chain(
        dict(zip(names, embedders, strict=True)),
        device=chosen,
        batch_size=batch_size,
        fingerprints={name: embedder.source.sha256 for name, embedder in zip(names, embedders, strict=True)},
    )
    if (file := dsr_file(dsr)) is not None:
        network, info = load_dsr(file, chosen)
        checksums[info.path.name if info.path.name not in checksums else str(info.path)] = info.sha256
        chain = replace(chain, dsr=network, dsr_fingerprint=info.sha256)
    return chain, checksums


def dsr_file(given: str) -> str | None:
    """The checkpoint that `--dsr` names; None for the word none, which leaves the DSR out."""
    return None if given.lower() == NO_DSR else given


def with_lpips(chain: Chain, backbone: Path | None = None) -> Chain:
    """The chain with LPIPS, if its backbone is at hand (see `dsr.losses.find_lpips_backbone`); else as it is.

    Raises UserError when the file given is missing or another network's.
    """
    file = find_lpips_backbone(backbone)
    if file is None:
        return chain
    return replace(chain, lpips=LpipsLoss(file).to(chain.device), lpips_fingerprint=sha256_of(file))


def check_settings(threshold: float, resamples: int, seed: int) -> None:
    """Refuse, before anything is computed, a threshold that is no cosine and negative numbers."""
    if not -1.0 <= threshold <= 1.0:
        raise UserError(f"--threshold {threshold}: expected a cosine, from -1 to 1.")
    if resamples < 0:
        raise UserError(f"--bootstrap {resamples}: expected 0 or more resamples.")
    if seed < 0:
        raise UserError(f"--seed {seed}: expected 0 or more.")


def set_threads(threads: int) -> None:
    """Let torch use this many CPU threads; 0 leaves it as it is."""
    if threads < 0:
        raise UserError(f"--threads {threads}: expected 0 or more.")
    if threads:
        torch.set_num_threads(threads)


def distinct_names(files: Sequence[Path], suffix: bool) -> list[str]:
    """A distinct name for each file: its own, with or without suffix; the whole path where two agree.

    Raises UserError when a file is given twice.
    """
    if twice := sorted({str(file) for file in files if files.count(file) > 1}):
        raise UserError(f"{', '.join(twice)} was given twice: name each weights file once.")
    short = [file.name if suffix else file.stem for file in files]
    return [name if short.count(name) == 1 else str(file) for name, file in zip(short, files, strict=True)]
