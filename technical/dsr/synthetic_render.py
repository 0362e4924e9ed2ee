"""Draw one picture of a synthetic person: cast rays, light what they meet, lay the parts over each other.

The camera is orthographic and looks along -z; its plane is in millimetres, x right, y up, with the middle of the head
at the origin. Ray casting is by sphere tracing (Hart 1996) against the radius map; shading is Lambert's, wrapped a
little in red as skin scatters it, plus Blinn's highlight, with ambient light from above and below.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dsr.synthetic_head import Array, step, texel
from dsr.synthetic_identity import Identity
from dsr.synthetic_maps import Head
from dsr.synthetic_parts import (
    Ellipsoid,
    Rotation,
    background,
    ellipsoid_colour,
    ellipsoid_depth,
    ellipsoid_surface,
    ellipsoids,
    glasses_cover,
)
from dsr.synthetic_shot import Light, Shot

OVERSAMPLING = 2
_WRAP = np.array([0.24, 0.12, 0.08], dtype=np.float32)


@dataclass
class _Canvas:
    """Camera coordinates of the samples, what is drawn so far (linear RGB) and how near it is."""

    x: Array
    y: Array
    colour: Array
    depth: Array


def rotation_of(yaw: float, pitch: float, roll: float) -> Rotation:
    """Head frame to camera frame: turn by `yaw`, nod by `pitch`, tilt by `roll` (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def render(
    identity: Identity, shot: Shot, head: Head, rotation: Rotation, to_plane: NDArray[np.float64], size: int
) -> NDArray[np.uint8]:
    """RGB uint8 `(size, size, 3)`; `to_plane` `(2, 3)` takes an output pixel (column, row, 1) to camera x and y."""
    canvas = _blank(shot, to_plane, size)
    body = rotation_of(0.25 * shot.yaw, 0.0, 0.2 * shot.roll)
    _draw_head(canvas, head, rotation, shot)
    for part in ellipsoids(identity, shot):
        _draw_ellipsoid(canvas, part, rotation if part.frame == "head" else body, shot, identity.hair.pattern)
    if identity.glasses is not None:
        _draw_glasses(canvas, identity, head, rotation, shot)
    return _develop(canvas.colour, shot, size)


def _blank(shot: Shot, to_plane: NDArray[np.float64], size: int) -> _Canvas:
    at = ((np.arange(size * OVERSAMPLING) + 0.5) / OVERSAMPLING - 0.5).astype(np.float32)
    columns, rows = np.meshgrid(at, at)
    m = to_plane.astype(np.float32)
    x = m[0, 0] * columns + m[0, 1] * rows + m[0, 2]
    y = m[1, 0] * columns + m[1, 1] * rows + m[1, 2]
    return _Canvas(x, y, background(shot.background_seed, x, y), np.full_like(x, -np.inf))


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _draw_ellipsoid(canvas: _Canvas, part: Ellipsoid, rotation: Rotation, shot: Shot, pattern: int) -> None:
    depth = ellipsoid_depth(part, canvas.x, canvas.y, rotation)
    window = _window(depth > canvas.depth)
    if window is None:
        return
    x, y, depth = canvas.x[window], canvas.y[window], depth[window]
    normal, point = ellipsoid_surface(part, x, y, depth, rotation)
    surface = ellipsoid_colour(part, point, pattern)
    # The head keeps light from the neck and from the hair behind it.
    open_sky = np.clip(0.55 - (y + 90) / 180, 0.4, 1) if part.texture in ("skin", "cloth") else 0.75
    openness = np.broadcast_to(np.asarray(open_sky, dtype=np.float32), depth.shape)
    colour = shade(surface, normal, openness, openness, shot.light)
    _lay(canvas, window, depth, depth > canvas.depth[window], colour)


def _lay(canvas: _Canvas, window: tuple[slice, slice], depth: Array, alpha: NDArray[np.bool_], colour: Array) -> None:
    np.copyto(canvas.colour[window], colour, where=alpha[..., None])
    np.copyto(canvas.depth[window], depth, where=alpha)


def _draw_head(canvas: _Canvas, head: Head, rotation: Rotation, shot: Shot) -> None:
    reach = float(head.radius.max()) + 1
    window = _window(canvas.x**2 + canvas.y**2 < reach**2)
    if window is None:
        return
    x, y = canvas.x[window], canvas.y[window]
    depth, hit = _trace(head.radius, x, y, rotation, reach)
    point = _to_head(x, y, depth, rotation)
    column, row = texel(point, _length(point))
    sampled = cv2.remap(head.surface, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    surface = cv2.remap(head.colour, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    normal = sampled[..., :3] @ rotation.T
    normal /= np.maximum(np.sqrt(np.einsum("hwc,hwc->hw", normal, normal)), 1e-6)[..., None]
    lit = _unshadowed(head.radius, point, rotation.T @ np.array(shot.light.direction, dtype=np.float32))
    colour = shade(surface, normal, sampled[..., 3], lit, shot.light)
    _lay(canvas, window, depth, hit & (depth > canvas.depth[window]), colour)


def _to_head(x: Array, y: Array, depth: Array, rotation: Rotation) -> Array:
    """Camera points to the head frame, `(3, h, w)`."""
    return np.stack([x * rotation[0, i] + y * rotation[1, i] + depth * rotation[2, i] for i in range(3)])


def _length(point: Array) -> Array:
    length: Array = np.sqrt(point[0] ** 2 + point[1] ** 2 + point[2] ** 2)
    return length


def _below_surface(radius: Array, point: Array) -> Array:
    """Millimetres that points `(3, h, w)` lie under the surface, measured along the radius; negative outside."""
    length = _length(point)
    column, row = texel(point, length)
    return cv2.remap(radius, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - length


def _trace(radius: Array, x: Array, y: Array, rotation: Rotation, reach: float) -> tuple[Array, NDArray[np.bool_]]:
    """Depth towards the viewer where the ray through (x, y) meets the head, and whether it does."""
    sparse = np.ascontiguousarray(x[::2, ::2]), np.ascontiguousarray(y[::2, ::2])
    start = np.sqrt(np.maximum(np.float32(reach**2) - sparse[0] ** 2 - sparse[1] ** 2, 0))
    rough, _ = _march(radius, *sparse, start, rotation, 9)
    # Never start below a neighbour: the nearest of the block, and a little to spare.
    rough = cv2.dilate(rough, np.ones((3, 3), np.uint8)) + 3
    start = cv2.resize(rough, x.shape[::-1], interpolation=cv2.INTER_LINEAR)
    depth, hit = _march(radius, x, y, start, rotation, 9)
    # Rays that graze the underside of the nose creep towards it: no hole of a few samples is one.
    closed = cv2.morphologyEx(hit.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    return depth, closed.astype(np.bool_)


def _march(
    radius: Array, x: Array, y: Array, depth: Array, rotation: Rotation, steps: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Step from `depth` by about the distance to the surface each time; a ray that came within 1 mm of it hit it."""
    nearest = np.full_like(x, -np.inf)
    start = [x * rotation[0, i] + y * rotation[1, i] for i in range(3)]
    aside = x * x + y * y
    for _ in range(steps):
        length = np.sqrt(aside + depth * depth)
        column, row = texel([start[i] + depth * rotation[2, i] for i in range(3)], length)
        under = cv2.remap(radius, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - length
        nearest = np.maximum(nearest, under)
        # Outside, a grazing ray is farther from the surface than the radius says; inside, come back with care.
        depth = depth + np.where(under < 0, np.float32(1.1) * under, np.minimum(np.float32(0.6) * under, 3))
    return depth, nearest > -1


def _unshadowed(radius: Array, point: Array, towards: Array) -> Array:
    """1 where the light is seen, towards 0 where the head itself stands in its way; soft, `(h, w)`."""
    size = point.shape[:0:-1]
    point = np.ascontiguousarray(point[:, ::2, ::2])
    lit = np.ones(point.shape[1:], dtype=np.float32)
    for distance in (5, 10, 17, 26, 38, 54):
        under = _below_surface(radius, point + np.float32(distance) * towards[:, None, None])
        lit = np.minimum(lit, 1 - step(under / (2 + 0.14 * distance) - 0.5))
    return cv2.resize(cv2.GaussianBlur(lit, (0, 0), 0.9), size, interpolation=cv2.INTER_LINEAR)


def shade(surface: Array, normal: Array, openness: Array, lit: Array, light: Light) -> Array:
    """Linear RGB `(h, w, 3)` of a lit surface: colour and gloss `(h, w, 4)`, unit normal `(h, w, 3)` facing +z."""
    direction = np.array(light.direction, dtype=np.float32)
    key, sky, ground = (np.array(c, dtype=np.float32) for c in (light.colour, light.ambient, light.bounce))
    facing = normal @ direction
    up = 0.5 + 0.5 * normal[..., 1]
    half = direction + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    shine = np.maximum(normal @ half, 0)
    shine = (shine * shine * shine) ** 8 * surface[..., 3] * lit * 0.33
    colour = np.empty((*facing.shape, 3), dtype=np.float32)
    for c, wrap in enumerate(_WRAP):
        diffuse = np.maximum(facing + wrap, 0) * lit * (key[c] / (1 + wrap))
        ambient = (ground[c] + up * (sky[c] - ground[c])) * openness
        colour[..., c] = surface[..., c] * (diffuse + ambient) + shine * key[c]
    return colour


def _draw_glasses(canvas: _Canvas, identity: Identity, head: Head, rotation: Rotation, shot: Shot) -> None:
    glasses = identity.glasses
    assert glasses is not None
    front = float(head.landmarks[:2, 2].mean()) + 13
    window = _window((np.abs(canvas.x) < 105) & (np.abs(canvas.y) < 75))
    if window is None:
        return
    x, y = canvas.x[window], canvas.y[window]
    # Where the ray meets the plane z = front of the head frame.
    depth = (front - x * rotation[0, 2] - y * rotation[1, 2]) / rotation[2, 2]
    px, py, _ = _to_head(x, y, depth, rotation)
    rim, glass = glasses_cover(glasses, identity.eyes.distance, px, py)
    seen = depth > canvas.depth[window] - 12
    light = np.array(shot.light.ambient, dtype=np.float32)
    key = np.array(shot.light.colour, dtype=np.float32)
    sheen = 0.05 * np.exp(-(((px * 0.5 + py - 6) / 7) ** 2))
    target = canvas.colour[window]
    target *= 1 - 0.06 * (glass * seen)[..., None]
    target += (glass * seen * sheen)[..., None] * key
    colour = np.array(glasses.colour, dtype=np.float32) * (light + 0.5 * key) + 0.01
    target += (rim * seen)[..., None] * (colour - target)


def _develop(linear: Array, shot: Shot, size: int) -> NDArray[np.uint8]:
    """Reduce the samples to pixels, expose, blur, encode and add the sensor's noise."""
    pixels = cv2.resize(linear, (size, size), interpolation=cv2.INTER_AREA) * np.float32(shot.exposure)
    if shot.blur > 0.15:
        pixels = cv2.GaussianBlur(pixels, (0, 0), shot.blur)
    # A soft shoulder instead of burnt-out highlights.
    encoded = 255 * np.clip(pixels / (1 + 0.25 * np.maximum(pixels - 0.4, 0)), 0, 1) ** np.float32(1 / 2.2)
    rng = np.random.default_rng(shot.noise_seed)
    encoded += np.float32(shot.noise) * rng.standard_normal(encoded.shape, dtype=np.float32)
    return np.clip(np.rint(encoded), 0, 255).astype(np.uint8)
