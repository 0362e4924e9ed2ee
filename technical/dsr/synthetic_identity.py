"""Who a synthetic person is: the numbers that stay the same in all of their pictures.

Lengths are millimetres in the head's frame: x to the viewer's right, y up, z towards the viewer, the pupils on y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rgb = tuple[float, float, float]
BeardKind = Literal["none", "stubble", "moustache", "goatee", "full"]


@dataclass(frozen=True)
class Skin:
    colour: Rgb  # linear RGB in [0, 1]
    redness: float  # of cheeks, nose and ears, 0 to 1
    mottling: float
    freckles: float  # density, 0 to 1
    moles: tuple[tuple[float, float, float], ...]  # x, y and radius
    age: float  # 0 young to 1 old: folds, lines, shadows under the eyes


@dataclass(frozen=True)
class Skull:
    width: float
    height: float  # of the cranium above the eyes
    depth: float
    jaw_width: float
    jaw_corner: float
    chin_length: float  # from the eyes down
    chin_forward: float
    chin_width: float
    cheekbone: float
    cheek_full: float
    brow_ridge: float
    ear_size: float


@dataclass(frozen=True)
class Eyes:
    distance: float
    width: float
    height: float
    tilt: float  # outer corner up, in radians
    depth: float
    iris_radius: float
    iris_colour: Rgb
    crease: float  # strength of the fold above the lid
    lash: float
    shadow: float  # make-up


@dataclass(frozen=True)
class Brows:
    height: float
    thickness: float
    arch: float
    length: float
    tilt: float
    density: float
    inner: float  # distance of the inner end from the middle


@dataclass(frozen=True)
class Nose:
    length: float
    width: float
    bridge: float  # height of the bridge over the face
    bridge_width: float
    tip: float  # how far the tip stands out
    tip_size: float
    hump: float


@dataclass(frozen=True)
class Mouth:
    y: float
    width: float
    upper: float  # thickness of the lips
    lower: float
    bow: float
    fullness: float
    colour: Rgb


@dataclass(frozen=True)
class Hair:
    colour: Rgb
    hairline: float  # height over the eyes
    recession: float  # of the temples
    parting: float  # side of the parting, -1 to 1
    fringe: float  # how far the hair falls over the forehead
    volume: float  # thickness of the hair
    side_volume: float
    curl: float  # 0 straight to 1 curly
    length: float  # of the hair behind the face, 0 short to 1 over the shoulders
    sideburn: float
    bald: bool
    pattern: int  # seed of the strands


@dataclass(frozen=True)
class Beard:
    kind: BeardKind
    density: float
    colour: Rgb


@dataclass(frozen=True)
class Glasses:
    half_width: float
    half_height: float
    squareness: float  # 2 is an ellipse, 6 nearly a rectangle
    rim: float
    colour: Rgb


@dataclass(frozen=True)
class Identity:
    skin: Skin
    skull: Skull
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    hair: Hair
    beard: Beard
    glasses: Glasses | None
