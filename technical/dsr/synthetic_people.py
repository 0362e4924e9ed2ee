"""Draw a synthetic person from a seed: the spread of the numbers in `synthetic_identity` over a population.

Means and spreads are round figures near those of adult anthropometry; two hidden axes, `masculine` and `age`, tie
together what goes together in people (jaw, brows, beard and hair length; folds, grey hair and hairline).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsr.synthetic_identity import (
    Beard,
    BeardKind,
    Brows,
    Eyes,
    Glasses,
    Hair,
    Identity,
    Mouth,
    Nose,
    Rgb,
    Skin,
    Skull,
)

# sRGB anchors from very fair to very dark skin, and hair and iris colours found in people.
_SKIN_TONES = ((247, 212, 192), (236, 194, 165), (214, 166, 132), (180, 128, 94), (136, 92, 66), (100, 67, 50))
_HAIR_COLOURS = {
    "black": (26, 22, 22),
    "dark brown": (52, 36, 28),
    "brown": (92, 62, 42),
    "light brown": (136, 98, 64),
    "blond": (200, 164, 108),
    "ginger": (158, 78, 38),
}
_IRIS_COLOURS = ((58, 36, 24), (84, 54, 30), (112, 86, 48), (96, 112, 74), (92, 122, 146), (122, 142, 152))
_FAIR_HAIR_ODDS = (0.12, 0.22, 0.26, 0.2, 0.14, 0.06)
_DARK_HAIR_ODDS = (0.68, 0.27, 0.05, 0.0, 0.0, 0.0)


def linear_rgb(srgb: tuple[int, int, int] | NDArray[np.float64]) -> NDArray[np.float64]:
    """8-bit sRGB to linear RGB in [0, 1], with the plain power 2.2 that the renderer also encodes with."""
    return (np.asarray(srgb, dtype=np.float64) / 255.0) ** 2.2


@lru_cache(maxsize=4)
def sample_identity(seed: int, identity: int) -> Identity:
    """Person number `identity` (>= 0) of the set `seed` (>= 0); the same two numbers always give the same person."""
    rng = np.random.default_rng([1, seed, identity])
    masculine = float(np.clip(rng.choice([0.2, 0.8]) + rng.normal(0, 0.12), 0, 1))
    age = float(rng.beta(1.3, 1.9))
    melanin = float(rng.beta(1.0, 1.25))
    skin = _skin(rng, melanin, age)
    hair = _hair(rng, melanin, masculine, age)
    skull = _skull(rng, masculine)
    nose = _nose(rng, masculine)
    return Identity(
        skin=skin,
        skull=skull,
        eyes=_eyes(rng, melanin, masculine),
        brows=_brows(rng, masculine),
        nose=nose,
        mouth=_mouth(rng, masculine, skin, nose, skull),
        hair=hair,
        beard=_beard(rng, masculine, age, hair),
        glasses=_glasses(rng) if rng.random() < 0.18 else None,
    )


def _spread(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A normal number kept within 2.2 spreads, so that no face is monstrous."""
    return mean + spread * float(np.clip(rng.normal(), -2.2, 2.2))


def _rgb(colour: NDArray[np.float64]) -> Rgb:
    red, green, blue = (float(value) for value in np.clip(colour, 0.002, 0.95))
    return red, green, blue


def _skin(rng: np.random.Generator, melanin: float, age: float) -> Skin:
    at = melanin * (len(_SKIN_TONES) - 1)
    low = min(int(at), len(_SKIN_TONES) - 2)
    tones = linear_rgb(np.array(_SKIN_TONES[low : low + 2], dtype=np.float64))
    colour = tones[0] + (at - low) * (tones[1] - tones[0])
    colour = colour * (1 + rng.normal(0, 0.05)) * (1 + rng.normal(0, [0.02, 0.025, 0.05]))
    moles = tuple(
        (float(rng.uniform(-52, 52)), float(rng.uniform(-92, 45)), float(rng.uniform(1.1, 2.6)))
        for _ in range(rng.poisson(1.2))
    )
    freckles = float(rng.uniform(0.35, 1)) if melanin < 0.45 and rng.random() < 0.25 else 0.0
    redness = float(rng.uniform(0.1, 1)) * (1 - 0.6 * melanin)
    return Skin(_rgb(colour), redness, float(rng.uniform(0.3, 1)), freckles, moles, age)


