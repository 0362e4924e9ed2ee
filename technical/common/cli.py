"""From a frozen dataclass to a command line: the fields are the flags, their one-line docstrings are the help."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from common.errors import UserError
from common.recipes import read_recipe, split_arguments

ConfigT = TypeVar("ConfigT")


def run(
    main: Callable[[ConfigT], object],
    config_type: type[ConfigT],
    argv: Sequence[str] | None = None,
    recipes: bool = False,
) -> None:
    """Parse `argv` (default: the process's) into `config_type` and call `main` with it.

    With `recipes`, `--config file.toml [--stage name]` sets what the other flags do not, see `common.recipes`.
    A UserError is printed as `error: …` and becomes exit status 2, an interrupt becomes 130; neither shows a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    description = sys.modules[main.__module__].__doc__
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        file, stage, arguments = split_arguments(arguments) if recipes else (None, None, arguments)
        if file is None:
            main(tyro.cli(config_type, args=arguments, description=description))
        else:
            default = read_recipe(config_type, file, stage)
            main(tyro.cli(config_type, args=arguments, description=description, default=default))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: what was already written stays.", file=sys.stderr)
        raise SystemExit(130) from None
