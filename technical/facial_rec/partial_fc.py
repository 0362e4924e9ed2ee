"""Partial FC: a margin softmax over very many identities, with class centres sampled and shared out over processes.

X. An et al., "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial FC",
CVPR 2022, https://arxiv.org/abs/2203.15565. Every process holds the centres of its share of the classes. In each step
it takes the classes that are in the batch, and of the others as many, at random, as make up the sampling rate; the
softmax runs over the sampled classes of all processes. At a sampling rate of 1 that is the full softmax, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from facial_rec.distributed import Place, gathered, gathered_with_gradient, highest, summed
from facial_rec.margin import SCALE, OwnCosine
from facial_rec.seeds import mixed_seed

_BLOCK = 16_384  # centres that are drawn or updated together: what is needed beside them stays small


@dataclass(frozen=True)
class AdamW:
    """Settings of the centres' optimiser (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""

    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


class PartialFC(nn.Module):
    """Class centres of `classes` people, this process's share of them, with the state of their optimiser.

    `forward` gives the loss, `update` moves the sampled centres after the backward pass. A centre that is not sampled
    stays as it is, its moments too. Raises UserError for a sampling rate outside (0, 1] and for fewer classes than
    processes.
    """

    centres: Tensor
    first_moment: Tensor
    second_moment: Tensor
    updates: Tensor

    def __init__(
        self,
        classes: int,
        dimensions: int,
        own: OwnCosine,
        scale: float = SCALE,
        sampling: float = 1.0,
        place: Place | None = None,
        seed: int = 0,
        optimiser: AdamW | None = None,
    ) -> None:
        super().__init__()
        self.place = place or Place(torch.device("cpu"))
        if not 0.0 < sampling <= 1.0:
            raise UserError(f"--sampling {sampling:g}: expected a fraction above 0, up to 1.")
        if classes < self.place.world:
            raise UserError(f"{classes} people cannot be shared by {self.place.world} processes: use fewer.")
        self.own, self.scale, self.sampling, self.seed = own, scale, sampling, seed
        self.optimiser = optimiser or AdamW()
        self.first = classes * self.place.rank // self.place.world
        self.count = classes * (self.place.rank + 1) // self.place.world - self.first
        self.register_buffer("centres", _drawn_centres(self.first, self.count, dimensions, seed, self.place.device))
        self.register_buffer("first_moment", torch.zeros_like(self.centres))
        self.register_buffer("second_moment", torch.zeros_like(self.centres))
        self.register_buffer("updates", torch.zeros(self.count, device=self.place.device))
        self._rows: Tensor | None = None
        self._active: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor, step: int = 0) -> Tensor:
        """The mean loss over the faces of all processes: a scalar, equal in each of them.

        `embeddings` `(B, D)` and `labels` `(B,)` are this process's, as many in each. Sampling depends on `step`.
        Gradients are for a network under DistributedDataParallel, see `gathered_with_gradient`.
        """
        everyone = gathered(labels, self.place) - self.first
        is_here = (everyone >= 0) & (everyone < self.count)
        self._rows = self._sample(everyone[is_here], step)
        self._active = (self.centres if self._rows is None else self.centres[self._rows]).detach().requires_grad_(True)
        columns = everyone if self._rows is None else torch.searchsorted(self._rows, everyone)
        columns = torch.where(is_here, columns, -1)
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(gathered_with_gradient(embeddings.to(self.centres.dtype), self.place))
            return _ShardedMarginSoftmax.apply(
                unit, F.normalize(self._active), columns, self.own, self.scale, self.place
            )

    def _sample(self, present: Tensor, step: int) -> Tensor | None:
        """The rows that take part, rising: those of `present` and random others. None when all do."""
        wanted = max(1, round(self.sampling * self.count))
        if self.sampling >= 1.0 or wanted >= self.count:
            return None
        present = present.unique()
        generator = torch.Generator(self.place.device).manual_seed(mixed_seed(self.seed, step, self.place.rank, 3))
        order = torch.rand(self.count, generator=generator, device=self.place.device)
        order[present] = 2.0  # before all others
        return order.topk(max(wanted, len(present))).indices.sort().values

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One AdamW step, with this learning rate, of the centres of the last `forward`, after its backward pass."""
        if self._active is None or self._active.grad is None:
            raise RuntimeError("update: forward and backward come first")
        rows = torch.arange(self.count, device=self.centres.device) if self._rows is None else self._rows
        for chosen, gradient in zip(rows.split(_BLOCK), self._active.grad.split(_BLOCK), strict=True):
            self._update(chosen, gradient, rate)
        self._rows = self._active = None

    def _update(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        with_ = self.optimiser
        updates = self.updates[rows] + 1
        first = self.first_moment[rows].lerp_(gradient, 1 - with_.beta1)
        second = self.second_moment[rows].mul_(with_.beta2).addcmul_(gradient, gradient, value=1 - with_.beta2)
        centres = self.centres[rows].mul_(1 - rate * with_.weight_decay)
        size = (second / (1 - with_.beta2**updates)[:, None]).sqrt_().add_(with_.eps)
        centres -= rate * (first / (1 - with_.beta1**updates)[:, None]) / size
        self.updates[rows], self.first_moment[rows], self.second_moment[rows] = updates, first, second
        self.centres[rows] = centres


def memory_needed(
    classes: int, dimensions: int, faces: int, sampling: float = 1.0, processes: int = 1
) -> dict[str, int]:
    """Bytes that `PartialFC` needs in each process, in float32; `faces` are those of a step in all processes.

    `centres`: they and the optimiser's two moments. `sampled`: a copy of the sampled ones, the same at unit length, and
    two gradients; where all are sampled no copy is made. `logits`: a number for each face and sampled class.
    """
    share = -(-classes // processes)
    chosen = share if sampling >= 1.0 else round(sampling * share)
    arrays = 3 if sampling >= 1.0 else 4
    return {
        "centres": 3 * 4 * share * dimensions,
        "sampled": arrays * 4 * chosen * dimensions,
        "logits": 4 * chosen * faces,
    }


def _drawn_centres(first: int, count: int, dimensions: int, seed: int, device: torch.device) -> Tensor:
    """Centres `(count, D)` of the classes from `first` on, normal with standard deviation 0.01.

    Drawn in blocks with seeds of their own, so that a class starts from the same centre in any number of processes.
    """
    centres = torch.empty(count, dimensions, device=device)
    for block in range(first // _BLOCK, (first + count - 1) // _BLOCK + 1):
        generator = torch.Generator().manual_seed(mixed_seed(seed, block, 11))
        drawn = torch.randn(_BLOCK, dimensions, generator=generator) * 0.01
        start, end = max(first, block * _BLOCK), min(first + count, (block + 1) * _BLOCK)
        centres[start - first : end - first] = drawn[start - block * _BLOCK : end - block * _BLOCK]
    return centres


class _ShardedMarginSoftmax(torch.autograd.Function):
    """Mean margin-softmax loss over classes that are spread over processes, in the memory of one `(B, C)` array.

    From unit embeddings `(B, D)`, equal everywhere, this process's unit centres `(C, D)`, and the column of each own
    class, -1 where another process has it. The gradients are those of this process's columns; one backward pass only,
    as it writes over what the forward pass kept.
    """

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, centres: Tensor, columns: Tensor, own: OwnCosine, scale: float, place: Place
    ) -> Tensor:
        logits = unit @ centres.T
        here = (columns >= 0).nonzero()[:, 0]
        mine = columns[here]
        with torch.enable_grad():
            cosine = logits[here, mine].requires_grad_(True)
            harder = own(cosine)
            (slope,) = torch.autograd.grad(harder.sum(), cosine)
        logits[here, mine] = harder.detach()
        logits *= scale
        logits -= highest(logits.amax(dim=1), place)[:, None]
        target = unit.new_zeros(len(unit))
        target[here] = logits[here, mine]
        target = summed(target, place)
        total = summed(logits.exp_().sum(dim=1), place)
        logits /= total[:, None]  # by now the probabilities
        ctx.save_for_backward(unit, centres, logits, here, mine, slope)
        ctx.scale, ctx.spent = scale, False
        return (total.log() - target).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.spent:
            raise RuntimeError("a second backward pass: call forward again")
        ctx.spent = True
        unit, centres, errors, here, mine, slope = ctx.saved_tensors
        errors[here, mine] = (errors[here, mine] - 1.0) * slope
        errors *= gradients[0] * ctx.scale / len(unit)
        return errors @ centres, errors.T @ unit, None, None, None, None
