"""Learning rates by depth: the head's is the whole, each layer below takes its share, and nothing is left out."""

from __future__ import annotations

import pytest

from facial_rec.adapters import add_adapters
from facial_rec.edgeface import EdgeFace, get_model
from facial_rec.layer_rates import layer_depth, parameter_groups


def rates(network: EdgeFace, decay: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, 0.1, decay, 0.01)
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_every_parameter_is_in_one_group() -> None:
    network = get_model("edgeface_tiny")
    groups = parameter_groups(network, 0.1, 0.5, 0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert len(rates(network, 0.5)) == len(list(network.parameters()))


def test_rates_fall_from_head_to_stem() -> None:
    found = rates(get_model("edgeface_tiny"), 0.5)  # depths 1, 2, 2, 2: layers 0 to 8
    assert found["model.head.fc.weight"] == pytest.approx(0.1)
    assert found["model.stages.3.blocks.1.gamma"] == pytest.approx(0.1 / 2)
    assert found["model.stages.3.blocks.0.gamma"] == found["model.stages.3.downsample.1.weight"] == 0.1 / 4
    assert found["model.stages.0.blocks.0.gamma"] == pytest.approx(0.1 * 0.5**7)
    assert found["model.stem.0.weight"] == pytest.approx(0.1 * 0.5**8)


def test_without_decay_all_learn_alike() -> None:
    assert set(rates(get_model("edgeface_tiny"), 1.0).values()) == {0.1}


def test_only_matrices_and_kernels_decay() -> None:
    for group in parameter_groups(get_model("edgeface_tiny"), 0.1, 0.9, 0.01):
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
        assert group["lr"] == pytest.approx(0.1 * group["scale"])


def test_adapters_have_the_depth_of_their_layer() -> None:
    network = get_model("edgeface_tiny")
    add_adapters(network, 2)
    found = rates(network, 0.5)
    assert len(found) == len([p for p in network.parameters() if p.requires_grad])
    assert found["model.head.fc.parametrizations.weight.0.up"] == pytest.approx(0.1)
    assert found["model.stages.0.blocks.0.mlp.fc1.parametrizations.weight.0.up"] == pytest.approx(0.1 * 0.5**7)


def test_depth_of_published_sizes() -> None:
    depths = (3, 3, 9, 3)
    last = max(layer_depth(name, depths) for name, _ in get_model("edgeface_s_gamma_05").named_parameters())
    assert last == layer_depth("model.head.norm.weight", depths) == 19
