"""Several teachers in one space: the rotation against an independent implementation, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from torch import nn

from common.errors import UserError
from facial_rec.embedder import Embedder, Source
from facial_rec.finetune_teachers import JointTeacher, joint_teacher, rotation_between


def rows(count: int, length: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(values)


def orthogonal(length: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(length, length, generator=torch.Generator().manual_seed(seed)))[0]


class Pooled(nn.Module):
    """Block means, turned and scaled."""

    def __init__(self, turn: torch.Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.turn, self.scale = nn.Parameter(turn), scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) @ self.turn


def embedder(turn: torch.Tensor, scale: float = 1.0) -> Embedder:
    return Embedder(Pooled(turn, scale), Source(Path("other.pt"), "0" * 64, "state_dict", "unknown"))


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (64, 3, 112, 112), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_rotation_is_scipys() -> None:
    sources, targets = rows(60, 8), rows(60, 8, seed=1)
    expected, _ = orthogonal_procrustes(sources.numpy(), targets.numpy())
    torch.testing.assert_close(rotation_between(sources, targets), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_rotation_finds_a_turn_and_keeps_every_cosine() -> None:
    sources, turn = rows(60, 8), orthogonal(8, 3)
    found = rotation_between(sources, sources @ turn)
    torch.testing.assert_close(found, turn, atol=1e-5, rtol=0)
    turned = sources @ rotation_between(sources, rows(60, 8, seed=5))
    torch.testing.assert_close(turned @ turned.T, sources @ sources.T, atol=1e-5, rtol=0)


def test_a_turned_copy_of_the_original_changes_nothing(pixels: torch.Tensor) -> None:
    original = embedder(torch.eye(12))

    def read(indices: Sequence[int]) -> torch.Tensor:
        return pixels[torch.as_tensor(indices)]

    joint = joint_teacher(original, [embedder(orthogonal(12, 1), scale=7.0)], read, len(pixels))
    images = pixels.float() / 255
    torch.testing.assert_close(joint(images), nn.functional.normalize(original(images)), atol=1e-5, rtol=0)
    assert not any(parameter.requires_grad for parameter in joint.parameters())


def test_every_teacher_counts_alike_whatever_the_length_of_its_embeddings(pixels: torch.Tensor) -> None:
    images = pixels.float() / 255
    one, other = embedder(torch.eye(12)), embedder(orthogonal(12, 2), scale=50.0)
    rotation = orthogonal(12, 4)
    joint = JointTeacher(one, [other], [rotation])(images)
    first, second = nn.functional.normalize(one(images)), nn.functional.normalize(other(images)) @ rotation
    torch.testing.assert_close((joint * first).sum(1), (joint * second).sum(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(joint.norm(dim=1), torch.ones(len(joint)), atol=1e-5, rtol=0)


def test_without_others_the_original_teaches(pixels: torch.Tensor) -> None:
    original = embedder(torch.eye(12))
    assert joint_teacher(original, [], lambda rows: pixels, len(pixels)) is original


def test_embeddings_of_another_length_are_refused(pixels: torch.Tensor) -> None:
    other = embedder(torch.eye(12)[:, :5])
    with pytest.raises(UserError, match=r"--teachers other\.pt gives embeddings of 5 numbers and --edgeface 12"):
        joint_teacher(embedder(torch.eye(12)), [other], lambda rows: pixels[torch.as_tensor(rows)], len(pixels))
