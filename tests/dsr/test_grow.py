"""dsr.grow: a larger network computes what the smaller one did, and learns with what is new."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from dsr.grow import grow
from dsr.model import PRESETS, Dsr, DsrConfig

TINY = PRESETS["tiny"]


def trained(config: DsrConfig = TINY) -> Dsr:
    torch.manual_seed(0)
    model = Dsr(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, channels=24), replace(TINY, blocks=3), DsrConfig(channels=40, blocks=4)]
)
def test_a_grown_network_computes_the_same(config: DsrConfig) -> None:
    small = trained()
    large = grow(small, config)
    assert large.config == config
    for size in (8, 16, 33):
        low = torch.rand(2, 3, size, size)
        assert torch.allclose(large.train()(low), small.train()(low), atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 3), (1, 1), (1, 2)])
def test_cells_grow_over_their_borders(before: int, after: int) -> None:
    small = trained(replace(TINY, overlap=before))
    large = grow(small, replace(TINY, channels=24, overlap=after))
    low = torch.rand(2, 3, 16, 16)
    assert torch.allclose(large.train()(low), small.train()(low), atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 2])
def test_what_is_new_learns(overlap: int) -> None:
    large = grow(trained(replace(TINY, overlap=0)), DsrConfig(channels=24, blocks=2, overlap=overlap))
    optimizer = torch.optim.SGD(large.parameters(), lr=1e-2)
    low, target = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 112, 112)
    before = {name: value.detach().clone() for name, value in large.named_parameters()}
    for _ in range(3):  # the first step reaches the weights that read new channels, the later ones what makes them
        optimizer.zero_grad()
        (large(low) - target).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = dict(large.named_parameters())
    new = (slice(None), slice(16, None)) if overlap == 0 else (slice(16, None),)
    assert not torch.equal(after["last.weight"][new], before["last.weight"][new])
    if overlap:
        assert not torch.equal(after["last.weight"][:16, :, :overlap], before["last.weight"][:16, :, :overlap])
    assert not torch.equal(after["stem.weight"][16:], before["stem.weight"][16:])
    assert not torch.equal(after["body.1.conv1.weight"], before["body.1.conv1.weight"])
    assert not torch.equal(after["body.1.conv2.weight"][:16], before["body.1.conv2.weight"][:16])


def test_a_block_more_at_the_same_width_learns() -> None:
    large = grow(trained(), replace(TINY, blocks=TINY.blocks + 1)).requires_grad_(True)
    optimizer = torch.optim.SGD(large.parameters(), lr=0.01)
    for _ in range(2):  # the first step moves its last layer, the second what comes before
        optimizer.zero_grad()
        large(torch.rand(2, 3, 16, 16)).square().mean().backward()
        optimizer.step()
    assert float(large.body[-1].conv1.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("change", [{"channels": 8}, {"blocks": 0}, {"cell": 14}, {"overlap": 1}])
def test_a_network_does_not_shrink(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"cannot grow into .* Choose a larger --preset"):
        grow(trained(), replace(TINY, **change))


def test_a_mirrored_network_does_not_grow_into_a_plain_one() -> None:
    mirrored = grow(trained(), replace(TINY, mirrored=True))
    assert grow(mirrored, replace(TINY, mirrored=True, channels=24)).config.mirrored
    with pytest.raises(UserError, match="give --preset mirrored, or start from the plain DSR"):
        grow(mirrored, replace(TINY, channels=24))
