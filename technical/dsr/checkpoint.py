"""DSR weights on disk: a plain state dict, the shape of the network, and readable metadata in one `.pt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.files import write_with
from common.paths import find_weights
from common.shipped import restoring, weights_sha256
from dsr.model import Dsr, DsrConfig
from facial_rec.weights import describe_difference, read_pickle

FORMAT = "dsr-2"
LARGEST_SETTING = 4096  # a damaged configuration should be named, not built
OLDER = {"overlap": 0, "mirrored": False}  # settings that older files do not name, and what they had


@dataclass(frozen=True)
class DsrInfo:
    """What a loaded DSR is."""

    path: Path
    sha256: str
    config: DsrConfig
    metadata: dict[str, Any]
    """How it was trained: command, data, sizes, epoch, seed, losses."""


def save_dsr(path: Path, model: Dsr, metadata: Mapping[str, Any]) -> None:
    """Write `model` and `metadata` (plain values only) to `path`, atomically."""
    plain = torch.contiguous_format
    state = {key: value.detach().cpu().clone(memory_format=plain) for key, value in model.state_dict().items()}
    content = {"format": FORMAT, "config": asdict(model.config), "metadata": dict(metadata), "state_dict": state}

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # by name, torch would write that name inside: another sha256 every time
            torch.save(content, file)

    write_with(path, write)


def load_dsr(weights: str | Path, device: torch.device | str = "cpu", option: str = "--dsr") -> tuple[Dsr, DsrInfo]:
    """The DSR in `weights` (a path, or a name looked up in `checkpoints/`), in evaluation mode, without gradients.

    `option` is what a user names the file with. Raises UserError for a file that is missing, damaged, holds code, is no
    DSR, or whose keys do not all match.
    """
    path = find_weights(weights)
    if path is None:
        raise UserError(
            f"{weights} is missing: train one with `python -m dsr.train_dsr`, or give {option} another file"
            f"{' (in evaluations also none: bicubic only)' if option == '--dsr' else ''}.{restoring(weights)}"
        )
    sha256 = weights_sha256(path)  # before the reading: of a damaged file it says more
    content = read_pickle(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a DSR checkpoint of format {FORMAT}: expected a file that train_dsr wrote.")
    config = _config_from(content.get("config"), path)
    shape = _shape_of(config, path)
    state, metadata = content.get("state_dict"), content.get("metadata")
    if not isinstance(metadata, dict):
        raise UserError(f"{path} has unreadable metadata: expected a dictionary. Train or copy it again.")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        found = state.items() if isinstance(state, dict) else ()
        strays = [str(key) for key, value in found if not isinstance(value, torch.Tensor)]
        raise UserError(f"{path} has no state dict of tensors {strays[:4]}. Train or copy it again.")
    if difference := describe_difference(shape.state_dict(), state):
        raise UserError(f"{path} does not fit its own configuration: {difference}. Every key must match.")
    if broken := [key for key, value in state.items() if not bool(value.isfinite().all())]:
        raise UserError(f"{path} holds NaN or infinite weights in {', '.join(broken[:4])}. Use an earlier checkpoint.")
    model = Dsr(config)
    model.load_state_dict(state, strict=True)
    # Channels last: the convolutions on the grid run about a tenth faster so on a CPU.
    model.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return model, DsrInfo(path, sha256, config, metadata)


def _config_from(values: Any, path: Path) -> DsrConfig:
    known = {field.name for field in fields(DsrConfig)}
    if isinstance(values, dict):
        values = {**OLDER, **values}
    if not isinstance(values, dict) or set(values) != known or not all(map(_is_plausible, values.items())):
        raise UserError(
            f"{path} has an unreadable configuration ({values}): expected integers from 0 to {LARGEST_SETTING} "
            f"named {', '.join(sorted(known - {'mirrored'}))}, and mirrored, true or false."
        )
    if not all(values[name] for name in ("channels", "cell")):
        raise UserError(f"{path} has a configuration ({values}) without width. Train or copy it again.")
    return DsrConfig(**values)


def _shape_of(config: DsrConfig, path: Path) -> Dsr:
    """The network without memory for its weights: a configuration may ask for more than there is."""
    try:
        with torch.device("meta"):
            return Dsr(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _is_plausible(setting: tuple[object, object]) -> bool:
    name, value = setting
    if name == "mirrored":
        return type(value) is bool
    return type(value) is int and 0 <= value <= LARGEST_SETTING
