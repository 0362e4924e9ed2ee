"""What a result was made with: the command that repeats it."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, Field, fields
from typing import Any


def command_of(module: str, config: Any) -> str:
    """The shell command whose configuration is `config`: `python -m <module>` and every flag that is not its default.

    Built from the configuration, not from the process's arguments, so it holds for a call from Python too.
    """
    words = ["python", "-m", module]
    for field in fields(config):
        value = getattr(config, field.name)
        if value != _default(field):
            words += _flag(field, value)
    return shlex.join(words)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _flag(field: Field[Any], value: Any) -> list[str]:
    flag = "--" + field.name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag.removeprefix("--")]
    if isinstance(value, tuple | list):
        if "UseAppendAction" not in str(field.type):  # tyro then takes all values after one flag
            return [flag, *map(str, value)]
        return [word for one in value for word in (flag, str(one))]
    return [flag, str(value)]