def _skull(rng: np.random.Generator, masculine: float) -> Skull:
    width = _spread(rng, 72 + 3 * masculine, 4.0)
    return Skull(
        width=width,
        height=_spread(rng, 106, 6),
        depth=_spread(rng, 100, 4),
        jaw_width=width * _spread(rng, 0.78 + 0.07 * masculine, 0.055),
        jaw_corner=_spread(rng, 1 + 4 * masculine, 3.5),
        chin_length=_spread(rng, 108 + 7 * masculine, 6),
        chin_forward=_spread(rng, 13 + 2 * masculine, 5),
        chin_width=_spread(rng, 15 + 6 * masculine, 4),
        cheekbone=_spread(rng, 4.5, 3),
        cheek_full=_spread(rng, 0, 4.5),
        brow_ridge=max(0.0, _spread(rng, 1.5 + 4 * masculine, 1.8)),
        ear_size=_spread(rng, 1, 0.12),
    )


def _eyes(rng: np.random.Generator, melanin: float, masculine: float) -> Eyes:
    dark_eyes = melanin > 0.5 or rng.random() < 0.3
    iris = linear_rgb(_IRIS_COLOURS[int(rng.integers(0, 2 if dark_eyes else len(_IRIS_COLOURS)))])
    made_up = masculine < 0.5 and rng.random() < 0.5
    return Eyes(
        distance=_spread(rng, 63, 4.2),
        width=_spread(rng, 31.5, 2.4),
        height=_spread(rng, 12.4 - 1.2 * masculine, 1.7),
        tilt=_spread(rng, 0.05, 0.075),
        depth=_spread(rng, 7, 2.4),
        iris_radius=_spread(rng, 6.2, 0.35),
        iris_colour=_rgb(iris * rng.uniform(0.7, 1.3)),
        crease=float(rng.uniform(0, 1)),
        lash=float(rng.uniform(0.8, 1.2)) if made_up else float(rng.uniform(0.2, 0.6)),
        shadow=float(rng.uniform(0.2, 0.8)) if made_up else 0.0,
    )


def _brows(rng: np.random.Generator, masculine: float) -> Brows:
    return Brows(
        height=_spread(rng, 20 - 3 * masculine, 2.8),
        thickness=max(1.4, _spread(rng, 2.6 + 2.2 * masculine, 1.1)),
        arch=_spread(rng, 3.2 - 1.5 * masculine, 1.8),
        length=_spread(rng, 42, 4.5),
        tilt=_spread(rng, 0.04, 0.09),
        density=float(rng.uniform(0.45, 1)),
        inner=_spread(rng, 11.5, 2.8),
    )


def _nose(rng: np.random.Generator, masculine: float) -> Nose:
    return Nose(
        length=_spread(rng, 38.5, 3.8),
        width=_spread(rng, 17 + masculine, 2.8),
        bridge=_spread(rng, 9 + masculine, 2.6),
        bridge_width=_spread(rng, 9.5, 1.6),
        tip=_spread(rng, 21, 3.2),
        tip_size=_spread(rng, 8, 1.5),
        hump=_spread(rng, 0.6, 1.6),
    )


