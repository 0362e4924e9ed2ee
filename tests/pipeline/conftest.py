"""Made-up faces and tiny networks for the tests of the chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.images import RgbImage, write_png
from dsr.checkpoint import save_dsr
from dsr.degradation import canonical_reduce
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from pipeline.degradations import to_tensor


def made_face(person: int, photo: int, size: int = 112) -> RgbImage:
    """A coarse pattern that is the person's, with noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (7, 7, 3)).repeat(16, 0).repeat(16, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 12, pattern.shape)
    face = (pattern + noise).clip(0, 255).astype(np.uint8)
    if size == 112:
        return face
    low = canonical_reduce(to_tensor([face]), size)[0]
    return (low * 255).round().byte().permute(1, 2, 0).numpy()


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A recogniser that works on made-up faces: mean colours of 7 x 7 cells around grey."""
    return torch.nn.functional.avg_pool2d(images - 0.5, 16).flatten(1)


@pytest.fixture
def face() -> Callable[..., RgbImage]:
    return made_face


@pytest.fixture
def recogniser() -> Callable[[torch.Tensor], torch.Tensor]:
    return pooled


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder per identity: P0 to P5 with three photos each, `P0/P0_0001.png`."""
    root = tmp_path / "people"
    for person in range(6):
        for photo in (1, 2, 3):
            write_png(root / f"P{person}" / f"P{person}_{photo:04d}.png", made_face(person, photo))
    return root


@pytest.fixture
def edgeface(tmp_path: Path) -> Path:
    """A tiny EdgeFace with random weights."""
    torch.manual_seed(0)
    path = tmp_path / "tiny_face.pt"
    torch.save(get_model("edgeface_tiny").state_dict(), path)
    return path


@pytest.fixture
def dsr(tmp_path: Path) -> Path:
    """A tiny DSR with random weights."""
    torch.manual_seed(1)
    path = tmp_path / "tiny_dsr.pt"
    save_dsr(path, Dsr(preset("tiny")), {"note": "random"})
    return path
