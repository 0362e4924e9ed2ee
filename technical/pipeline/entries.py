"""What is computed of an image, and the table that holds it: filled from the cache first, then by the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import cv2
import kornia
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from dsr.quality import lpips_distance, psnr, ssim
from facial_rec.metrics import Floats
from facial_rec.sources import ImageSource
from pipeline.cache import EmbeddingCache, Vector, key_of
from pipeline.chain import Chain
from pipeline.degradations import SEVERITIES, View

# Raised whenever the same image and weights would give other numbers than before: old entries are then not found.
CODE_VERSION = 1
# The libraries whose arithmetic the numbers come from.
_LIBRARIES = (
    *(f"{module.__name__} {module.__version__}" for module in (torch, kornia, cv2, PIL)),
    *(f"{name} {version(name)}" for name in ("timm", "onnxruntime", "lpips", "torchvision")),
)


@dataclass(frozen=True)
class Entry:
    """One thing to know of an image: an embedding of a view, or a figure of its quality."""

    view: View
    name: str
    """The recogniser of an embedding; `psnr`, `ssim` or `lpips`."""
    is_vector: bool

    def compute(self, chain: Chain, shown: Tensor, hr: Tensor) -> NDArray[Any]:
        """The entry of a batch: embeddings `(B, D)` in float32, or figures `(B,)`.

        `shown` is the view and `hr` the image itself, both `(B, 3, 112, 112)`.
        """
        if self.is_vector:
            return chain.embed(self.name, shown)
        if self.name == "lpips":
            assert chain.lpips is not None
            return _numpy(lpips_distance(chain.lpips, shown, hr))
        return _numpy({"psnr": psnr, "ssim": ssim}[self.name](shown, hr))

    def context(self, chain: Chain) -> str | None:
        """All that the entry depends on besides the image; None when that cannot be said, so it is not cached."""
        parts = [str(CODE_VERSION), *_LIBRARIES, torch.device(chain.device).type, *_words(self.view)]
        known: list[str | None] = ["vector" if self.is_vector else self.name]
        if self.is_vector:
            known.append(chain.fingerprints.get(self.name))
        elif self.name == "lpips":
            known.append(chain.lpips_fingerprint)
        if self.view.method == "dsr":
            known.append(chain.dsr_fingerprint)
        return None if None in known else "\n".join([*parts, *map(str, known)])


def entries_of(chain: Chain, views: Sequence[View], quality: bool) -> list[Entry]:
    """The embeddings of every recogniser in every view and, if wanted, the quality of the views that are not `hr`."""
    figures = ("psnr", "ssim") if chain.lpips is None else ("psnr", "ssim", "lpips")
    entries = []
    for view in dict.fromkeys(views):
        entries += [Entry(view, name, True) for name in chain.embedders]
        if quality and view.method != "hr":
            entries += [Entry(view, name, False) for name in figures]
    return entries


def _words(view: View) -> list[str]:
    seed = view.seed if view.degradation in SEVERITIES else 0  # the others draw nothing
    return [view.method, str(view.size), view.degradation, str(seed)]


def _numpy(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


class Table:
    """The entries of a source's images, by entry and image name."""

    def __init__(self, source: ImageSource, cache: EmbeddingCache | None, contexts: Mapping[Entry, str | None]) -> None:
        self.source, self.cache = source, cache
        self.values: dict[Entry, dict[str, Any]] = {entry: {} for entry in contexts}
        self._contexts = contexts

    def recall(self, names: Sequence[str]) -> None:
        """Take from the cache what is there."""
        if self.cache is None:
            return
        for entry, values in self.values.items():
            if self._contexts[entry] is None:  # it is not cached
                continue
            keys = self._keys(entry, names)
            found = self.cache.vectors(keys) if entry.is_vector else self.cache.figures(keys)
            values.update({name: found[key] for name, key in zip(names, keys, strict=True) if key in found})

    def missing(self, names: Sequence[str]) -> dict[tuple[Entry, ...], list[str]]:
        """The images by what is missing of them, so that each batch can be full and do the same for all."""
        groups: dict[tuple[Entry, ...], list[str]] = {}
        for name in names:
            lacking = tuple(entry for entry, values in self.values.items() if name not in values)
            if lacking:
                groups.setdefault(lacking, []).append(name)
        return groups

    def add(self, names: Sequence[str], computed: Mapping[Entry, NDArray[Any]]) -> None:
        """Put in entries of `names`, row i for name i."""
        for entry, rows in computed.items():
            self.values[entry].update(zip(names, rows, strict=True))

    def keep(self, names: Sequence[str], entries: Sequence[Entry]) -> None:
        """Store in the cache these entries of these images."""
        if self.cache is None:
            return
        vectors: dict[bytes, Vector] = {}
        figures: dict[bytes, float] = {}
        for entry in entries:
            if self._contexts[entry] is None:
                continue
            target: dict[bytes, Any] = vectors if entry.is_vector else figures
            values = self.values[entry]
            target.update({key: values[name] for key, name in zip(self._keys(entry, names), names, strict=True)})
        self.cache.store(vectors, figures)

    def rows(self, entry: Entry, names: Sequence[str]) -> NDArray[Any]:
        """`(N, D)` or `(N,)`, row i for name i. Raises UserError for embeddings of different lengths."""
        values = self.values[entry]
        rows = [values[name] for name in names]
        if entry.is_vector and len(lengths := {len(row) for row in rows}) > 1:
            where = "" if self.cache is None else f" Delete {self.cache.path}: all in it can be computed again."
            raise UserError(f"{entry.name} has embeddings of different lengths: {sorted(lengths)}.{where}")
        return np.stack(rows) if entry.is_vector else np.array(rows, dtype=np.float64)

    def _keys(self, entry: Entry, names: Sequence[str]) -> list[bytes]:
        """A key a name, for an entry that is cached."""
        context = self._contexts[entry]
        assert context is not None
        return [key_of(context, self.source.fingerprint(name)) for name in names]
