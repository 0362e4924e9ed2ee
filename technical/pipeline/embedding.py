"""From image files to embeddings: each image is read once, and embedded once by every recogniser for every method.

Methods: `hr`, the image itself; `bicubic` and `dsr`, a low-resolution image enlarged to 112 x 112. What is embedded is
always rounded to 8 bit, as an image in a file is, so that no method gains from precision that another cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.images import RgbImage
from common.progress import progress_bar
from dsr.quality import psnr, ssim
from facial_rec.metrics import Floats
from pipeline.cache import EmbeddingCache
from pipeline.chain import DEFAULT_BATCH, Chain, Network
from pipeline.degradations import SEVERITIES, Degradation, View, check_size, reduce, to_tensor
from pipeline.entries import Entry, Table, entries_of
from pipeline.sources import ImageSource

__all__ = ["DEFAULT_BATCH", "Chain", "Network", "View", "check_size", "to_tensor"]

Reduction = Degradation
Vectors = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Images on their way to the recognisers; at least one of the two is there."""

    hr: Tensor | None
    """`(B, 3, 112, 112)` in [0, 1]."""
    low: Tensor | None
    """`(B, 3, n, n)` in [0, 1], the same faces."""


@dataclass
class Embedded:
    """Embeddings and image quality, rows in the order the batches came."""

    vectors: dict[tuple[str, str], Floats] = field(default_factory=dict)
    """`(N, D)` by (recogniser, method)."""
    psnr: dict[str, Floats] = field(default_factory=dict)
    """`(N,)` dB against the HR image, by method; empty unless both resolutions were given."""
    ssim: dict[str, Floats] = field(default_factory=dict)
    """`(N,)`, likewise."""


@torch.no_grad()
def embed(chain: Chain, batches: Iterable[Batch], total: int, description: str) -> Embedded:
    """Embed `total` images, showing progress with rate and time left."""
    vectors: dict[tuple[str, str], list[Floats]] = {}
    quality: dict[tuple[str, str], list[Floats]] = {}
    with progress_bar(total, description, "image") as progress:
        for batch in batches:
            images = _by_method(chain, batch)
            for method, shown in images.items():
                for name, embedder in chain.embedders.items():
                    vectors.setdefault((name, method), []).append(_numpy(embedder(shown)))
                if batch.hr is not None and method != "hr":
                    quality.setdefault(("psnr", method), []).append(_numpy(psnr(shown, batch.hr)))
                    quality.setdefault(("ssim", method), []).append(_numpy(ssim(shown, batch.hr)))
            progress.update(len(next(iter(images.values()))))
    joined = {key: np.concatenate(parts) for key, parts in quality.items()}
    return Embedded(
        vectors={key: np.concatenate(parts) for key, parts in vectors.items()},
        psnr={method: values for (figure, method), values in joined.items() if figure == "psnr"},
        ssim={method: values for (figure, method), values in joined.items() if figure == "ssim"},
    )


def _by_method(chain: Chain, batch: Batch) -> dict[str, Tensor]:
    images = {} if batch.hr is None else {"hr": batch.hr}
    if batch.low is not None:
        images |= {method: chain.enlarge(method, batch.low) for method in chain.low_methods}
    return images


