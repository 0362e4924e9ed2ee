"""The networks that images go through: recognisers, and the DSR before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from dsr.degradation import bicubic_enlarge, round_to_8bit
from dsr.losses import LpipsLoss
from facial_rec.faceset import HR_SIZE

Network = Callable[[Tensor], Tensor]
Vectors = NDArray[np.float32]

# On a CPU the activations of 64 images no longer fit its cache, and EdgeFace-XXS takes longer an image.
DEFAULT_BATCH = 32


@dataclass(frozen=True)
class Chain:
    """The networks that images go through."""

    embedders: Mapping[str, Network]
    """By name: RGB `(B, 3, 112, 112)` in [0, 1] -> embeddings `(B, D)` of any D, compared with cosine."""
    dsr: Network | None = None
    """`(B, 3, n, n)` in [0, 1] -> `(B, 3, 112, 112)`; None leaves the method `dsr` out."""
    device: torch.device | str = "cpu"
    batch_size: int = DEFAULT_BATCH
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each recogniser's file; what a recogniser without one computes is not cached."""
    dsr_fingerprint: str | None = None
    """SHA-256 of the DSR's file; without it nothing that went through the DSR is cached."""
    lpips: LpipsLoss | None = None
    """The perceptual distance, where its backbone is at hand; None leaves the figure out."""
    lpips_fingerprint: str | None = None

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
        if method == "bicubic":
            return bicubic_enlarge(low, HR_SIZE)
        if self.dsr is None:
            raise UserError("The method dsr needs a DSR, and none was loaded: give --dsr.")
        return round_to_8bit(self.dsr(low))

    def embed(self, recogniser: str, images: Tensor) -> Vectors:
        """Embeddings `(B, D)` of images `(B, 3, 112, 112)`. Raises UserError for NaN, infinities and another shape."""
        vectors = self.embedders[recogniser](images).detach().cpu().float().numpy()
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise UserError(f"{recogniser} gave {vectors.shape} for {len(images)} images, expected ({len(images)}, D).")
        if not np.isfinite(vectors).all():
            raise UserError(f"{recogniser} gave NaN or infinite embeddings. Are its weights damaged?")
        return vectors
