"""What surrounds a synthetic face: ears, neck, shoulders and the hair behind as ellipsoids, glasses, the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dsr.synthetic_hair import value_noise
from dsr.synthetic_head import Array, step
from dsr.synthetic_identity import Glasses, Identity
from dsr.synthetic_shot import Shot

Rotation = NDArray[np.float32]


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and radii in millimetres, in the head's or the body's frame; `colour` is linear RGB."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    colour: tuple[float, float, float]
    frame: Literal["head", "body"]
    texture: Literal["skin", "ear", "hair", "cloth"]


def ellipsoids(identity: Identity, shot: Shot) -> list[Ellipsoid]:
    """Neck and shoulders, and either the long hair behind the head or, with short hair, the ears."""
    skin, skull, hair = identity.skin.colour, identity.skull, identity.hair
    neck = skull.jaw_width * 0.8
    parts = [
        Ellipsoid((0, -150, -22), (neck, 120, 52), skin, "body", "skin"),
        Ellipsoid((0, -262, -42), (215, 105, 95), shot.clothes, "body", "cloth"),
    ]
    if hair.length:
        radii = (skull.width + hair.side_volume + 9, 92 + 75 * hair.length, 54)
        parts.append(Ellipsoid((0, 10 - 85 * hair.length, -46), radii, hair.colour, "head", "hair"))
    else:
        for side in (-1, 1):
            centre = (side * (skull.width + 1), -6.0, -14.0)
            parts.append(Ellipsoid(centre, (8, 31 * skull.ear_size, 17), skin, "head", "ear"))
    return parts


def ellipsoid_depth(part: Ellipsoid, x: Array, y: Array, rotation: Rotation) -> Array:
    """Depth towards the viewer where the rays through camera (x, y) meet the ellipsoid, -inf where they miss it."""
    # In the frame where the ellipsoid is the unit sphere.
    right, up, ray = rotation / np.array(part.radii, dtype=np.float32)
    start = [x * right[i] + y * up[i] - part.centre[i] / part.radii[i] for i in range(3)]
    a = float(ray @ ray)
    b = start[0] * ray[0] + start[1] * ray[1] + start[2] * ray[2]
    inside = b * b - a * (start[0] ** 2 + start[1] ** 2 + start[2] ** 2 - 1)
    depth: Array = np.where(inside > 0, (np.sqrt(np.maximum(inside, 0)) - b) / np.float32(a), np.float32(-np.inf))
    return depth


def ellipsoid_surface(part: Ellipsoid, x: Array, y: Array, depth: Array, rotation: Rotation) -> tuple[Array, Array]:
    """Camera-frame unit normal, and the point relative to the centre in the ellipsoid's own frame, both `(h, w, 3)`."""
    camera = np.stack([x, y, np.maximum(depth, -1000)], axis=-1)
    point = camera @ rotation - np.array(part.centre, dtype=np.float32)
    normal = (point / np.square(np.array(part.radii, dtype=np.float32))) @ rotation.T
    normal /= np.maximum(np.sqrt(np.einsum("hwc,hwc->hw", normal, normal)), 1e-9)[..., None]
    return normal, point


def ellipsoid_colour(part: Ellipsoid, point: Array, seed: int) -> Array:
    """Linear RGB and gloss `(h, w, 4)` at points relative to the centre."""
    colour = np.empty((*point.shape[:2], 4), dtype=np.float32)
    colour[..., :3] = part.colour
    colour[..., 3] = {"skin": 0.15, "ear": 0.15, "hair": 0.12, "cloth": 0.0}[part.texture]
    x, y, z = point[..., 0], point[..., 1], point[..., 2]
    if part.texture == "ear":
        colour[..., :3] *= (1 - 0.45 * np.exp(-((y / 14) ** 2) - ((z - 6) / 9) ** 2))[..., None]
        colour[..., 1:3] *= 0.88
    elif part.texture == "hair":
        noise = value_noise(np.random.default_rng([5, seed]), (64, 1024), (9, 300))
        column = (512 + 3.4 * x + 6 * np.sin(y / 17)).astype(np.float32)
        row = (32 + 0.25 * y).astype(np.float32)
        strand = cv2.remap(noise, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        colour[..., :3] *= np.exp(0.6 * strand - 0.25)[..., None]
    elif part.texture == "cloth":
        colour[..., :3] *= (1 + 0.08 * np.sin(x / 9 + 2 * np.sin(y / 23)))[..., None]
    return colour


def glasses_cover(glasses: Glasses, eye_distance: float, x: Array, y: Array) -> tuple[Array, Array]:
    """On the plane of the lenses, head frame: how much the rim and the glass cover, each `(h, w)` in [0, 1]."""
    side = np.abs(x)
    cx = eye_distance / 2 + 2.5
    power = glasses.squareness
    a, b = np.abs(side - cx) / glasses.half_width, np.abs(y + 2) / glasses.half_height
    level = (a**power + b**power) ** (1 / power)
    distance = (level - 1) * min(glasses.half_width, glasses.half_height)
    rim = step((glasses.rim - np.abs(distance)) / 1.2)
    inner = max(cx - glasses.half_width, 4.0)
    bridge = step((inner + 1 - side) / 1.2) * step((max(glasses.rim, 1.2) - np.abs(y - 3)) / 1.2)
    return np.maximum(rim, bridge), step(-distance / 1.2)


def background(seed: int, x: Array, y: Array) -> Array:
    """Linear RGB `(h, w, 3)` behind the person, at camera (x, y) in millimetres."""
    rng = np.random.default_rng([6, seed])
    size = 160
    first, second = rng.uniform(0.02, 0.75, size=(2, 3)).astype(np.float32)
    grey = rng.uniform(0.45, 1)
    first, second = (grey * c.mean() + (1 - grey) * c for c in (first, second))
    blend = value_noise(rng, (size, size), (int(rng.integers(2, 5)),) * 2)
    kind = int(rng.integers(4))
    if kind == 1:
        blend = value_noise(rng, (size, size), (14, 14)) + 0.5 * value_noise(rng, (size, size), (45, 45))
    elif kind == 2:
        edges = np.sort(rng.uniform(0, size, size=5))
        blend = np.tile(rng.uniform(-1, 1, size=6)[np.searchsorted(edges, np.arange(size))], (size, 1))
        blend = cv2.GaussianBlur(blend.astype(np.float32), (0, 0), float(rng.uniform(0.5, 3)))
    canvas = first + (0.5 + 0.5 * np.clip(blend, -1, 1))[..., None] * (second - first)
    canvas = canvas.astype(np.float32)
    if kind == 3:
        _lights(canvas, rng)
    column, row = (size / 2 + x * 0.28).astype(np.float32), (size / 2 - y * 0.28).astype(np.float32)
    return cv2.remap(canvas, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _lights(canvas: Array, rng: np.random.Generator) -> None:
    """Blurred discs, as of lamps far behind."""
    for _ in range(int(rng.integers(5, 16))):
        at = (int(rng.integers(160)), int(rng.integers(160)))
        colour = tuple(float(value) for value in rng.uniform(0.1, 0.9, size=3))
        cv2.circle(canvas, at, int(rng.integers(4, 18)), colour, -1, cv2.LINE_AA)
    cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(1, 4)), dst=canvas)
