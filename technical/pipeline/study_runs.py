"""The runs of a study: which settings are compared, with which seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from common.errors import UserError

What = Literal["losses", "gamma"]
Loss = Literal["cosface", "arcface", "triplet"]


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    """As folders are called."""
    label: str
    """As the table calls it."""
    loss: Loss
    margin: float
    gamma: float | None = None
    """Rank ratio of the linear layers; None leaves the variant's own."""


@dataclass(frozen=True)
class Run:
    """A setting with a seed."""

    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.setting.name}_seed{self.seed}"


SETTINGS: dict[str, tuple[Setting, ...]] = {
    "losses": (
        Setting("cosface_0.4", "CosFace 0.4", "cosface", 0.4),
        Setting("arcface_0.25", "ArcFace 0.25", "arcface", 0.25),
        Setting("arcface_1.5", "ArcFace 1.5", "arcface", 1.5),
        Setting("triplet_1.5", "triplet 1.5", "triplet", 1.5),
    ),
    "gamma": tuple(Setting(f"gamma_{gamma:g}", f"gamma {gamma:g}", "cosface", 0.4, gamma) for gamma in (0.2, 0.5, 1.0)),
}


def runs_of(what: What, seeds: Sequence[int]) -> list[Run]:
    """Every setting with the first seed, then with the second: a study cut short still compares all settings.

    Raises UserError for no seed, one given twice, and a negative one.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        given = " ".join(map(str, seeds))
        raise UserError(f"--seeds {given}: expected one or more, each once and not negative.")
    return [Run(setting, seed) for seed in seeds for setting in SETTINGS[what]]


def same_training(setting: Setting, result: Mapping[str, Any]) -> bool:
    """Whether a run with this `result` trained what `setting` asks for; gamma 1 is the plain network."""
    theirs = result["loss"], result["margin"], result["gamma"] or 1.0
    return (setting.loss, setting.margin, setting.gamma or 1.0) == theirs