def _mouth(rng: np.random.Generator, masculine: float, skin: Skin, nose: Nose, skull: Skull) -> Mouth:
    # Linear albedo of bare lips: skin with more red; half of the feminine faces wear lipstick.
    colour = np.asarray(skin.colour) * [0.8, 0.52, 0.56]
    if masculine < 0.5 and rng.random() < 0.5:
        stick = linear_rgb(np.array([rng.uniform(130, 190), rng.uniform(28, 78), rng.uniform(40, 90)]))
        share = rng.uniform(0.4, 0.85)
        colour = (1 - share) * colour + share * stick
    lowest = skull.chin_length - 30
    return Mouth(
        y=-min(nose.length + _spread(rng, 26.5, 2.6), lowest),
        width=_spread(rng, 25, 2.6),
        upper=max(2.2, _spread(rng, 6.2 - masculine, 1.8)),
        lower=max(3.5, _spread(rng, 8.6 - masculine, 2.0)),
        bow=float(rng.uniform(0.05, 0.5)),
        fullness=_spread(rng, 4, 1.5),
        colour=_rgb(colour),
    )


def _hair(rng: np.random.Generator, melanin: float, masculine: float, age: float) -> Hair:
    odds = _DARK_HAIR_ODDS if melanin > 0.45 else _FAIR_HAIR_ODDS
    name = str(rng.choice(list(_HAIR_COLOURS), p=odds))
    colour = linear_rgb(_HAIR_COLOURS[name]) * rng.uniform(0.75, 1.35)
    grey = float(np.clip((age - 0.55) * rng.uniform(0, 4), 0, 0.95))
    colour = (1 - grey) * colour + grey * linear_rgb((176, 174, 172))
    long_hair = rng.random() < (0.06 if masculine > 0.5 else 0.75)
    fringe = rng.random() < (0.18 if masculine > 0.5 else 0.35)
    return Hair(
        colour=_rgb(colour),
        hairline=_spread(rng, 62 + 8 * masculine * age, 6),
        recession=float(rng.uniform(0, 12)) + (22 * age * float(rng.random()) if masculine > 0.5 else 0.0),
        parting=float(rng.uniform(-1, 1)),
        fringe=float(rng.uniform(12, 30)) if fringe else 0.0,
        volume=float(rng.uniform(4, 13)) if masculine > 0.5 else float(rng.uniform(8, 20)),
        side_volume=float(rng.uniform(1, 8)) if masculine > 0.5 else float(rng.uniform(4, 14)),
        curl=float(rng.choice([0.0, rng.uniform(0.2, 0.6), 1.0], p=[0.45, 0.35, 0.2])),
        length=float(rng.uniform(0.35, 1)) if long_hair else 0.0,
        sideburn=float(rng.uniform(-30, 12)),
        bald=bool(masculine > 0.5 and rng.random() < 0.06 + 0.2 * age),
        pattern=int(rng.integers(2**31)),
    )


def _beard(rng: np.random.Generator, masculine: float, age: float, hair: Hair) -> Beard:
    kinds: tuple[BeardKind, ...] = ("none", "stubble", "moustache", "goatee", "full")
    odds = (0.4, 0.22, 0.1, 0.12, 0.16) if masculine > 0.5 and age > 0.05 else (1.0, 0.0, 0.0, 0.0, 0.0)
    kind = kinds[int(rng.choice(len(kinds), p=odds))]
    colour = np.asarray(hair.colour) * rng.uniform(0.7, 1.15) * [1.06, 1.0, 0.94]
    return Beard(kind, float(rng.uniform(0.6, 1)), _rgb(colour))


def _glasses(rng: np.random.Generator) -> Glasses:
    colours = ((22, 20, 22), (66, 42, 26), (120, 116, 112), (40, 44, 70), (110, 30, 34))
    return Glasses(
        half_width=float(rng.uniform(22, 27)),
        half_height=float(rng.uniform(15, 21)),
        squareness=float(rng.choice([2.0, 2.6, 4.0, 6.0])),
        rim=float(rng.uniform(0.7, 2.1)),
        colour=_rgb(linear_rgb(colours[int(rng.integers(len(colours)))])),
    )
