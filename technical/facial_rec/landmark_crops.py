"""What the landmark refiner looks at, and how training faces are made into it. No torch here.

It sees a face aligned by landmarks that are not exact, and says where they really lie. In training such landmarks are
made: the true ones turned, scaled and shifted. An aligned face has no surroundings, so something is put around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.images import RgbImage
from facial_rec.alignment import ARCFACE_TEMPLATE, align_face, similarity_transform, template
from facial_rec.faceset import HR_SIZE
from facial_rec.landmark_labels import Landmarks, mirrored, moved

CROP = 64
"""Side of what the refiner looks at: the whole 112x112 face, made smaller."""
BORDER = 40  # pixels put around a 112x112 face
CENTRE = ARCFACE_TEMPLATE.mean(axis=0)


@dataclass(frozen=True)
class Augmentation:
    """How far training faces are changed; every chance is for one face."""

    degrees: float = 20.0
    """Furthest turn of the landmarks it is aligned by."""
    scale: float = 0.2
    """Furthest change of their size."""
    shift: float = 0.1
    """Furthest shift along each axis, in sides of the face."""
    narrow: float = 0.5
    """Chance that all three are a third of that at most: landmarks that are nearly right."""
    small: float = 0.6
    """Chance of a face with fewer pixels."""
    sides: tuple[float, float] = (12.0, 80.0)
    """Their smallest and largest side."""
    light: float = 0.3
    """Furthest change of brightness and contrast as a fraction, and of gamma as a power of two."""
    grey: float = 0.1
    """Chance of losing colour."""
    blur: float = 0.2
    """Chance of a blur of up to 1.5 pixels."""
    noise: float = 0.3
    """Chance of noise of up to 12 levels."""
    jpeg: float = 0.4
    """Chance of JPEG of quality 30 to 95."""


def perturbed(rng: np.random.Generator, how: Augmentation) -> Landmarks:
    """The template `(5, 2)` turned, scaled and shifted by chance, in pixels of an aligned 112x112 face."""
    reach = 1 / 3 if rng.random() < how.narrow else 1.0
    angle, size, across, down = rng.uniform(-reach, reach, 4)
    turn, zoom = math.radians(how.degrees * angle), 1.0 + how.scale * size
    matrix = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shift = how.shift * HR_SIZE * np.array([across, down])
    return moved(ARCFACE_TEMPLATE - CENTRE, np.column_stack([matrix, CENTRE + shift]))


def training_crop(
    face: RgbImage, landmarks: Landmarks, rng: np.random.Generator, how: Augmentation
) -> tuple[RgbImage, Landmarks]:
    """What the refiner sees of a 112x112 face aligned by perturbed landmarks, and the true ones in it.

    `(64, 64, 3)`, and `(5, 2)` in sides of that, as the refiner gives them.
    """
    if rng.random() < 0.5:
        face, landmarks = np.ascontiguousarray(face[:, ::-1]), mirrored(landmarks)
    photo = surrounded(face, rng)
    scale = 1.0
    if rng.random() < how.small:
        wanted = math.exp(rng.uniform(*np.log(how.sides))) / HR_SIZE
        side = round(len(photo) * wanted)
        scale = side / len(photo)
        photo = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    photo = _degraded(_relit(photo, rng, how), rng, how)
    inside = [(points + BORDER + 0.5) * scale - 0.5 for points in (perturbed(rng, how), landmarks)]
    return seen_crop(photo, inside[0]), in_sides(moved(inside[1], similarity_transform(inside[0], template(CROP))))


def seen_crop(image: RgbImage, landmarks: Landmarks) -> RgbImage:
    """What the refiner looks at, `(64, 64, 3)`: the face in `image` aligned by `landmarks` `(5, 2)`."""
    return align_face(image, landmarks, CROP)


def in_sides(landmarks: NDArray[np.floating]) -> Landmarks:
    """From pixels of the crop, whole numbers being their centres, to sides of it from its edge: 0 to 1."""
    return ((landmarks + 0.5) / CROP).astype(np.float32)


def in_pixels(landmarks: NDArray[np.floating]) -> Landmarks:
    """The reverse of `in_sides`."""
    return (landmarks * CROP - 0.5).astype(np.float32)


def surrounded(face: RgbImage, rng: np.random.Generator) -> RgbImage:
    """`face` `(112, 112, 3)` with 40 pixels around it: its edge, its mirror image, one colour, or itself, blurred."""
    kind = rng.integers(4)
    if kind == 3:
        side = HR_SIZE + 2 * BORDER
        coarse = cv2.resize(face, (side // 8, side // 8), interpolation=cv2.INTER_AREA)
        whole = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        whole[BORDER:-BORDER, BORDER:-BORDER] = face
        return whole
    mode = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT)[kind]
    colour = (0, 0, 0) if rng.random() < 0.5 else tuple(rng.integers(0, 256, 3).tolist())
    return cv2.copyMakeBorder(face, BORDER, BORDER, BORDER, BORDER, mode, value=colour)


def _relit(image: RgbImage, rng: np.random.Generator, how: Augmentation) -> RgbImage:
    brightness, contrast, gamma = rng.uniform(-how.light, how.light, 3)
    levels = (np.arange(256) / 255.0) ** (2.0**gamma)
    levels = ((levels - 0.5) * (1.0 + contrast) + 0.5) * (1.0 + brightness)
    image = cv2.LUT(image, (255.0 * levels).clip(0, 255).round().astype(np.uint8))
    if rng.random() < how.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return image


def _degraded(image: RgbImage, rng: np.random.Generator, how: Augmentation) -> RgbImage:
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < how.noise:
        noise = np.float32(rng.uniform(1.0, 12.0)) * rng.standard_normal(image.shape, np.float32)
        image = (image + noise).clip(0, 255).round().astype(np.uint8)
    if rng.random() < how.jpeg:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image
