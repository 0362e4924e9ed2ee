"""The shape of a synthetic head: a radius for every direction from the middle of the head.

The directions lie on an equal-area azimuthal map (Lambert 1772; Snyder, "Map Projections", USGS 1987, eq. 24) centred
on the face: texel (u, v) is the direction (u s, v s, 1 - rho^2 / 2) with rho^2 = u^2 + v^2 and s = sqrt(1 - rho^2 / 4).
The front of the head is nearly flat on it, and a ray can be intersected with the head without any mesh.

Features are placed in `rest` coordinates: the (x, y, z) in millimetres of a texel on the bare skull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dsr.synthetic_identity import Identity, Mouth, Nose, Skull
from dsr.synthetic_shot import Expression

SIZE = 448  # texels a side of the map
REACH = 1.7  # |u| and |v| at the map's border: 116 degrees from straight ahead

Array = NDArray[np.floating[Any]]  # float32 wherever it has the size of a picture
FACE = (slice(96, 400), slice(56, 392))  # the part of the map that the face's relief stands on
MOVING = (slice(160, 384), slice(112, 336))  # the part of it that an expression moves and repaints


@dataclass(frozen=True)
class Rest:
    """The bare skull: `radius`, `x`, `y`, `z` are `(SIZE, SIZE)` in millimetres."""

    radius: Array
    x: Array
    y: Array
    z: Array

    def window(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        """Rest x and y of the texels in a window of the map."""
        return self.x[window], self.y[window]


@lru_cache(maxsize=1)
def directions() -> Array:
    """Unit direction of every texel, `(3, SIZE, SIZE)`; row 0 is the top of the head."""
    axis = np.linspace(-REACH, REACH, SIZE, dtype=np.float32)
    u, v = np.meshgrid(axis, -axis)
    rho2 = np.minimum(u**2 + v**2, 3.96)
    scale = np.sqrt(1 - rho2 / 4)
    found = np.stack([u * scale, v * scale, 1 - rho2 / 2])
    return (found / np.linalg.norm(found, axis=0)).astype(np.float32)


def texel(point: Sequence[Array] | Array, length: Array) -> tuple[Array, Array]:
    """Column and row on the map (float32, for cv2.remap) of the directions of points at `length` from (0, 0, 0).

    Directions behind the head fall outside the map.
    """
    x, y, z = point
    scale = np.float32((SIZE - 1) / (2 * REACH)) * np.sqrt(2 / np.maximum(length * (length + z), 1))
    middle = np.float32((SIZE - 1) / 2)
    return x * scale + middle, middle - y * scale


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """A Gaussian hill of height 1 at (cx, cy) with spreads sx, sy; pass |x| for one on either side."""
    hill: Array = np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
    return hill


def step(value: Array) -> Array:
    """0 below -1/2, 1 above +1/2, smooth between."""
    t = np.clip(value + 0.5, 0, 1)
    smooth: Array = t * t * (3 - 2 * t)
    return smooth


def rest_head(skull: Skull) -> Rest:
    """Cranium and jaw ellipsoids, blended by a smooth maximum of their radii."""
    d = directions()
    cranium = _ellipsoid_radius(d, (0, 22, -12), (skull.width, skull.height - 22, skull.depth))
    jaw = _ellipsoid_radius(d, (0, -38, 8), (skull.jaw_width, skull.chin_length - 38, 78))
    blend = np.float32(5.0)
    most = np.maximum(cranium, jaw)
    radius = most + blend * np.log(np.exp((cranium - most) / blend) + np.exp((jaw - most) / blend))
    side = np.abs(d[0])
    radius += 5.0 * bump(side, d[1], 0.6, 0.62, 0.22, 0.24)  # a cranium is squarer than an ellipsoid
    radius += 3.5 * bump(side, d[1], 0.26, -0.82, 0.13, 0.16) * (d[2] > 0)  # and a chin less pointed
    radius = radius.astype(np.float32)
    x, y, z = radius * d
    return Rest(radius, x, y, z)


def _ellipsoid_radius(d: Array, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """Distance from the origin, which lies inside, to an ellipsoid along the directions `d`."""
    scale = (1 / np.array(radii, dtype=np.float32) ** 2)[:, None, None]
    c = np.array(centre, dtype=np.float32)[:, None, None]
    a, b, e = (d * d * scale).sum(0), (d * c * scale).sum(0), (c * c * scale).sum() - 1
    radius: Array = (b + np.sqrt(b * b - a * e)) / a
    return radius


def place(rest: Rest, points: Array) -> tuple[Array, Array]:
    """Columns and rows `(1, N)` of the texels on the front whose rest positions are the (x, y) of `points` `(N, 2)`."""
    x, y = points.T[:, None]
    z = np.full_like(x, 85)
    for _ in range(8):
        column, row = texel((x, y, z), np.sqrt(x * x + y * y + z * z))
        radius = cv2.remap(rest.radius, column, row, cv2.INTER_LINEAR)
        z = np.sqrt(np.maximum(radius**2 - x * x - y * y, 1))
    return column, row


def features(identity: Identity, rest: Rest) -> Array:
    """Millimetres that the resting face's features stand out from the skull, on the FACE window."""
    x, y = rest.window(FACE)
    side = np.abs(x)
    skull, eyes = identity.skull, identity.eyes
    half = eyes.distance / 2
    out = skull.brow_ridge * bump(side, y, 27, 15, 18, 6)
    out -= eyes.depth * bump(side, y, half, 1, 15, 9)
    out += 4.2 * bump(side, y, half, 0, 9, 6.5)
    out += skull.cheekbone * bump(side, y, 46, -24, 15, 12)
    out += skull.cheek_full * bump(side, y, 42, -56, 14, 18)
    out += skull.jaw_corner * bump(side, y, 50, -72, 12, 14)
    out += skull.chin_forward * bump(side, y, 0, 6 - skull.chin_length, skull.chin_width, 13)
    out += identity.mouth.fullness * bump(side, y, 0, identity.mouth.y, 27, 17)
    out -= 2.2 * (0.3 + identity.skin.age) * _nasolabial(identity, x, y)
    return out + _nose_relief(identity.nose, x, y)


