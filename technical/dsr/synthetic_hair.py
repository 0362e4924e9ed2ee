"""The hair of a synthetic head: where it grows, how thick it lies, its strands, and the beard."""

from __future__ import annotations

import cv2
import numpy as np

from dsr.synthetic_head import Array, Rest, bump, directions, step
from dsr.synthetic_identity import Hair, Identity


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Smooth noise in about [-1, 1], `shape` `(H, W)`, from a random grid of `cells` `(rows, columns)`."""
    grid = rng.uniform(-1, 1, size=cells).astype(np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def strands(hair: Hair) -> Array:
    """Light and dark of the strands over the whole map, about [-1, 1]; they run away from the crown's parting."""
    rng = np.random.default_rng([3, hair.pattern])
    crown = np.array([0.35 * hair.parting, 0.9, 0.15])
    crown /= np.linalg.norm(crown)
    across = np.cross(crown, [0, 0, 1])
    across /= np.linalg.norm(across)
    along = np.cross(across, crown)
    d = directions()
    a = np.tensordot(across.astype(np.float32), d, 1)
    b = np.tensordot(along.astype(np.float32), d, 1)
    distance = np.arccos(np.clip(np.tensordot(crown.astype(np.float32), d, 1), -1, 1))
    angle = np.arctan2(a, b)
    angle += 0.12 * hair.curl * np.sin(distance * 18 + 3 * np.sin(angle * 5))
    fine = value_noise(rng, (256, 1024), (int(8 + 60 * hair.curl), 420))
    coarse = value_noise(rng, (256, 1024), (int(4 + 20 * hair.curl), 70))
    texture = 0.6 * fine + 0.6 * coarse
    column = ((angle / (2 * np.pi) + 0.5) * 1023).astype(np.float32)
    row = (distance / np.float32(np.pi) * 255).astype(np.float32)
    return cv2.remap(texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def hair_layer(identity: Identity, rest: Rest, strand: Array) -> tuple[Array, Array]:
    """How much hair covers each texel (0 to 1) and how many millimetres thick it lies, both `(SIZE, SIZE)`."""
    hair = identity.hair
    above = rest.y - _hairline(hair, rest) + 2.2 * strand
    cover = step(above / (3 + 3 * hair.fringe / 30))
    upward = np.clip(directions()[1], 0, 1)
    grown = 1 - np.exp(-np.clip(above, 0, None) / (9 + 6 * hair.curl))
    if hair.bald:
        thick = 1.5 * cover
    else:
        # The edge of the hair is thin, so that its colour and not the skin's covers the step down to the face.
        body = step((above - 5) / 6)
        thick = body * (1.5 + grown * (hair.volume * upward + hair.side_volume * (1 - upward)))
        thick += body * strand * (0.6 + 1.2 * hair.curl) * min(hair.volume / 8, 1)
    return cover, cv2.GaussianBlur(thick.astype(np.float32), (0, 0), 1.3)


def _hairline(hair: Hair, rest: Rest) -> Array:
    """Height of the lower border of the hair, by the angle round the head from straight ahead."""
    degrees = np.degrees(np.arctan2(rest.x, rest.z)).astype(np.float32)
    around = np.abs(degrees)
    top = hair.hairline - hair.fringe
    low = -25 - 45 * hair.length if hair.length else hair.sideburn
    knots = [0, 22, 36, 52, 64, 72, 82, 92, 108, 125, 180]
    over_ear = low if hair.length else 14
    temple = top + hair.recession * (0.25 if hair.fringe else 1)
    heights = [top, top + 0.4 * (temple - top), temple, hair.hairline - 18, 22, low, low, over_ear, 2, -55, -75]
    if hair.bald:
        heights[:5] = [220, 200, 170, 120, 60]
    line = np.interp(around, knots, heights).astype(np.float32)
    # A fringe falls to the side away from the parting.
    swept = np.clip(degrees / 40, -1, 1) * hair.parting * 0.35 * hair.fringe * (around < 60)
    return line + swept.astype(np.float32)


def beard_mask(identity: Identity, rest: Rest, rng: np.random.Generator) -> Array:
    """How much beard covers each texel, 0 to 1, `(SIZE, SIZE)`."""
    beard, mouth, nose = identity.beard, identity.mouth, identity.nose
    if beard.kind == "none":
        return np.zeros_like(rest.x)
    side = np.abs(rest.x)
    base = -nose.length - 4
    low = mouth.y + mouth.upper * 0.5
    droop = rest.y + 0.004 * side**2
    moustache = step((base - 1 - droop) / 5) * step((rest.y - low + 3) / 4) * step((mouth.width + 2 - side) / 8)
    chin = bump(side, rest.y, 0, mouth.y - 34, 17, 14) * 1.6 + bump(side, rest.y, mouth.width + 5, mouth.y - 8, 5, 14)
    cheek = np.interp(side, [0, 14, 30, 48, 64, 72], [mouth.y - 13, mouth.y - 9, mouth.y + 4, -44, -18, 4])
    jaw = step((cheek.astype(np.float32) - rest.y) / 12)
    parts = {"moustache": moustache, "goatee": np.maximum(moustache, chin), "full": np.maximum(moustache, jaw)}
    mask = parts.get(beard.kind, np.maximum(moustache, jaw))
    grain = value_noise(rng, rest.x.shape, (260, 330))
    strength = 0.38 if beard.kind == "stubble" else 0.92
    covered = np.clip(mask, 0, 1) * (rest.z > -25) * (1 + 0.35 * grain) * beard.density * strength
    return np.clip(covered, 0, 1).astype(np.float32)
