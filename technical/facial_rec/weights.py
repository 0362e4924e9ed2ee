"""Reading EdgeFace weights from any file users have, strictly: every key must match.

Read are float state dicts, dynamic-int8 state dicts (dequantised to float), checkpoints that wrap either, and
TorchScript files. Pickles are opened with `weights_only=True`, so a file cannot run code.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.paths import find_weights
from common.shipped import restoring
from facial_rec.edgeface import VARIANTS, EdgeFace, LoRaLin, Variant, build, low_rank

_PACKED = "._packed_params._packed_params"
_WRAPPERS = ("backbone_state_dict", "model_state_dict", "state_dict", "backbone", "model")
_MOST_WRAPPERS = 4  # one in another
_ZIP_START, _PICKLE_START = b"PK", b"\x80"
_DAMAGED = (  # what torch raises for files that are not whole
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError),
    *(AssertionError, struct.error),  # of files in the format before zip
)
_LISTED_KEYS = 8  # how many keys an error spells out

State = dict[str, Tensor]


def find_edgeface(name: str | Path) -> Path:
    """The weights file `name`, here or in `checkpoints/`. Raises UserError, with how to get a shipped one back."""
    path = find_weights(name)
    if path is None:
        raise UserError(
            f"{name} is missing: expected an EdgeFace weights file here or in checkpoints/.{restoring(name)}"
        )
    return path


def read_pickle(path: Path) -> Any:
    """`torch.load` with `weights_only=True`, on CPU. Raises UserError for a missing, damaged or code-carrying file."""
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a weights file.")
    _check_beginning(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantised tensors are deprecated, and still how the authors publish
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        named = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL |class |operand )?([\w.]+)", str(error))
        found = named[1] if named else "an unknown object"
        raise UserError(
            f"{path} holds something other than plain tensors ({found}). It was not run. "
            "Get the weights from their authors, or save only the state dict."
        ) from error
    except _DAMAGED as error:
        raise UserError(
            f"{path} is not a readable weights file ({first_sentence(error)}). Is it whole? Copy it again."
        ) from error


def first_sentence(error: Exception) -> str:
    """What an exception says first; torch goes on with advice that fits another situation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(". ")[0] if lines else type(error).__name__


def _check_beginning(path: Path) -> None:
    """Raise UserError unless the file begins as torch.save writes them; torch's own words for that are opaque."""
    with open(path, "rb") as file:
        start = file.read(2)
    if start != _ZIP_START and start[:1] != _PICKLE_START:
        found = "it is empty, 0 bytes" if not start else "it is neither a zip nor a pickle, as torch.save writes"
        raise UserError(f"{path} is not a readable weights file ({found}). Is it whole? Copy it again.")


def read_state(path: Path) -> State:
    """The float state dict in a `.pt`/`.pth` file, with keys as EdgeFace has them (`model.stem.0.weight`, ...)."""
    return plain_state(read_pickle(path), path)


def read_edgeface_state(path: Path) -> State:
    """As `read_state`, but a TorchScript file, float or int8, is read too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError):
        return read_state(path)
    return plain_state({**script.state_dict(), **_packed_layers(script)}, path)


def _packed_layers(script: torch.nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The int8 linear layers of a TorchScript, which its state dict leaves out, under their state-dict keys."""
    holders = {name: getattr(module, "_packed_params", None) for name, module in script.named_modules()}
    packed = {name: value for name, value in holders.items() if isinstance(value, torch.ScriptObject)}
    return {f"{name}._packed_params": torch.ops.quantized.linear_unpack(value) for name, value in packed.items()}


def plain_state(content: Any, path: Path) -> State:
    """Unwrap a checkpoint, dequantise int8 layers, and give every key its `model.` prefix. Errors name `path`."""
    for _ in range(_MOST_WRAPPERS):  # a hostile file may hold itself
        if isinstance(content, Mapping) and (inner := next((k for k in _WRAPPERS if _is_wrapper(content, k)), None)):
            content = content[inner]
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a state dict (names to tensors).")
    try:
        state = dequantise(content)
    except (TypeError, ValueError, AttributeError) as error:
        packed = [key for key in content if key.endswith(_PACKED)]
        raise UserError(f"{path} has int8 layers that hold no weight and bias: {_listed(packed)}.") from error
    strays = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strays:
        raise UserError(f"{path} is not a state dict: {_listed(strays)} hold no tensor.")
    broken = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise UserError(f"{path} holds NaN or infinite weights in {_listed(broken)}. Use an earlier checkpoint.")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    return {key if key.startswith("model.") else f"model.{key}": value for key, value in state.items()}


