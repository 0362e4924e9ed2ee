"""Random draws that depend on named numbers only, so that a run can be repeated, shared out and resumed."""

from __future__ import annotations

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """One well-mixed 63-bit seed from several small numbers (seed, epoch, step, rank)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """A permutation of `range(count)` that depends on `seed` and `epoch` only."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(count, generator=generator).tolist()
