"""The colouring of a synthetic head, painted on the map of `synthetic_head`: linear RGB and gloss, `(4, H, W)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsr.synthetic_hair import value_noise
from dsr.synthetic_head import MOVING, Array, Rest, bump, mouth_half_width, step
from dsr.synthetic_identity import Identity
from dsr.synthetic_shot import Expression

SKIN_GLOSS = 0.22


def paint_skin(identity: Identity, rest: Rest, beard: Array, rng: np.random.Generator) -> Array:
    """Everything that no expression moves: skin, its marks and the beard; `(4, SIZE, SIZE)`."""
    skin, shape = identity.skin, rest.x.shape
    side = np.abs(rest.x)
    colour = np.empty((4, *shape), dtype=np.float32)
    colour[:] = np.array([*skin.colour, SKIN_GLOSS])[:, None, None]
    mottled = 0.035 * value_noise(rng, shape, (34, 34)) + 0.03 * value_noise(rng, shape, (150, 150))
    colour[:3] *= 1 + skin.mottling * mottled
    red = bump(side, rest.y, 40, -36, 15, 13) + 0.9 * bump(side, rest.y, 0, -identity.nose.length + 6, 12, 9)
    red += 0.5 * bump(side, rest.y, 0, 6 - identity.skull.chin_length, 14, 10)
    for channel, share in enumerate((0.1, 0.42, 0.4)):
        colour[channel] *= 1 - (0.5 * share * skin.redness) * red
    tired = bump(side, rest.y, identity.eyes.distance / 2 - 3, -11, 11, 4) * (0.12 + 0.3 * skin.age)
    tired += 0.25 * bump(side, rest.y, identity.eyes.distance / 2 - 12, 3, 6, 9)
    _blend(colour, tired, np.asarray(skin.colour) * [0.55, 0.42, 0.45], SKIN_GLOSS)
    _paint_marks(identity, rest, colour, rng)
    _paint_lines(identity, rest, colour)
    _blend(colour, beard, identity.beard.colour, 0.1)
    return colour


def _paint_marks(identity: Identity, rest: Rest, colour: Array, rng: np.random.Generator) -> None:
    skin = identity.skin
    dark = np.asarray(skin.colour) * [0.42, 0.3, 0.26]
    if skin.freckles:
        spots = np.clip(value_noise(rng, rest.x.shape, (120, 120)) - 0.25, 0, 1) * 1.3
        where = bump(np.abs(rest.x), rest.y, 24, -22, 24, 17)
        _blend(colour, spots * where * skin.freckles, dark * 1.5, SKIN_GLOSS)
    for x, y, radius in skin.moles:
        distance = np.hypot(rest.x - x, rest.y - y) + 1000 * (rest.z < 0)
        _blend(colour, 0.9 * step((radius - distance) / 1.2), dark, SKIN_GLOSS)


def _paint_lines(identity: Identity, rest: Rest, colour: Array) -> None:
    """Lines on the forehead and beside the eyes, by age."""
    age = max(0.0, identity.skin.age - 0.3)
    if age == 0:
        return
    waves = np.exp(-(((rest.y - 44 + 0.002 * rest.x**2) % 9 - 4.5) ** 2) / 0.8)
    forehead = waves * bump(np.abs(rest.x), rest.y, 0, 44, 24, 11)
    crow = np.exp(-(((rest.y + 0.35 * np.abs(rest.x)) % 6 - 3) ** 2) / 0.8)
    crow = crow * bump(np.abs(rest.x), rest.y, identity.eyes.distance / 2 + 23, -3, 5, 8)
    _blend(colour, 0.75 * age * (forehead + crow), np.asarray(identity.skin.colour) * [0.5, 0.38, 0.38], SKIN_GLOSS)


def paint_expression(
    identity: Identity, rest: Rest, expression: Expression, glint: Sequence[float], face: Array
) -> None:
    """Paint nostrils, lips, brows and eyes onto the MOVING window `face` `(4, h, w)`, in place.

    `glint` is where the light is mirrored in the eyes: (x, y) of its unit direction.
    """
    x, y = rest.window(MOVING)
    _paint_nostrils(identity, x, y, face)
    _paint_mouth(identity, expression, x, y, face)
    for side in (-1, 1):
        middle = side * identity.eyes.distance / 2
        window, ex, ey = _near(x, y, middle, 22.0, 40, 18)
        _paint_brow(identity, expression, ex * side, ey + 22, face[:, *window])
        window, ex, ey = _near(x, y, middle, 1.0, 22, 15)
        _paint_eye(identity, expression, ex, ey + 1, side, glint, face[:, *window])


def _near(
    x: Array, y: Array, cx: float, cy: float, half_x: float, half_y: float
) -> tuple[tuple[slice, slice], Array, Array]:
    """The rectangle of texels within half_x, half_y of (cx, cy), and their coordinates from there."""
    inside = (np.abs(x - cx) < half_x) & (np.abs(y - cy) < half_y)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return window, x[window] - cx, y[window] - cy


def _blend(layer: Array, alpha: Array, colour: Sequence[float] | np.ndarray, gloss: float) -> None:
    """Cover `layer` `(4, h, w)` with a colour and a gloss where `alpha` `(h, w)` says so, in place."""
    alpha = np.clip(alpha, 0, 1).astype(np.float32)
    for plane, target in zip(layer, (*colour, gloss), strict=True):
        plane += alpha * (np.float32(target) - plane)


def _paint_nostrils(identity: Identity, x: Array, y: Array, whole: Array) -> None:
    nose = identity.nose
    window, x, y = _near(x, y, 0.0, 0.0, nose.width + 8, nose.length + 12)
    face = whole[:, *window]
    hole = bump(np.abs(x), y, nose.width * 0.45, -nose.length - 2.2, 2.9, 1.7)
    wing = bump(np.abs(x), y, nose.width + 1.5, -nose.length + 2, 1.6, 5)
    dark = np.asarray(identity.skin.colour)
    _blend(face, step((hole - 0.45) / 0.5) * 0.92, dark * [0.12, 0.06, 0.06], 0.05)
    _blend(face, 0.4 * wing, dark * [0.45, 0.35, 0.35], 0.1)


def _paint_mouth(identity: Identity, expression: Expression, x: Array, y: Array, whole: Array) -> None:
    mouth, smile, opened = identity.mouth, expression.smile, expression.mouth_open
    width = mouth_half_width(mouth, expression)
    window, x, y = _near(x, y, 0.0, mouth.y, width + 8, 26)
    face = whole[:, *window]
    t = x / width
    arch = np.clip(1 - t * t, 0, 1)
    line = 4 * smile * t * t - 0.8 * np.exp(-((t / 0.25) ** 2)) * mouth.bow
    gap_top, gap_low = line + 0.35 * opened * arch, line - 0.65 * opened * arch
    thin = 1 - 0.18 * max(smile, 0)
    bow = 1 - mouth.bow * np.exp(-((t / 0.16) ** 2))
    top = gap_top + mouth.upper * thin * bow * arch**0.75
    low = gap_low - mouth.lower * thin * arch**0.8
    lips = step((top - y) / 1.3) * step((y - low) / 1.6) * (np.abs(t) < 1)
    tone = np.asarray(mouth.colour)
    _blend(face, lips * 0.92, tone, 0.32)
    _blend(face, lips * step((y - gap_top) / 2) * 0.35, tone * 0.7, 0.3)
    below = bump(x, y, 0, float(low.min()) - 3, width * 0.45, 2)
    _blend(face, 0.3 * below, np.asarray(identity.skin.colour) * 0.5, 0.1)
    hole = step((gap_top - y) / 0.9) * step((y - gap_low) / 0.9) * (np.abs(t) < 1)
    _blend(face, hole, (0.06, 0.015, 0.013), 0.1)
    if opened:
        bite = gap_top - (0.75 * opened) * arch
        gaps = 1 - 0.25 * np.exp(-(((np.abs(x) % 7.5) / 0.6) ** 2))
        _blend(face, hole * step((y - bite) / 0.9), np.array([0.7, 0.66, 0.58]) * 0.95, 0.3)
        face[:3] *= 1 - hole * (1 - gaps * (1 - 0.45 * t * t))
    seam = np.exp(-(((y - line) / 0.75) ** 2)) * step((1.04 - np.abs(t)) / 0.1)
    _blend(face, 0.85 * seam * (1 - min(opened / 3, 1)), tone * [0.2, 0.14, 0.14], 0.1)
    corner = bump(np.abs(x), y, width, 4 * smile, 2.2, 1.6)
    _blend(face, 0.6 * corner, tone * 0.25, 0.1)


def _paint_brow(identity: Identity, expression: Expression, out: Array, y: Array, face: Array) -> None:
    """`out` is x from the pupil, growing towards the temple."""
    brows = identity.brows
    inner = brows.inner - identity.eyes.distance / 2
    t = (out - inner) / brows.length
    rise = brows.arch * (1 - ((t - 0.62) / 0.62) ** 2)
    line = brows.height + expression.brow_raise + rise + brows.tilt * (out - inner)
    half = brows.thickness * np.sqrt(np.clip(t / 0.12, 0, 1)) * (1 - 0.75 * np.clip(t, 0, 1) ** 1.6)
    mask = step((half - np.abs(y - line)) / 2.2) * step(t / 0.08) * step((1 - t) / 0.1)
    hairs = 0.78 + 0.22 * np.sin(2.4 * out + 1.6 * (y - line))
    colour = np.asarray(identity.hair.colour)
    dark = np.minimum(colour * 0.6, np.asarray(identity.skin.colour) * 0.55)
    _blend(face, mask * hairs * (0.5 + 0.5 * brows.density), dark, 0.08)


def _paint_eye(
    identity: Identity, expression: Expression, x: Array, y: Array, side: int, glint: Sequence[float], face: Array
) -> None:
    eyes = identity.eyes
    out = x * side
    lifted = y - np.sin(eyes.tilt) * out
    t = out / (eyes.width / 2)
    upper = 0.55 * eyes.height * expression.eye_open * np.clip(1 - np.abs(t + 0.08) ** 2.3, -0.5, 1)
    lower = -0.45 * eyes.height * (1 - 0.12 * max(expression.smile, 0)) * np.clip(1 - np.abs(t - 0.1) ** 2, -0.5, 1)
    skin = np.asarray(identity.skin.colour)
    lid = step((upper + 7 - lifted) / 6) * step((lifted - upper) / 2) * step((1.25 - np.abs(t)) / 0.4)
    if eyes.shadow:
        _blend(face, 0.6 * eyes.shadow * lid, skin * [0.42, 0.3, 0.36], 0.2)
    crease = np.exp(-(((lifted - 0.8 * upper - 3.6) / 0.9) ** 2)) * step((1.1 - np.abs(t)) / 0.3)
    _blend(face, 0.55 * eyes.crease * crease, skin * [0.36, 0.26, 0.26], 0.15)
    ball = step((upper - lifted) / 0.9) * step((lifted - lower) / 0.9) * step((1 - np.abs(t)) / 0.06)
    white = np.array([0.62, 0.58, 0.56])
    _blend(face, ball, white, 0.5)
    _blend(face, ball * 0.5 * step((np.abs(t) - 0.8) / 0.3), (0.5, 0.28, 0.26), 0.5)
    _paint_iris(identity, expression, x, y, glint, ball, face)
    shade = ball * step((lifted - upper + 2.2) / 3)
    face[:3] *= 1 - 0.5 * shade
    lash = np.exp(-(((lifted - upper) / (0.55 + 0.75 * eyes.lash)) ** 2))
    lash *= step((1.06 + 0.1 * eyes.lash - np.abs(t)) / 0.1)
    _blend(face, (0.7 + 0.3 * min(eyes.lash, 1)) * lash, skin * 0.04, 0.05)
    under = np.exp(-(((lifted - lower) / 0.6) ** 2)) * step((1.02 - np.abs(t)) / 0.1)
    _blend(face, (0.3 + 0.35 * eyes.lash) * under, skin * [0.3, 0.18, 0.18], 0.1)


def _paint_iris(
    identity: Identity, expression: Expression, x: Array, y: Array, glint: Sequence[float], ball: Array, face: Array
) -> None:
    eyes = identity.eyes
    ix, iy = x - expression.gaze[0], y - expression.gaze[1] - 0.4
    distance = np.hypot(ix, iy)
    colour = np.asarray(eyes.iris_colour)
    disc = ball * step((eyes.iris_radius - distance) / 0.9)
    _blend(face, disc, colour * 0.35, 0.6)
    _blend(face, disc * step((eyes.iris_radius - 1.1 - distance) / 1.2), colour, 0.6)
    _blend(face, ball * step((2.5 - distance) / 0.9), (0.006, 0.006, 0.006), 0.6)
    spark = step((1.25 - np.hypot(ix - 3.2 * glint[0], iy - 3.2 * glint[1] - 0.6)) / 0.9)
    _blend(face, ball * 0.9 * spark, (1.5, 1.5, 1.5), 0.6)
