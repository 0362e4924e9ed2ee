"""CosFace against its formula written out, and a head that learns."""

from __future__ import annotations

import math

import pytest
import torch

from facial_rec.margin import CosFaceHead, cosface_logits


def test_cosface_loss_is_equation_4_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    head = CosFaceHead(classes=5, dimensions=8, scale=10.0, margin=0.35)
    embeddings, labels = torch.randn(4, 8, generator=generator), torch.tensor([0, 3, 3, 4])
    expected = 0.0
    for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        cosines = []
        for centre in head.centres.tolist():
            dot = sum(a * b for a, b in zip(row, centre, strict=True))
            cosines.append(dot / math.hypot(*row) / math.hypot(*centre))
        own = math.exp(10.0 * (cosines[label] - 0.35))
        others = sum(math.exp(10.0 * c) for index, c in enumerate(cosines) if index != label)
        expected -= math.log(own / (own + others)) / 4
    assert float(head(embeddings, labels).detach()) == pytest.approx(expected, rel=1e-5)


def test_margin_lowers_the_own_class_only() -> None:
    cosine = torch.tensor([[0.5, -0.2, 0.1]])
    logits = cosface_logits(cosine, torch.tensor([1]), scale=2.0, margin=0.4)
    torch.testing.assert_close(logits, torch.tensor([[1.0, -1.2, 0.2]]))


def test_ten_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    head = CosFaceHead(classes=3, dimensions=6)
    embeddings, labels = torch.randn(9, 6), torch.arange(9) % 3
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        loss = head(embeddings, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
