"""Synthetic faces: pictures of made-up people, drawn from a seed by plain geometry and light.

No photograph and no learned model goes into them. A set is a number (`seed`), its people are numbered, and so are the
pictures of each; the same three numbers give the same bytes.

    >>> picture, landmarks = render_scene(seed=0, identity=3, image=1)   # 250x250, as a camera would see them
    >>> face = render_aligned(seed=0, identity=3, image=1)               # 112x112, aligned as recognition wants it
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsr.synthetic_identity import Identity
from dsr.synthetic_maps import Head, build_head
from dsr.synthetic_people import sample_identity
from dsr.synthetic_render import Rotation, render, rotation_of
from dsr.synthetic_shot import Shot, sample_shot

SCENE_SIZE = 250
ALIGNED_SIZE = 112
# ArcFace's five points in a 112x112 crop (Deng et al., "ArcFace", CVPR 2019; InsightFace's face_align.py).
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def render_scene(seed: int, identity: int, image: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One un-aligned picture with the whole head: RGB uint8 `(250, 250, 3)` and its landmarks `(5, 2)`.

    Landmarks are (column, row) in pixels: the eye, eye, nose tip, mouth corner, mouth corner, left in the picture
    first.
    """
    person, shot, head, rotation = _pose(seed, identity, image)
    scale = 1 / shot.zoom
    to_plane = np.array([[scale, 0, -scale * shot.centre[0]], [0, -scale, scale * shot.centre[1]]])
    points = head.landmarks @ rotation.T
    column, row = points[:, 0] * shot.zoom + shot.centre[0], shot.centre[1] - points[:, 1] * shot.zoom
    landmarks = np.stack([column, row], axis=1).astype(np.float32)
    return render(person, shot, head, rotation, to_plane, SCENE_SIZE), landmarks


def render_aligned(seed: int, identity: int, image: int) -> NDArray[np.uint8]:
    """The same picture's face, aligned to ARCFACE_TEMPLATE by its true landmarks: RGB uint8 `(112, 112, 3)`.

    It is rendered at this size, not cut from the scene, so that no pixel is interpolated.
    """
    person, shot, head, rotation = _pose(seed, identity, image)
    points = (head.landmarks @ rotation.T)[:, :2] * [1, -1]
    to_plane = similarity(ARCFACE_TEMPLATE, points) * [[1], [-1]]
    return render(person, shot, head, rotation, to_plane, ALIGNED_SIZE)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The `(2, 3)` similarity (scale, rotation, shift) that takes `source` nearest to `target`, both `(N, 2)`.

    The two-dimensional least-squares solution of Umeyama (1991) without reflection, in complex numbers.
    """
    a, b = source @ [1, 1j], target @ [1, 1j]
    centred = a - a.mean()
    turn = np.vdot(centred, b - b.mean()) / np.vdot(centred, centred)
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _pose(seed: int, identity: int, image: int) -> tuple[Identity, Shot, Head, Rotation]:
    if min(seed, identity, image) < 0:
        raise ValueError(f"seed, identity and image must not be negative, got {(seed, identity, image)}")
    person, shot = sample_identity(seed, identity), sample_shot(seed, identity, image)
    x, y, _ = shot.light.direction
    return person, shot, build_head(person, shot.expression, (x, y)), rotation_of(shot.yaw, shot.pitch, shot.roll)
