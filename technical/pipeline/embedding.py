"""From image files to embeddings: each image is read once, and goes through each network once a view.

Views: `hr`, the image itself; `bicubic` and `dsr`, reduced and then enlarged to 112 x 112. What is embedded is always
rounded to 8 bit, as an image in a file is, so that no method gains from precision that another cannot have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.images import RgbImage
from common.progress import progress_bar
from facial_rec.metrics import Floats
from facial_rec.sources import ImageSource
from pipeline.cache import EmbeddingCache
from pipeline.chain import Chain, Vectors
from pipeline.degradations import View, reduce, to_tensor
from pipeline.entries import Entry, Table, entries_of

Item = TypeVar("Item")


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
    batches = [
        (group[start : start + chain.batch_size], entries)
        for entries, group in missing.items()
        for start in range(0, len(group), chain.batch_size)
    ]
    total = sum(len(batch) * len({entry.view for entry in entries}) for batch, entries in batches)
    with progress_bar(total, description, "image", show=total > 0) as progress:
        for (batch, entries), computed in _computed(chain, source, batches):
            table.add(batch, computed)
            table.keep(batch, entries)
            progress.update(len(batch) * len({entry.view for entry in entries}))
    return ImageEmbeddings(
        vectors={(entry.name, entry.view): table.rows(entry, names) for entry in table.values if entry.is_vector},
        quality={
            view: {e.name: table.rows(e, names) for e in table.values if e.view == view and not e.is_vector}
            for view in views
            if view.method != "hr"
        },
    )


_Batch = tuple[list[str], tuple[Entry, ...]]
_Numbers = dict[Entry, NDArray[Any]]


def _computed(chain: Chain, source: ImageSource, batches: Sequence[_Batch]) -> Iterator[tuple[_Batch, _Numbers]]:
    """Each batch with its numbers, in order. On the CPU every thread works on a batch of its own."""
    threads = torch.get_num_threads() if torch.device(chain.device).type == "cpu" else 1
    waiting: deque[tuple[_Batch, Future[_Numbers]]] = deque()
    with _one_thread_each(threads), ThreadPoolExecutor(threads) as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(_compute, chain, source, *batch)))
                if len(waiting) > threads:
                    done, numbers = waiting.popleft()
                    yield done, numbers.result()
            while waiting:
                done, numbers = waiting.popleft()
                yield done, numbers.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _one_thread_each(threads: int) -> Iterator[None]:
    """Small batches gain little from threads within an operation; they would only fight over the cores."""
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _compute(chain: Chain, source: ImageSource, names: Sequence[str], entries: Sequence[Entry]) -> _Numbers:
    """The wanted `entries` of a batch of images, `(B, D)` or `(B,)` each."""
    hr = to_tensor([source.read(name) for name in names]).to(chain.device)
    fingerprints = [source.fingerprint(name) for name in names]
    reduced: dict[tuple[Any, ...], Tensor] = {}
    numbers: _Numbers = {}
    for view in dict.fromkeys(entry.view for entry in entries):
        shown = hr
        if view.size is not None:
            how = (view.size, view.degradation, view.seed)
            if how not in reduced:
                reduced[how] = reduce(hr, fingerprints, *how)
            shown = chain.enlarge(view.method, reduced[how])
        numbers |= {entry: entry.compute(chain, shown, hr) for entry in entries if entry.view == view}
    return numbers


@torch.no_grad()
def embed_low(
    chain: Chain, read: Callable[[Item], RgbImage], items: Sequence[Item], description: str
) -> dict[tuple[str, str], Vectors]:
    """Embed files that are of low resolution already, by every method: `(N, D)` by (recogniser, `bicubic` or `dsr`).

    `read` gives the RGB uint8 `(n, n, 3)` pixels of an item; all are of one size.
    """
    parts: dict[tuple[str, str], list[Vectors]] = {}
    with progress_bar(len(items), description, "image") as progress:
        for start in range(0, len(items), chain.batch_size):
            low = to_tensor([read(item) for item in items[start : start + chain.batch_size]]).to(chain.device)
            for method in chain.low_methods:
                shown = chain.enlarge(method, low)
                for name in chain.embedders:
                    parts.setdefault((name, method), []).append(chain.embed(name, shown))
            progress.update(len(low))
    return {key: np.concatenate(rows) for key, rows in parts.items()}
