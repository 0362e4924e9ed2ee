"""What changes from one picture of a synthetic person to the next: pose, light, expression, framing, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsr.synthetic_identity import Rgb


@dataclass(frozen=True)
class Expression:
    smile: float  # -0.4 corners down to 1 broad smile
    mouth_open: float  # millimetres between the lips
    eye_open: float  # 1 as the identity's own, 0.5 half closed
    brow_raise: float  # millimetres
    gaze: tuple[float, float]  # of the pupils, millimetres right and up


@dataclass(frozen=True)
class Light:
    direction: tuple[float, float, float]  # unit vector towards the light, camera frame
    colour: Rgb
    ambient: Rgb  # from above
    bounce: Rgb  # from below


@dataclass(frozen=True)
class Shot:
    yaw: float  # radians, positive turns the nose to the viewer's right
    pitch: float  # radians, positive looks down
    roll: float  # radians, positive tilts anticlockwise in the image
    expression: Expression
    light: Light
    zoom: float  # pixels per millimetre in the 250x250 scene
    centre: tuple[float, float]  # where the middle of the head lies in the scene, pixels
    exposure: float
    noise: float  # standard deviation of the sensor noise, 8-bit levels
    blur: float  # standard deviation of the lens blur, output pixels
    clothes: Rgb
    noise_seed: int
    background_seed: int


def sample_shot(seed: int, identity: int, image: int) -> Shot:
    """Picture number `image` (>= 0) of person `identity` in the set `seed`; always the same for the same numbers."""
    rng = np.random.default_rng([2, seed, identity, image])
    clothes = rng.uniform(0.02, 0.6) * rng.uniform(0.3, 1, size=3)
    return Shot(
        yaw=_bounded(rng, np.deg2rad(12.5), np.deg2rad(25)),
        pitch=_bounded(rng, np.deg2rad(6), np.deg2rad(13)),
        roll=_bounded(rng, np.deg2rad(5), np.deg2rad(12)),
        expression=_expression(rng),
        light=_light(rng),
        zoom=float(rng.uniform(0.48, 0.63)),
        centre=(float(rng.uniform(112, 138)), float(rng.uniform(112, 128))),
        exposure=float(rng.uniform(0.85, 1.25)),
        noise=float(rng.uniform(0.5, 3.5)),
        blur=float(rng.uniform(0.2, 0.65)),
        clothes=(float(clothes[0]), float(clothes[1]), float(clothes[2])),
        noise_seed=int(rng.integers(2**31)),
        background_seed=int(rng.integers(2**31)),
    )


def _bounded(rng: np.random.Generator, spread: float, most: float) -> float:
    return float(np.clip(rng.normal(0, spread), -most, most))


def _expression(rng: np.random.Generator) -> Expression:
    smile = float(np.clip(rng.normal(0.3, 0.45), -0.4, 1.0))
    parts_lips = rng.random() < 0.2 + 0.4 * max(smile, 0)
    return Expression(
        smile=smile,
        mouth_open=float(rng.uniform(1.5, 8)) if parts_lips else 0.0,
        eye_open=float(np.clip(rng.normal(1.0 - 0.12 * max(smile, 0), 0.1), 0.6, 1.2)),
        brow_raise=float(np.clip(rng.normal(0, 1.3), -2, 4)),
        gaze=(_bounded(rng, 1.3, 3), _bounded(rng, 0.5, 1)),
    )


def _light(rng: np.random.Generator) -> Light:
    azimuth = _bounded(rng, np.deg2rad(38), np.deg2rad(75))
    height = float(np.clip(rng.normal(np.deg2rad(28), np.deg2rad(16)), np.deg2rad(-5), np.deg2rad(60)))
    direction = (np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height))
    warmth = rng.normal(0, 0.06)
    key = rng.uniform(0.55, 1.1) * np.array([1 + warmth, 1.0, 1 - 1.2 * warmth])
    cool = rng.normal(0, 0.05)
    sky = rng.uniform(0.28, 0.55) * np.array([1 + cool, 1.0, 1 - 1.2 * cool])
    ground = sky * rng.uniform(0.35, 0.7) * np.array([1.05, 1.0, 0.92])
    unit = (float(direction[0]), float(direction[1]), float(direction[2]))
    return Light(unit, _rgb(key), _rgb(sky), _rgb(ground))


def _rgb(colour: np.ndarray) -> Rgb:
    return float(colour[0]), float(colour[1]), float(colour[2])
