"""How fast the DSR trains here, for `pipeline.benchmark`."""

from __future__ import annotations

import torch

from dsr.data import SizeChoice
from dsr.losses import DsrLoss
from dsr.model import Dsr, preset
from dsr.training import RunState, average_of, reduce_batch, reduction_named, train_step
from facial_rec.distributed import Place
from facial_rec.embedder import load_embedder
from facial_rec.timing import seconds_of

NOT_COUNTED = 2  # steps at the start


def training_rate(edgeface: str, batch_size: int, steps: int, device: torch.device) -> float:
    """Faces a second of whole training steps of the default DSR with the identity loss, sizes 8 to 64."""
    embedder = load_embedder(edgeface, device)
    model = Dsr(preset("default")).to(device).to(memory_format=torch.channels_last)
    state = RunState(model, model, average_of(model, 0.999), torch.optim.AdamW(model.parameters(), lr=1e-4))
    loss, place = DsrLoss(embedder), Place(device)
    sizes, reduction = SizeChoice.parse(["8-64"]), reduction_named("canonical")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch_size, 3, 112, 112), dtype=torch.uint8, generator=generator)

    def step() -> None:
        high, low = reduce_batch(pixels, generator, sizes, reduction, place.device)
        train_step(state, loss, high, low, 1e-4, mixed_precision=device.type == "cuda")

    for _ in range(NOT_COUNTED):
        step()
    return batch_size * steps / sum(seconds_of(step, device) for _ in range(steps))
