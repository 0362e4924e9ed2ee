"""Covariances against numpy, the damping map against its formula, and the fold against the network it folds into."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import UserError
from facial_rec.edgeface import build, get_model, variant_named
from facial_rec.head_normalisation import (
    damping,
    folded,
    head_rank,
    mean_of_people,
    residual_covariance,
    within_covariance,
)


def random(rows: int, seed: int, dimensions: int = 6) -> torch.Tensor:
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


def unit(rows: torch.Tensor) -> np.ndarray:
    values = rows.double().numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_residual_covariance_is_that_of_the_differences() -> None:
    low, high = random(20, 0), random(20, 1)
    difference = unit(low) - unit(high)
    expected = sum(np.outer(row, row) for row in difference) / 20
    np.testing.assert_allclose(residual_covariance(low, high).numpy(), expected, atol=1e-12)


def test_within_covariance_is_around_each_persons_mean() -> None:
    rows, people = random(9, 2), torch.tensor([0, 0, 0, 3, 3, 1, -1, 3, 0])
    units, expected = unit(rows), np.zeros((6, 6))
    for person in (0, 3):  # 1 has a single photo, -1 is nobody
        own = units[people.numpy() == person]
        expected += (own - own.mean(0)).T @ (own - own.mean(0))
    np.testing.assert_allclose(within_covariance(rows, people).numpy(), expected / 7, atol=1e-12)
    with pytest.raises(UserError, match="nobody has two photos"):
        within_covariance(rows, torch.tensor([0, 1, 2, 3, -1, -1, 4, 5, 6]))


def test_every_person_counts_alike_in_the_mean() -> None:
    rows, people = random(5, 3), torch.tensor([0, 0, 2, -1, -1])
    parts = [rows[:2].mean(0), rows[2], rows[3], rows[4]]
    torch.testing.assert_close(mean_of_people(rows, people), torch.stack(parts).mean(0).double())


def test_damping_is_a_power_of_the_covariance() -> None:
    rows = random(50, 4).double()
    covariance = rows.T @ rows / 50
    inverse = torch.linalg.inv(covariance / (covariance.trace() / 6) + torch.eye(6))
    whole, half = damping(covariance, 1.0, rank=6), damping(covariance, 0.5, rank=6)
    torch.testing.assert_close(whole @ whole, inverse)
    torch.testing.assert_close(torch.linalg.matrix_power(half, 4), inverse)
    torch.testing.assert_close(damping(covariance, 0.0, rank=6), torch.eye(6).double())


def test_damping_shortens_what_varies_most_and_refuses_nothing_at_all() -> None:
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.0]))
    lengths = damping(covariance, 1.0, rank=2).diagonal()
    assert lengths[0] < lengths[1] < lengths[2] == 1.0
    with pytest.raises(UserError, match="do not vary at all"):
        damping(torch.zeros(3, 3), 1.0, rank=3)


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_the_folded_network_gives_the_mapped_embeddings(gamma: float | None) -> None:
    torch.manual_seed(0)
    network = get_model("edgeface_tiny") if gamma is None else build(variant_named("edgeface_tiny", gamma))
    network.eval().requires_grad_(False)
    images, matrix, offset = torch.rand(3, 3, 112, 112) * 2 - 1, random(512, 5, 512) / 22, random(1, 6, 512)[0]
    before = network(images)
    mapped = folded(network, matrix, offset)
    torch.testing.assert_close(mapped(images), (before - offset) @ matrix, atol=1e-4, rtol=1e-4)
    assert torch.equal(network(images), before), "the network given stays as it is"
    assert mapped.state_dict().keys() == network.state_dict().keys()
    assert head_rank(network) == (64 if gamma is None else 32)
