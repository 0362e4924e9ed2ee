"""The moving average against its recurrence, and the mixture of two networks at its ends and between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import UserError
from facial_rec.weight_average import WeightAverage, interpolate


def test_average_follows_its_recurrence() -> None:
    network = nn.Linear(2, 1, bias=False)
    average, expected = WeightAverage(network, decay=0.5), network.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            network.weight.copy_(torch.tensor([[float(step), 1.0]]))
        average.update(network)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * network.weight.detach()
    average.copy_to(network)
    torch.testing.assert_close(network.weight.detach(), expected)


def test_frozen_weights_are_not_averaged() -> None:
    network = nn.Linear(2, 1)
    network.weight.requires_grad_(False)
    assert WeightAverage(network, 0.9).values.keys() == {"bias"}


def test_average_goes_on_from_its_state() -> None:
    network = nn.Linear(3, 2)
    one = WeightAverage(network, 0.9)
    one.update(network)
    other = WeightAverage(nn.Linear(3, 2), 0.9)
    other.load_state_dict(one.state_dict())
    assert other.updates == 1
    assert all(torch.equal(other.values[name], value) for name, value in one.values.items())


def test_average_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="average is another network's"):
        WeightAverage(nn.Linear(3, 2), 0.9).load_state_dict(
            WeightAverage(nn.Linear(3, 2, bias=False), 0.9).state_dict()
        )


def test_ends_of_a_mixture_are_exact() -> None:
    first, second = ({"a": torch.randn(7), "n": torch.tensor(n)} for n in (1, 2))
    assert torch.equal(interpolate(first, second, 0.0)["a"], first["a"])
    assert torch.equal(interpolate(first, second, 1.0)["a"], second["a"])
    assert int(interpolate(first, second, 0.5)["n"]) == 2


def test_mixture_is_the_formula() -> None:
    first, second = {"a": torch.randn(7)}, {"a": torch.randn(7)}
    torch.testing.assert_close(interpolate(first, second, 0.3)["a"], 0.7 * first["a"] + 0.3 * second["a"])


def test_bad_mixtures_are_refused() -> None:
    state = {"a": torch.zeros(1)}
    with pytest.raises(UserError, match=r"alpha from 0 to 1, found 1\.5"):
        interpolate(state, state, 1.5)
    with pytest.raises(UserError, match="they differ in b"):
        interpolate(state, {**state, "b": torch.zeros(1)}, 0.5)
