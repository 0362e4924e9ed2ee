"""From image files to embeddings: each image is read once, and embedded once by every recogniser for every method.

Methods: `hr`, the image itself; `bicubic` and `dsr`, a low-resolution image enlarged to 112 x 112. What is embedded is
always rounded to 8 bit, as an image in a file is, so that no method gains from precision that another cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.images import RgbImage
from common.progress import progress_bar
from dsr.degradation import bicubic_enlarge, round_to_8bit
from dsr.quality import psnr, ssim
from facial_rec.faceset import HR_SIZE
from pipeline.degradations import Degradation, check_size, reduce, to_tensor

Network = Callable[[Tensor], Tensor]
Reduction = Degradation
Floats = NDArray[np.float64]
Item = TypeVar("Item")

DEFAULT_BATCH = 64


@dataclass(frozen=True)
class Chain:
    """The networks that images go through."""

    embedders: Mapping[str, Network]
    """By name: RGB `(B, 3, 112, 112)` in [0, 1] -> embeddings `(B, D)` of any D, compared with cosine."""
    dsr: Network | None = None
    """`(B, 3, n, n)` in [0, 1] -> `(B, 3, 112, 112)`; None leaves the method `dsr` out."""
    device: torch.device | str = "cpu"
    batch_size: int = DEFAULT_BATCH

    def __post_init__(self) -> None:
        if not self.embedders:
            raise UserError("No recogniser was given: --edgeface names at least one.")
        if self.batch_size < 1:
            raise UserError(f"--batch-size {self.batch_size}: expected at least 1.")

    @property
    def low_methods(self) -> tuple[str, ...]:
        """The ways a low-resolution image is enlarged, the baseline first."""
        return ("bicubic",) if self.dsr is None else ("bicubic", "dsr")

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, in the order tables show them."""
        return ("hr", *self.low_methods)

    def enlarge(self, method: str, low: Tensor) -> Tensor:
        """`(B, 3, n, n)` -> `(B, 3, 112, 112)` with `bicubic` or `dsr`, rounded to 8 bit."""
        if method == "dsr" and self.dsr is not None:
            return round_to_8bit(self.dsr(low))
        return bicubic_enlarge(low, HR_SIZE)


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


def make_reducer(size: int, reduction: Degradation = "canonical") -> Callable[[Tensor], Tensor]:
    """The function that reduces `(B, 3, 112, 112)` to `(B, 3, size, size)`. UserError for a size out of range."""
    check_size(size, "--vlr-size")
    return lambda images: reduce(images, [""] * len(images), size, reduction)
