"""What every training that can be resumed asks of the state it finds on disk, and of the numbers it computes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import replacing
from common.paths import find_weights
from facial_rec.weights import describe_difference, read_pickle


def read_run_state(path: Path, keys: Collection[str], command: str) -> dict[str, Any]:
    """The content of a state that `command` wrote, with exactly these keys.

    Raises UserError when the file is missing, damaged, or something else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing, so there is nothing to resume: run without --resume.")
    content = read_pickle(path)
    if not isinstance(content, dict) or content.keys() != set(keys):
        raise UserError(f"{path} is not a training state of {command}: give another --out, or run without --resume.")
    return content


def check_run_folder(out: Path, resume: bool, state: str = "last.pt") -> None:
    """Raise UserError unless `out` is fit for the run: without a state for a new one, with one to resume."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give the folder that the run is to make.")
    if (out / state).is_file() and not resume:
        raise UserError(f"{out} already holds a run: add --resume to go on with it, or choose another --out.")
    if resume and not (out / state).is_file():
        raise UserError(f"{out}/{state} is missing, so there is nothing to resume: run without --resume.")


def refuse_to_overwrite(out: Path, made: Sequence[str], read: Mapping[str, Iterable[str | Path | None]]) -> None:
    """Raise UserError where weights that are read, by option, are one of the files that the run is to make in `out`."""
    targets = {(out / name).resolve(): name for name in made}
    given = [(option, name) for option, names in read.items() for name in names if name is not None]
    for option, name in given:
        path = find_weights(name)
        if path is not None and path.resolve() in targets:
            raise UserError(
                f"{option} {path} would be overwritten by the run's own {targets[path.resolve()]}: give another --out."
            )


def require_same_settings(path: Path, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise UserError when a setting that shapes the losses differs from the interrupted run's, naming all that do."""
    later = {"validation_names_sha256"} - saved.keys()  # which older runs did not save
    if differing := [key for key in settings if saved.get(key) != settings[key] and key not in later]:
        changes = ", ".join(f"{key} was {saved.get(key)!r}, is now {settings[key]!r}" for key in differing)
        raise UserError(f"{path} belongs to a run with other settings ({changes}). Use the same, or another --out.")


def load_same_network(path: Path, network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the weights found in `path`; UserError when they are another network's."""
    if difference := describe_difference(network.state_dict(), state):
        raise UserError(f"{path} holds another network: {difference}. Use the code it was made with, or another --out.")
    network.load_state_dict(state, strict=True)


def require_finite(what: str, value: Tensor | float, step: int) -> None:
    """Raise UserError for a loss or gradient that is not finite."""
    if not math.isfinite(float(value)):
        raise UserError(
            f"the {what} became {float(value)} at step {step}. The last checkpoint is whole: continue from it, in "
            "another --out, with a lower learning rate (or margin), or look for a damaged image."
        )


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch, atomically; UserError as `common.files.replacing`.

    Into an open file: of a full disk torch, given a name, raises a RuntimeError without reason.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)
