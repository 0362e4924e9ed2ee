"""A small EdgeFace trained on the spot, for a demo on a machine that has no official weights.

It learns the synthetic people only, and is good for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from common.progress import progress_bar
from dsr.data import FaceReader, to_float
from dsr.degradation import MAX_SIZE, bicubic_enlarge, canonical_reduce
from dsr.training import augment, learning_rate
from facial_rec.edgeface import EMBEDDING_DIM, get_model, normalise
from facial_rec.faceset import FaceSet
from facial_rec.margin import CosFaceHead
from facial_rec.run_state import write_state
from facial_rec.seeds import mixed_seed

VARIANT = "edgeface_tiny"
SCALE, MARGIN = 32.0, 0.2  # gentler than for millions of faces: a few dozen classes are easily overfitted
CLEAR_SHARE = 0.7  # of the batches; the others are softened, so that the recogniser does not live on the finest detail


@dataclass(frozen=True)
class Schedule:
    """How long to train."""

    steps: int = 900
    batch_size: int = 32
    peak_rate: float = 2e-3
    warmup: int = 50


def train_demo_recogniser(train_root: Path, out: Path, schedule: Schedule, seed: int = 0) -> Path:
    """Train an `edgeface_tiny` to tell the people of `train_root` apart, write its state dict to `out`, return `out`.

    Raises UserError for a root with fewer than two people or an unreadable image.
    """
    faces = FaceSet(train_root)
    faces.require_identities(2)
    reader = FaceReader(faces)
    number = {subject: index for index, subject in enumerate(faces.subjects)}
    labels = torch.tensor([number[face.subject] for face in faces.faces])
    torch.manual_seed(seed)
    model, head = get_model(VARIANT), CosFaceHead(len(number), EMBEDDING_DIM, SCALE, MARGIN)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.peak_rate, weight_decay=0.05)
    model.train()
    with progress_bar(schedule.steps, "small EdgeFace", "step") as progress:
        for step in range(schedule.steps):
            generator = torch.Generator().manual_seed(mixed_seed(seed, step))
            chosen = torch.randint(len(reader), (schedule.batch_size,), generator=generator)
            images = _vary(to_float(reader.read(chosen.tolist())), generator)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, schedule.steps, schedule.peak_rate, schedule.warmup)
            loss = head(model(normalise(images)), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            progress.set_postfix_str(f"loss {float(loss.detach()):.3f}", refresh=False)
            progress.update()
    write_state(out, model.state_dict())
    return out


def _vary(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirroring, brightness, and now and then a lower resolution. `(B, 3, 112, 112)` in [0, 1]."""
    images = augment(images, generator)
    gain = 0.7 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=generator)
    images = (images * gain).clamp(0.0, 1.0)
    if float(torch.rand((), generator=generator)) < CLEAR_SHARE:
        return images
    size = int(torch.randint(40, MAX_SIZE + 1, (), generator=generator))
    return bicubic_enlarge(canonical_reduce(images, size))
