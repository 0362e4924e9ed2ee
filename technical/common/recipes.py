"""Recipe files: TOML with a section for each stage of a training, whose keys are the fields of its configuration.

    python -m facial_rec.train_edgeface --config recipes/edgeface_s_gamma_05.toml --stage restart --epochs 3

Flags given beside `--config` count before the file's values.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from common.errors import UserError

ConfigT = TypeVar("ConfigT")


def split_arguments(argv: Sequence[str]) -> tuple[Path | None, str | None, list[str]]:
    """The values of `--config` and `--stage` in a command line, and the rest of it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--stage")
    try:
        found, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(f"{error}: give --config a recipe file, and --stage one of its sections.") from error
    if found.stage and not found.config:
        raise UserError(f"--stage {found.stage} names a section of a recipe: give --config too.")
    return found.config, found.stage, rest


def read_recipe(config_type: type[ConfigT], path: Path, stage: str | None = None) -> ConfigT:
    """The configuration in section `stage` of the file, which may be left out where there is one section.

    Raises UserError for a missing or malformed file, and for a section, key or value that is none of `config_type`'s.
    """
    sections = read_sections(path)
    name = stage or next(iter(sections))
    if name not in sections or (stage is None and len(sections) > 1):
        raise UserError(f"{path} has the sections {', '.join(sections)}: give one of them as --stage.")
    types = get_type_hints(config_type)
    known = {field.name for field in fields(config_type)}  # type: ignore[arg-type]
    strange = [key for key in sections[name] if key not in known]
    if strange:
        raise UserError(f"{path}, [{name}]: {', '.join(strange)} is no setting. There are {', '.join(sorted(known))}.")
    where = f"{path}, [{name}] key"
    return config_type(
        **{key: converted(value, types[key], f"{where} '{key}'") for key, value in sections[name].items()}
    )


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a recipe file as they stand. Raises UserError for a missing or malformed file."""
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a recipe, a TOML file such as those in recipes/.")
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}).") from error
    loose = [key for key, value in sections.items() if not isinstance(value, dict)]
    if loose or not sections:
        raise UserError(f"{path}: expected a section for each stage, such as [train], found {loose or 'none'}.")
    return sections


def converted(value: Any, wanted: Any, where: str) -> Any:
    """A TOML value as the annotated type `wanted`. Raises UserError, which begins with `where`, for another type."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return converted(value, next(one for one in arguments if one is not NoneType), where)
    if origin is Literal:
        if value in arguments:
            return value
        raise UserError(f"{where}: expected one of {', '.join(map(str, arguments))}, found {value!r}.")
    if origin is tuple:
        if isinstance(value, list):
            return tuple(converted(item, arguments[0], where) for item in value)
        raise UserError(f"{where}: expected a list, found {value!r}.")
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise UserError(f"{where}: expected {_called(wanted)}, found {value!r}.")
    return value


def _called(wanted: type) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path in quotes"}
    return names.get(wanted, wanted.__name__)