def _is_wrapper(content: Mapping[str, Any], key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def dequantise(content: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dynamically quantised linear layers of a state dict into float `.weight` and `.bias`."""
    layers = [key.removesuffix(_PACKED) for key in content if key.endswith(_PACKED)]
    if not layers:
        return dict(content)
    leftovers = {f"{layer}{end}" for layer in layers for end in (".scale", ".zero_point", "._packed_params.dtype")}
    state: dict[str, Any] = {}
    for key, value in content.items():
        if key.endswith(_PACKED):
            layer = key.removesuffix(_PACKED)
            weight, bias = value
            state[f"{layer}.weight"] = weight.dequantize()
            if bias is not None:
                state[f"{layer}.bias"] = bias.detach()
        elif key not in leftovers:
            state[key] = value
    return state


def recognise(state: State, path: Path) -> tuple[str, EdgeFace]:
    """The EdgeFace (random weights) whose keys and shapes `state` has, and its name.

    The size is read from the widths and depths of the keys, the rank of each low-rank layer from its own shape.
    Raises UserError, listing missing and unexpected keys, when no EdgeFace fits.
    """
    size = _size_of(state)
    if size is None:
        known = build(VARIANTS["edgeface_xxs"]).state_dict()
        raise UserError(
            f"{path} is not an EdgeFace: no known EdgeNeXt has its widths and depths. Against edgeface_xxs: "
            f"{describe_difference(known, state)}."
        )
    suffix = ".linear1.weight"
    ranks = {
        key.removeprefix("model.").removesuffix(suffix): value.shape[0]
        for key, value in state.items()
        if key.endswith(suffix) and value.ndim == 2
    }
    try:
        model = build(size, ranks)
    except UserError as error:
        raise UserError(f"{path} is not an EdgeFace: {error}") from error
    return _name_of(size, ranks, model), model


def load_strictly(model: EdgeFace, state: State, path: Path) -> None:
    """Copy `state` into `model`; raise UserError listing missing, unexpected and misshapen keys if any."""
    difference = describe_difference(model.state_dict(), state)
    if difference:
        raise UserError(f"{path} does not fit this EdgeFace: {difference}. Every key must match.")
    model.load_state_dict(state, strict=True)


def describe_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What separates two state dicts, in words; empty when keys and shapes are equal."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return "; ".join(f"{len(keys)} {what} ({_listed(keys)})" for what, keys in parts if keys)


def _listed(keys: Iterable[str]) -> str:
    names = [str(key) for key in keys]
    more = f", and {len(names) - _LISTED_KEYS} more" if len(names) > _LISTED_KEYS else ""
    return ", ".join(names[:_LISTED_KEYS]) + more


def _size_of(state: State) -> Variant | None:
    depths = [0, 0, 0, 0]
    for key in state:
        if match := re.match(r"model\.stages\.([0-3])\.blocks\.(\d+)\.", key):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths[stage], block + 1)
    stem, head = state.get("model.stem.0.weight"), state.get("model.head.norm.weight")
    if stem is None or head is None or not stem.ndim or not head.ndim:
        return None
    for variant in VARIANTS.values():
        ends = (variant.dims[0], variant.dims[-1])
        if ends == (stem.shape[0], head.shape[0]) and variant.depths == tuple(depths):
            return variant
    return None


def _name_of(size: Variant, ranks: dict[str, int], model: EdgeFace) -> str:
    """The published name with exactly these ranks; else the family name, with the head's rank where it has one."""
    layers = {
        name: layer
        for name, layer in model.model.named_modules()
        if isinstance(layer, nn.Linear | LoRaLin) and not name.endswith((".linear1", ".linear2"))
    }
    for name, variant in VARIANTS.items():
        published = {
            key: low_rank(layer.in_features, layer.out_features, variant.gamma) for key, layer in layers.items()
        }
        if variant.dims == size.dims and not variant.quantised and ranks == (published if variant.gamma < 1.0 else {}):
            return name
    family = {24: "edgeface_xxs", 32: "edgeface_xs", 48: "edgeface_s", 80: "edgeface_base"}
    stem = family.get(size.dims[0], "edgeface_tiny")
    return f"{stem}_rank_{ranks.get('head.fc', 'mixed')}" if ranks else stem
