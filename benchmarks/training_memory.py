"""The GPU memory that training an EdgeFace from scratch needs, computed: network, activations, class head.

    python benchmarks/training_memory.py --variant edgeface_s_gamma_05 --batch-size 1024 --processes 8 \
        --identities 617970 --sampling 0.3

Weights, gradients and AdamW's two moments are four bytes each. Activations are counted: every tensor that autograd
keeps for the backward pass of two faces, under bfloat16 as on CUDA, once however often it is kept, times the faces of a
process. The head is `facial_rec.partial_fc.memory_needed`. Kernels' work space, DDP's buckets (the gradients once more)
and the allocator's fragmentation come on top: reserve a third more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common import cli
from common.errors import UserError
from facial_rec.edgeface import EMBEDDING_DIM, INPUT_SIZE, build, count_parameters, variant_named
from facial_rec.partial_fc import memory_needed
from facial_rec.tables import format_table

COUNTED = 2  # faces
GIB = 2**30


@dataclass(frozen=True)
class Config:
    """A training whose memory is wanted."""

    variant: str = "edgeface_s_gamma_05"
    """Network."""
    gamma: float | None = None
    """Rank ratio; none takes the variant's."""
    batch_size: int = 1024
    """Faces a step and process."""
    processes: int = 8
    """Processes, one a GPU."""
    identities: int = 617_970
    """People in the training set."""
    sampling: float = 0.3
    """Fraction of the class centres in a step."""
    precision: str = "bf16"
    """bf16 or fp32, of the network's activations."""


def main(cfg: Config) -> dict[str, int]:
    """Print the table, and return bytes a process by kind."""
    if cfg.precision not in ("bf16", "fp32") or min(cfg.batch_size, cfg.processes, cfg.identities) < 1:
        raise UserError("--precision is bf16 or fp32; --batch-size, --processes and --identities are at least 1.")
    network = build(variant_named(cfg.variant, cfg.gamma))
    head = memory_needed(cfg.identities, EMBEDDING_DIM, cfg.batch_size * cfg.processes, cfg.sampling, cfg.processes)
    found = {
        "weights, gradients, moments": 16 * count_parameters(network),
        "activations": cfg.batch_size * activations(network, cfg.precision) // COUNTED,
        **{f"head: {name}": count for name, count in head.items()},
    }
    rows = [[name, f"{count / GIB:.2f}"] for name, count in found.items()]
    print(format_table(["a GPU holds", "GiB"], [*rows, ["all", f"{sum(found.values()) / GIB:.2f}"]]))
    print(
        f"\n{cfg.variant}, {cfg.batch_size} faces on each of {cfg.processes} GPUs, {cfg.identities:,} identities, "
        f"sampling {cfg.sampling:g}, {cfg.precision}"
    )
    return found


def activations(network: torch.nn.Module, precision: str) -> int:
    """Bytes that autograd keeps for `COUNTED` faces, the parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in own:
            kept[storage] = tensor  # held, so that no other tensor comes to lie there
        return tensor

    faces = torch.zeros(COUNTED, 3, INPUT_SIZE, INPUT_SIZE)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        network.train()(faces)
    copies = {parameter.numel() for parameter in network.parameters()}  # bfloat16 copies of weights are no activations
    return sum(
        tensor.untyped_storage().nbytes()
        for tensor in kept.values()
        if not (tensor.dtype == torch.bfloat16 and tensor.shape[0] != COUNTED and tensor.numel() in copies)
    )


if __name__ == "__main__":
    cli.run(main, Config)
