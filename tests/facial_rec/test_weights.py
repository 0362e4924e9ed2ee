"""facial_rec.weights: every file users have is read strictly and safely, and damage is named."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from facial_rec.edgeface import VARIANTS, EdgeFace, build, get_model, linear_layers
from facial_rec.weights import (
    describe_difference,
    load_strictly,
    plain_state,
    read_edgeface_state,
    read_pickle,
    read_state,
    recognise,
)

HERE = Path("file.pt")
State = dict[str, torch.Tensor]


def reread(path: Path) -> tuple[str, EdgeFace]:
    """The variant and the loaded network of a file."""
    state = read_state(path)
    name, model = recognise(state, path)
    load_strictly(model, state, path)
    return name, model.eval()


def saved(content: Any, folder: Path) -> Path:
    path = folder / "saved.pt"
    torch.save(content, path)
    return path


def test_float_state_dict_is_read_as_it_is(tiny: EdgeFace, float_file: Path) -> None:
    name, model = reread(float_file)
    assert name == "edgeface_tiny"
    for key, value in tiny.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_int8_state_dict_is_dequantised(tiny: EdgeFace, int8_file: Path, images: torch.Tensor) -> None:
    state, original = read_state(int8_file), tiny.state_dict()
    assert state.keys() == original.keys()
    linears = {f"model.{name}.weight" for name in linear_layers(tiny.model)}
    for key, value in original.items():
        if key in linears:
            step = float(value.abs().max()) / 127.5  # symmetric, one scale a layer
            assert float((state[key] - value).abs().max()) <= 0.51 * step, key
            assert state[key].dtype is torch.float32
        else:
            assert torch.equal(state[key], value), key
    _, model = reread(int8_file)
    with torch.no_grad():
        cosine = torch.cosine_similarity(model(images), tiny(images))
    assert float(cosine.min()) > 0.999


@pytest.mark.parametrize("bias", [True, False])
def test_int8_layer_without_bias_has_none(bias: bool, quantise: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=bias))
    assert ("model.0.bias" in plain_state(quantise(layers).state_dict(), HERE)) == bias


WRAPPED: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "backbone_state_dict": lambda state: {"backbone_state_dict": state, "head_state_dict": {"w": torch.zeros(1)}},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "twice": lambda state: {"model": {"state_dict": state}},
    "module. prefix": lambda state: {f"module.{key}": value for key, value in state.items()},
    "no model. prefix": lambda state: {key.removeprefix("model."): value for key, value in state.items()},
    "module. without model.": lambda state: {f"module.{key.removeprefix('model.')}": v for key, v in state.items()},
    "ordered": OrderedDict,
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_wrappings_are_taken_off(tiny: EdgeFace, tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    state = read_state(saved(wrap(dict(tiny.state_dict())), tmp_path))
    assert describe_difference(tiny.state_dict(), state) == ""


@pytest.mark.parametrize("kind", ["script_file", "int8_script_file"])
def test_torchscript_gives_its_weights(tiny: EdgeFace, kind: str, request: pytest.FixtureRequest) -> None:
    assert describe_difference(tiny.state_dict(), read_edgeface_state(request.getfixturevalue(kind))) == ""


def test_a_state_dict_is_expected_where_torchscript_has_no_place(script_file: Path) -> None:
    with pytest.raises(UserError, match=r"not a readable weights file"):
        read_state(script_file)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_recognised(name: str) -> None:
    with torch.device("meta"):
        state = get_model(name).state_dict()
        found, model = recognise(state, HERE)
    assert found == name.removesuffix("_q")  # dequantised it is the float network
    assert describe_difference(model.state_dict(), state) == ""


def test_arbitrary_ranks_are_recognised() -> None:
    size = VARIANTS["edgeface_tiny"]
    with torch.device("meta"):
        ranks = {name: 2 + index for index, name in enumerate(linear_layers(build(size).model))}
        state = build(size, ranks).state_dict()
        name, model = recognise(state, HERE)
    assert name == f"edgeface_tiny_rank_{ranks['head.fc']}"
    assert describe_difference(model.state_dict(), state) == ""


def test_a_name_is_given_only_for_all_of_its_ranks() -> None:
    size = VARIANTS["edgeface_xs_gamma_06"]
    with torch.device("meta"):
        assert recognise(build(size, {"head.fc": 115}).state_dict(), HERE)[0] == "edgeface_xs_rank_115"
        assert (
            recognise(build(size, {"stages.0.blocks.0.mlp.fc1": 9}).state_dict(), HERE)[0] == "edgeface_xs_rank_mixed"
        )


def test_differing_keys_are_listed(tiny: EdgeFace) -> None:
    state = dict(tiny.state_dict())
    state["model.head.fc.extra"] = state.pop("model.head.fc.bias")
    state["model.head.fc.weight"] = torch.zeros(512, 63)
    with pytest.raises(UserError) as caught:
        load_strictly(get_model("edgeface_tiny"), state, HERE)
    message = str(caught.value)
    assert "file.pt does not fit this EdgeFace" in message
    assert "1 missing (model.head.fc.bias)" in message
    assert "1 unexpected (model.head.fc.extra)" in message
    assert "1 of another shape (model.head.fc.weight (512, 63) instead of (512, 64))" in message


def test_long_lists_of_keys_are_cut() -> None:
    expected = {f"k{index}": torch.zeros(1) for index in range(20)}
    assert describe_difference(expected, {}).endswith("k6, k7, and 12 more)")


def test_another_network_is_refused_with_its_keys(tmp_path: Path) -> None:
    path = saved({"layer1.weight": torch.zeros(2, 2)}, tmp_path)
    with pytest.raises(
        UserError, match=r"not an EdgeFace.*missing \(model\.stem.*1 unexpected \(model\.layer1\.weight"
    ):
        recognise(read_state(path), path)


def test_low_rank_keys_of_another_network_are_refused(tiny: EdgeFace) -> None:
    state = {**tiny.state_dict(), "model.stem.0.linear1.weight": torch.zeros(2, 2)}
    with pytest.raises(UserError, match=r"file\.pt is not an EdgeFace: 'stem\.0' is not a linear layer"):
        recognise(state, HERE)


@pytest.mark.parametrize("key", ["model.stem.0.weight", "model.head.norm.weight", "model.head.fc.linear1.weight"])
def test_scalars_in_place_of_weights_are_refused(tiny: EdgeFace, key: str) -> None:
    state = {**tiny.state_dict(), key: torch.tensor(1.0)}
    with pytest.raises(UserError, match=r"file\.pt"):
        load_strictly(recognise(state, HERE)[1], state, HERE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tiny: EdgeFace, value: float) -> None:
    tiny.model.head.fc.bias[3] = value
    with pytest.raises(UserError, match=r"NaN or infinite weights in model\.head\.fc\.bias"):
        plain_state(tiny.state_dict(), HERE)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pt is missing"):
        read_pickle(tmp_path / "no.pt")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.999])
def test_truncated_file_is_refused(float_file: Path, fraction: float) -> None:
    whole = float_file.read_bytes()
    float_file.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(UserError, match=r"float\.pt is not a readable weights file .*Copy it again"):
        read_state(float_file)


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file\n", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n", b"\0" * 99]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pt is not a readable weights file"):
        read_state(path)


class Hostile:
    """Unpickling this would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("by", ["torch", "pickle"])