def _nasolabial(identity: Identity, x: Array, y: Array) -> Array:
    """The fold from the wings of the nose to beside the mouth: 1 on it, 0 off it."""
    nose, mouth = identity.nose, identity.mouth
    top, bottom = -nose.length + 4, mouth.y - 8
    along = (y - bottom) / (top - bottom)
    line = nose.width + 3 + (mouth.width + 6 - nose.width) * (1 - along)
    inside = step((along - 0.05) / 0.3) * step((1.05 - along) / 0.25)
    fold: Array = np.exp(-0.5 * ((np.abs(x) - line) / 2.6) ** 2) * inside
    return fold


def _nose_relief(nose: Nose, x: Array, y: Array) -> Array:
    side = np.abs(x)
    tip_y = -nose.length + 5
    knots = [-nose.length - 7, -nose.length - 2, tip_y, tip_y * 0.55, -4, 10, 22]
    heights = [0, 5, nose.tip, 0.42 * nose.tip + 0.58 * nose.bridge + nose.hump, nose.bridge, 0.55 * nose.bridge, 0]
    table = np.interp(np.arange(-90, 40), knots, heights).astype(np.float32)[None]
    table = cv2.GaussianBlur(table, (0, 0), 1.6)
    ridge = cv2.remap(table, (y + 90).astype(np.float32), np.zeros_like(y), cv2.INTER_LINEAR)
    towards_tip = np.clip(y / tip_y, 0, 1)
    half = nose.bridge_width + (nose.tip_size + 2.5 - nose.bridge_width) * towards_tip
    relief = ridge * np.exp(-((side / half) ** 2))
    relief += 2.5 * bump(side, y, 0, tip_y + 1, nose.tip_size * 0.6, nose.tip_size * 0.55)
    relief += 9.0 * bump(side, y, nose.width - 5, -nose.length + 2, 4.6, 4.8)
    relief -= 3.5 * bump(side, y, nose.width * 0.42, -nose.length - 3, 3.2, 2.0)
    return relief.astype(np.float32)


def expression_relief(mouth: Mouth, expression: Expression, x: Array, y: Array) -> Array:
    """Millimetres that lips and cheeks stand out under an expression, at rest positions x, y."""
    side = np.abs(x)
    smile, opened = expression.smile, expression.mouth_open
    width = mouth_half_width(mouth, expression)
    out = mouth.upper * 0.62 * bump(side, y, 0, mouth.y + 0.35 * opened + mouth.upper * 0.45, width * 0.6, 3.2)
    out += mouth.lower * 0.62 * bump(side, y, 0, mouth.y - 0.65 * opened - mouth.lower * 0.5, width * 0.52, 3.8)
    out -= 1.6 * bump(side, y, 0, mouth.y - mouth.lower - 6, width * 0.5, 3.5)
    out -= 1.8 * bump(side, y, width + 1, mouth.y + 4 * smile, 4, 4)
    out += max(smile, 0) * 4.5 * bump(side, y, 37, -34, 11, 11)
    out -= max(smile, 0) * 1.6 * bump(side, y, width + 9, mouth.y + 6, 4, 10)
    return out.astype(np.float32)


def mouth_half_width(mouth: Mouth, expression: Expression) -> float:
    """Half the width of the mouth in millimetres; a smile widens it."""
    return mouth.width * (1 + 0.16 * expression.smile)


def landmarks_at_rest(identity: Identity, expression: Expression) -> Array:
    """Rest (x, y), `(5, 2)`: viewer's left eye, right eye, nose tip, left and right mouth corner."""
    half = identity.eyes.distance / 2
    corner = mouth_half_width(identity.mouth, expression)
    corner_y = identity.mouth.y + 4 * expression.smile
    tip = 5 - identity.nose.length
    points = [(-half, 0), (half, 0), (0, tip), (-corner, corner_y), (corner, corner_y)]
    return np.array(points, dtype=np.float32)
