"""The command in a record repeats the run: flags that take several values are written as tyro reads them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from pipeline.provenance import command_of


@dataclass(frozen=True)
class Config:
    """Settings."""

    images: Path
    """Images."""
    several: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Each behind its own flag."""
    sizes: tuple[int, ...] = (8, 16)
    """All behind one flag."""
    fast: bool = True
    """A switch."""
    limit: int | None = None
    """A number."""


def test_the_command_gives_the_configuration_again() -> None:
    config = Config(Path("a b"), ("x.pt", "y.pt"), (32, 12, 8), fast=False, limit=3)
    command = command_of("pipeline.x", config)
    assert (
        command
        == "python -m pipeline.x --images 'a b' --several x.pt --several y.pt --sizes 32 12 8 --no-fast --limit 3"
    )
    assert tyro.cli(Config, args=shlex.split(command)[3:]) == config


def test_defaults_are_left_out() -> None:
    assert command_of("pipeline.x", Config(Path("faces"))) == "python -m pipeline.x --images faces"