def _numpy(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


def hr_batches(
    chain: Chain,
    read: Callable[[Item], RgbImage],
    items: Sequence[Item],
    reduce: Callable[[Tensor], Tensor] | None = None,
    keep_hr: bool = True,
) -> Iterator[Batch]:
    """Batches of 112 x 112 images; `read` gives the pixels of an item.

    With `reduce` their low-resolution versions stand beside them; without `keep_hr` they stand alone.
    """
    for start in range(0, len(items), chain.batch_size):
        hr = to_tensor([read(item) for item in items[start : start + chain.batch_size]]).to(chain.device)
        yield Batch(hr if keep_hr else None, None if reduce is None else reduce(hr))


def low_batches(chain: Chain, read: Callable[[Item], RgbImage], items: Sequence[Item]) -> Iterator[Batch]:
    """Batches of low-resolution images, which must be of one size; `read` gives the pixels of an item."""
    for start in range(0, len(items), chain.batch_size):
        low = to_tensor([read(item) for item in items[start : start + chain.batch_size]])
        yield Batch(None, low.to(chain.device))


@dataclass(frozen=True)
class ImageEmbeddings:
    """Embeddings and image quality, row i belonging to the i-th name asked for."""

    vectors: dict[tuple[str, View], Vectors]
    """`(N, D)` by (recogniser, view)."""
    quality: dict[View, dict[str, Floats]]
    """`(N,)` against the HR image, by view (not `hr`): `psnr` in dB (infinite for equal images), `ssim`, `lpips`."""


def embed_images(
    chain: Chain,
    source: ImageSource,
    names: Sequence[str],
    views: Sequence[View],
    cache: EmbeddingCache | None = None,
    quality: bool = True,
    description: str = "embedding",
) -> ImageEmbeddings:
    """Embed every image in every view with every recogniser, showing progress with rate and time left.

    An image is reduced once for each size and degradation, and goes through the DSR once for all recognisers. With a
    `cache` an image is read only when something of it is missing there, and each batch is kept as soon as it is done,
    so a run that was stopped goes on where it was. Raises UserError for an image that cannot be read, a recogniser
    that gives NaN, and the method `dsr` without a DSR; for the cache see `EmbeddingCache`.
    """
    distinct = list(dict.fromkeys(names))
    table = Table(source, cache, {entry: entry.context(chain) for entry in entries_of(chain, views, quality)})
    table.recall(distinct)
    missing = table.missing(distinct)
    total = sum(len(group) * len({entry.view for entry in entries}) for entries, group in missing.items())
    with progress_bar(total, description, "image", show=total > 0) as progress:
        for entries, group in missing.items():
            for start in range(0, len(group), chain.batch_size):
                batch = group[start : start + chain.batch_size]
                for computed in _compute(chain, source, batch, entries):
                    table.add(batch, computed)
                    progress.update(len(batch))
                table.keep(batch, entries)
    return ImageEmbeddings(
        vectors={(entry.name, entry.view): table.rows(entry, names) for entry in table.values if entry.is_vector},
        quality={
            view: {e.name: table.rows(e, names) for e in table.values if e.view == view and not e.is_vector}
            for view in views
            if view.method != "hr"
        },
    )


@torch.no_grad()
def _compute(
    chain: Chain, source: ImageSource, names: Sequence[str], entries: Sequence[Entry]
) -> Iterator[dict[Entry, NDArray[Any]]]:
    """The wanted `entries` of a batch of images, `(B, D)` or `(B,)` each, view by view."""
    hr = to_tensor([source.read(name) for name in names]).to(chain.device)
    fingerprints = [source.fingerprint(name) for name in names]
    reduced: dict[tuple[Any, ...], Tensor] = {}
    for view in dict.fromkeys(entry.view for entry in entries):
        shown = hr
        if view.size is not None:
            how = (view.size, view.degradation, view.seed)
            if how not in reduced:
                reduced[how] = reduce(hr, fingerprints, *how)
            shown = chain.enlarge(view.method, reduced[how])
        yield {entry: entry.compute(chain, shown, hr) for entry in entries if entry.view == view}


def make_reducer(size: int, reduction: Degradation = "canonical") -> Callable[[Tensor], Tensor]:
    """The function that reduces `(B, 3, 112, 112)` to `(B, 3, size, size)`. UserError for a size out of range."""
    check_size(size, "--vlr-size")
    if reduction in SEVERITIES:
        raise UserError(f"--reduction {reduction} needs the image files: it is for embed_images.")
    return lambda images: reduce(images, [""] * len(images), size, reduction)
