"""What a frozen DSR makes of true faces: reduced to a drawn size, then restored to 112 x 112.

For training a recogniser on DSR outputs, and for validating it on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsr.data import SizeChoice
from dsr.degradation import RealisticDegradation, canonical_reduce, round_to_8bit
from dsr.model import Dsr


class Restorer:
    """Reduce and restore `(B, 3, 112, 112)`, RGB in [0, 1]; the result is rounded to 8 bit, as evaluations embed it.

    `realistic` is the chance that a batch is degraded as by a far camera instead of by the canonical reduction.
    """

    def __init__(self, network: Dsr, sizes: SizeChoice, realistic: float = 0.0) -> None:
        self.network, self.sizes, self.realistic = network, sizes, realistic
        self.degradation = RealisticDegradation()

    @torch.no_grad()
    def draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The batch at one size drawn from the choice."""
        size = self.sizes.draw(generator)
        if self.realistic and float(torch.rand((), generator=generator)) < self.realistic:
            return round_to_8bit(self.network(self.degradation(images, size, generator)))
        return self.at(images, size)

    @torch.no_grad()
    def at(self, images: Tensor, size: int) -> Tensor:
        """The batch at `size`, canonically reduced."""
        return round_to_8bit(self.network(canonical_reduce(images, size)))
