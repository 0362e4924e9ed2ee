"""What a run leaves behind: `metrics.jsonl`, always; Weights & Biases, when asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from common.errors import UserError
from common.files import write_text

WandbMode = Literal["disabled", "offline", "online"]


class Logger(Protocol):
    """Takes one record of named values at a time."""

    def log(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class NullLogger:
    """Takes records and does nothing, so that callers need no `if`."""

    def log(self, record: Mapping[str, Any]) -> None:
        return

    def close(self) -> None:
        return


class WandbLogger:
    """Sends records to Weights & Biases, or keeps them in `<folder>/wandb` for a later `wandb sync`."""

    def __init__(self, project: str, folder: Path, config: Mapping[str, Any], mode: WandbMode) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("--wandb needs the wandb package: install the group `train`.") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project=project, dir=str(folder), config=dict(config), mode=mode)

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(dict(record))

    def close(self) -> None:
        self._run.finish()


def wandb_logger(mode: WandbMode, project: str, folder: Path, config: Mapping[str, Any]) -> Logger:
    """A WandbLogger, or a NullLogger when `mode` is `disabled`."""
    return NullLogger() if mode == "disabled" else WandbLogger(project, folder, config, mode)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one JSON line to `path`."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(record), allow_nan=False) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole JSON lines of `path`; none when it does not exist. A last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def keep_records(path: Path, last_epoch: int) -> None:
    """Drop the records after `last_epoch`, which a resumed run will write again."""
    _keep(path, "epoch", last_epoch)


def keep_steps(path: Path, last_step: int) -> None:
    """Drop the records after `last_step`, which a resumed run will write again."""
    _keep(path, "step", last_step)


def _keep(path: Path, key: str, last: int) -> None:
    kept = [record for record in read_records(path) if record.get(key, 0) <= last]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