@pytest.mark.parametrize("read", [read_state, read_edgeface_state])
def test_code_in_a_file_is_not_run(tmp_path: Path, by: str, read: Callable[[Path], State]) -> None:
    path, marker = tmp_path / "hostile.pt", tmp_path / "marker"
    content = {"model.stem.0.weight": Hostile(marker)}
    if by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"hostile\.pt .*It was not run"):
        read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "holds a list, expected a state dict"),
        (torch.zeros(1), "holds a Tensor, expected a state dict"),
        ({}, "holds a dict, expected a state dict"),
        ({"state_dict": {}}, "expected a state dict"),
        ({3: torch.zeros(1)}, "expected a state dict"),
        ({"model.stem.0.weight": "text"}, r"model\.stem\.0\.weight hold no tensor"),
        ({"fc._packed_params._packed_params": "text"}, r"fc\._packed_params\._packed_params"),
        ({"fc._packed_params._packed_params": (torch.zeros(1), 3)}, r"fc\._packed_params\._packed_params"),
    ],
)
def test_wrong_types_inside_are_named(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"saved\.pt .*{words}"):
        read_state(saved(content, tmp_path))


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("edgeface_xxs_q.pt", "edgeface_xxs"),
        ("edgeface_xs_q.pt", "edgeface_xs"),
        ("edgeface_xs_gamma_06.pt", "edgeface_xs_gamma_06"),
    ],
)
def test_real_files_load_strictly(shared: Path, file: str, variant: str) -> None:
    assert reread(shared / "weights" / file)[0] == variant


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(UserError, match=r"model hold no tensor"):
        read_state(saved(content, tmp_path))


def test_an_old_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"old\.pt"):
            read_state(path)
