"""facial_rec.operations: counts by hand, by torch's own counter, and the authors' figures."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facial_rec.edgeface import get_model
from facial_rec.operations import AUTHORS_MFLOPS, count_macs


def test_counts_by_hand() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
            self.dense = nn.Conv2d(6, 4, 1)
            self.linear = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.dense(self.grouped(x)).mean(dim=(2, 3)))

    counts = count_macs(Network(), size=8)
    assert counts == {"convolutions": 6 * 16 * 1 * 9 + 4 * 16 * 6, "linear": 20, "attention": 0}


@pytest.mark.parametrize("name", ["edgeface_tiny", "edgeface_xs_gamma_06"])
def test_torchs_own_counter_agrees(name: str) -> None:
    network = get_model(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 112, 112))
    counts = count_macs(network)
    assert 2 * sum(counts.values()) == counter.get_total_flops()
    assert all(counts.values())


@pytest.mark.parametrize("name", AUTHORS_MFLOPS)
def test_the_authors_figures_within_two_percent(name: str) -> None:
    flops = 2 * sum(count_macs(get_model(name)).values())
    assert flops / 1e6 == pytest.approx(AUTHORS_MFLOPS[name], rel=0.02)
    assert flops / 1e6 == pytest.approx(AUTHORS_MFLOPS[name], rel=0.002)


def test_the_network_is_left_as_it_was() -> None:
    network = get_model("edgeface_tiny").train()
    count_macs(network)
    assert network.training
    assert not any(layer._forward_hooks for layer in network.modules())
