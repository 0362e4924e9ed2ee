"""From an identity and an expression to the maps a renderer samples: radius, normals, occlusion and colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dsr.synthetic_hair import beard_mask, hair_layer, strands
from dsr.synthetic_head import (
    FACE,
    MOVING,
    SIZE,
    Array,
    Rest,
    directions,
    expression_relief,
    features,
    landmarks_at_rest,
    place,
    rest_head,
)
from dsr.synthetic_identity import Identity
from dsr.synthetic_paint import paint_expression, paint_skin
from dsr.synthetic_shot import Expression

_MARGIN = 12  # texels at the border of MOVING where nothing moves and a window's derivatives would be wrong
_INNER = tuple(slice(side.start + _MARGIN, side.stop - _MARGIN) for side in MOVING)


@dataclass(frozen=True)
class Head:
    """`radius` `(SIZE, SIZE)` mm; `surface` `(SIZE, SIZE, 4)` unit normal and openness (1 in the open, less in folds);
    `colour` `(SIZE, SIZE, 4)` linear RGB and gloss; `landmarks` `(5, 3)` mm, ArcFace order, head frame."""

    radius: Array
    surface: Array
    colour: Array
    landmarks: Array


@dataclass(frozen=True)
class _Still:
    rest: Rest
    radius: Array
    surface: Array
    skin: Array  # `(4, h, w)` of the MOVING window, without hair
    hair: Array  # `(h, w, 4)` of it
    hair_cover: Array  # `(h, w)` of it
    colour: Array


def build_head(identity: Identity, expression: Expression, glint: tuple[float, float]) -> Head:
    """The maps of one picture's head. `glint`: x and y of the unit direction of the light, for the eyes."""
    still = _still(identity)
    bare = 1 - still.hair_cover
    radius, surface, colour = still.radius.copy(), still.surface.copy(), still.colour.copy()
    radius[MOVING] += expression_relief(identity.mouth, expression, *still.rest.window(MOVING)) * bare
    surface[_INNER] = _surface(radius[MOVING], directions()[:, *MOVING])[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    face = still.skin.copy()
    paint_expression(identity, still.rest, expression, glint, face)
    soft = cv2.GaussianBlur(cv2.merge(list(face)), (0, 0), 0.6)  # skin scatters light: no drawn edge stays hard
    soft += still.hair_cover[..., None] * (still.hair - soft)
    colour[MOVING] = soft
    return Head(radius, surface, colour, _landmarks(identity, expression, still.rest, radius))


@lru_cache(maxsize=2)
def _still(identity: Identity) -> _Still:
    """What no expression changes; kept, since one person's pictures are usually made in a row."""
    rest = rest_head(identity.skull)
    strand = strands(identity.hair)
    cover, thick = hair_layer(identity, rest, strand)
    rng = np.random.default_rng([4, identity.hair.pattern])
    beard = beard_mask(identity, rest, rng)
    radius = rest.radius + thick
    radius[FACE] += features(identity, rest) * (1 - 0.7 * cover[FACE])
    radius += 3.5 * beard * (identity.beard.kind in ("full", "goatee"))
    hair = np.full((SIZE, SIZE, 4), 0.12, dtype=np.float32)
    hair[..., :3] = np.array(identity.hair.colour, dtype=np.float32) * np.exp(0.55 * strand)[..., None]
    skin = paint_skin(identity, rest, beard, rng)
    bare = cv2.merge(list(skin))
    colour = bare + cover[..., None] * (hair - bare)
    surface = _surface(radius, directions())
    return _Still(rest, radius, surface, skin[:, *MOVING], hair[MOVING], cover[MOVING], colour)


def _landmarks(identity: Identity, expression: Expression, rest: Rest, radius: Array) -> Array:
    columns, rows = place(rest, landmarks_at_rest(identity, expression))
    length, *direction = (cv2.remap(plane, columns, rows, cv2.INTER_LINEAR)[0] for plane in (radius, *directions()))
    return np.stack([length * axis for axis in direction], axis=1)


def _surface(radius: Array, direction: Array) -> Array:
    """Unit normal and openness `(h, w, 4)` of a window of the map.

    Normals are the cross product of central differences of the position; openness falls with how far a texel lies
    below its surroundings.
    """
    position = radius * direction
    across = [cv2.Sobel(axis, cv2.CV_32F, 1, 0, ksize=1, borderType=cv2.BORDER_REPLICATE) for axis in position]
    down = [cv2.Sobel(axis, cv2.CV_32F, 0, 1, ksize=1, borderType=cv2.BORDER_REPLICATE) for axis in position]
    normal = [down[i] * across[j] - down[j] * across[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    unit = [axis / np.maximum(length, 1e-6) for axis in normal]
    size = radius.shape[::-1]
    small = cv2.resize(radius, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    wide = cv2.resize(cv2.GaussianBlur(small, (0, 0), 4), size, interpolation=cv2.INTER_LINEAR)
    near = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.5), size, interpolation=cv2.INTER_LINEAR)
    buried = 0.05 * np.maximum(wide - radius, 0) + 0.09 * np.maximum(near - radius, 0)
    return cv2.merge([*unit, np.clip(1.02 - buried, 0.35, 1)])
