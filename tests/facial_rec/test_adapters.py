"""Low-rank adapters: no change at first, only they learn, and folding them in changes no bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from common.errors import UserError
from facial_rec.adapters import LowRankUpdate, add_adapters, merged_state
from facial_rec.edgeface import EdgeFace, get_model


def trained(network: EdgeFace, images: torch.Tensor) -> EdgeFace:
    """With adapters that are no longer zero."""
    add_adapters(network, rank=3)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        network(images).square().mean().backward()
        optimizer.step()
    return network


def test_a_fresh_adapter_changes_nothing(tiny: EdgeFace, images: torch.Tensor) -> None:
    before = tiny(images)
    names = add_adapters(tiny, rank=4)
    assert torch.equal(tiny(images), before)
    assert {"model.head.fc", "model.stages.1.blocks.1.xca.qkv"} <= set(names)
    assert "model.stages.1.blocks.1.pos_embd.token_projection" in names, "a 1 x 1 convolution"
    assert not any("conv_dw" in name or "stem" in name for name in names)


def test_only_adapters_learn(tiny: EdgeFace, images: torch.Tensor) -> None:
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    trained(tiny, images)
    learning = {name for name, parameter in tiny.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(name.endswith((".up", ".down")) for name in learning)
    state = tiny.state_dict()
    kept = {name.replace(".weight", ".parametrizations.weight.original"): name for name in before}
    for stored, name in kept.items():
        assert torch.equal(state[stored if stored in state else name], before[name])


def test_merging_is_exact_and_plain(tiny: EdgeFace, images: torch.Tensor) -> None:
    plain = get_model("edgeface_tiny").eval()
    before = tiny(images)
    network = trained(tiny, images)
    plain.load_state_dict(merged_state(network), strict=True)
    assert torch.equal(plain(images), network(images))
    assert not torch.equal(plain(images), before)


def test_merging_leaves_the_network_and_its_copies_alone(tiny: EdgeFace, images: torch.Tensor) -> None:
    network = trained(tiny, images)
    before = network(images)
    merged_state(copy.deepcopy(network))
    assert torch.equal(network(images), before)
    assert any("parametrizations" in name for name, _ in network.named_parameters())


def test_a_network_without_adapters_stays_as_it_is(tiny: EdgeFace) -> None:
    state = tiny.state_dict()
    assert merged_state(tiny).keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in merged_state(tiny).items())


def test_update_is_the_product_and_its_rank_fits_the_weight() -> None:
    weight = torch.randn(5, 4, 1, 1)
    update = LowRankUpdate(weight, rank=99, scale=0.5)
    assert update.down.shape == (4, 4)
    nn.init.normal_(update.up)
    expected = weight[:, :, 0, 0] + 0.5 * torch.einsum("or,ri->oi", update.up, update.down)
    torch.testing.assert_close(update(weight)[:, :, 0, 0], expected)


def test_rank_zero_is_refused(tiny: EdgeFace) -> None:
    with pytest.raises(UserError, match="needs a rank of at least 1, found 0"):
        add_adapters(tiny, rank=0)
