"""EdgeFace's architecture: sizes as published, the rank rule, and equality with timm's own EdgeNeXt."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from common.errors import UserError
from facial_rec.edgeface import (
    VARIANTS,
    EdgeFace,
    FixedPositions,
    LoRaLin,
    build,
    count_parameters,
    fix_positions,
    get_model,
    linear_layers,
    low_rank,
    normalise,
    replace_linears,
    same_shapes,
    variant_named,
)

PUBLISHED_PARAMETERS = {
    "edgeface_base": 18_225_812,
    "edgeface_s_gamma_05": 3_652_520,
    "edgeface_xs_gamma_06": 1_770_492,
    "edgeface_xs_q": 2_242_620,
    "edgeface_xxs": 1_244_744,
    "edgeface_xxs_q": 1_244_744,
}
TIMM_NAMES = {
    "edgeface_base": "edgenext_base",
    "edgeface_xs_q": "edgenext_x_small",
    "edgeface_xxs": "edgenext_xx_small",
}


def on_meta(name: str) -> EdgeFace:
    """The network without memory for its weights: quick to build."""
    with torch.device("meta"):
        return get_model(name)


def test_every_published_variant_is_known() -> None:
    assert VARIANTS.keys() == PUBLISHED_PARAMETERS.keys() | {"edgeface_tiny"}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED_PARAMETERS.items())
def test_parameter_count_is_the_published_one(name: str, parameters: int) -> None:
    assert count_parameters(on_meta(name)) == parameters


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.gamma == 1.0])
def test_gamma_one_keeps_plain_linears(name: str) -> None:
    model = on_meta(name)
    assert not [module for module in model.modules() if isinstance(module, LoRaLin)]
    assert type(model.model.head.fc) is torch.nn.Linear


@pytest.mark.parametrize(("name", "gamma"), [("edgeface_s_gamma_05", 0.5), ("edgeface_xs_gamma_06", 0.6)])
def test_every_linear_is_of_low_rank(name: str, gamma: float) -> None:
    with torch.device("meta"):
        plain = linear_layers(build(VARIANTS[name], ranks={}).model)
    model = on_meta(name).model
    assert "head.fc" in plain
    for layer_name, layer in plain.items():
        lora = model.get_submodule(layer_name)
        assert isinstance(lora, LoRaLin)
        assert (lora.in_features, lora.out_features) == (layer.in_features, layer.out_features)
        assert lora.rank == max(2, int(min(layer.in_features, layer.out_features) * gamma))
        assert lora.linear1.bias is None
        assert lora.linear2.bias is not None
    left = set(linear_layers(model))
    assert left == {f"{name}.{part}" for name in plain for part in ("linear1", "linear2")}


@pytest.mark.parametrize(
    ("shape", "gamma", "rank"), [((192, 512), 0.6, 115), ((512, 192), 0.6, 115), ((3, 100), 0.5, 2), ((2, 2), 0.1, 2)]
)
def test_rank_rule(shape: tuple[int, int], gamma: float, rank: int) -> None:
    assert low_rank(*shape, gamma) == rank


def test_lora_is_the_product_of_its_matrices() -> None:
    lora = LoRaLin(5, 7, rank=3)
    x = torch.randn(4, 2, 5)
    expected = x @ (lora.linear2.weight @ lora.linear1.weight).T + lora.linear2.bias
    torch.testing.assert_close(lora(x), expected)


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'edgeface_huge' is not an EdgeFace variant: expected one of edgeface_base, "):
        get_model("edgeface_huge")


def test_any_size_with_any_rank_ratio() -> None:
    assert variant_named("edgeface_xs", 0.6) == VARIANTS["edgeface_xs_gamma_06"]
    assert variant_named("edgeface_s_gamma_05", 1.0).gamma == 1.0
    assert not any(isinstance(module, LoRaLin) for module in build(variant_named("edgeface_s_gamma_05", 1.0)).modules())
    counts = [count_parameters(build(variant_named("edgeface_xxs", gamma))) for gamma in (0.2, 0.5, 1.0)]
    assert counts == sorted(counts)
    for gamma in (0.0, 1.1, -1.0):
        with pytest.raises(UserError, match=r"--gamma .*: expected a rank ratio above 0, up to 1"):
            variant_named("edgeface_xxs", gamma)


def test_only_linears_become_low_rank() -> None:
    with pytest.raises(UserError, match=r"'stem\.0' is not a linear layer"):
        replace_linears(get_model("edgeface_tiny").model, {"stem.0": 2})


@pytest.mark.parametrize("name", ["edgeface_tiny", "edgeface_xs_gamma_06"])
def test_output_shape(name: str) -> None:
    with torch.no_grad():
        assert get_model(name).eval()(torch.zeros(2, 3, 112, 112)).shape == (2, 512)


@pytest.mark.parametrize(("name", "timm_name"), TIMM_NAMES.items())
def test_equals_timms_own_network(name: str, timm_name: str) -> None:
    ours = get_model(name).eval()
    theirs = timm.create_model(timm_name, num_classes=512).eval()
    theirs.load_state_dict({key.removeprefix("model."): value for key, value in ours.state_dict().items()}, strict=True)
    x = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["edgeface_xxs", "edgeface_xs_gamma_06"])
def test_kept_positions_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = get_model(name)
    for parameter in network.parameters():
        parameter.data.normal_(0.0, 0.05)
    fixed = copy.deepcopy(network)
    fix_positions(fixed)
    assert any(isinstance(module, FixedPositions) for module in fixed.modules())
    assert fixed.state_dict().keys() == network.state_dict().keys()
    images = torch.randn(3, 3, 112, 112)
    for one in (network, fixed, copy.deepcopy(fixed)):
        embeddings = one(images)
        embeddings.square().sum().backward()
        torch.testing.assert_close(embeddings, network(images), rtol=1e-4, atol=1e-5)
    for (key, parameter), other in zip(network.named_parameters(), fixed.parameters(), strict=True):
        assert parameter.grad is not None, key
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4 * float(parameter.grad.abs().max()))


def test_normalise_reaches_both_ends() -> None:
    assert normalise(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


def test_same_shapes() -> None:
    model = get_model("edgeface_tiny")
    state = dict(model.state_dict())
    assert same_shapes(model, state)
    assert not same_shapes(model, {**state, "more": torch.zeros(1)})
    assert not same_shapes(model, {**state, "model.stem.0.bias": torch.zeros(3)})
