"""The one picture that git holds: the page, with photos of made-up people."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from common.images import decode_image
from dsr.synthetic import render_scene

SCREENSHOT = Path(__file__).resolve().parents[3] / "technical" / "pipeline" / "web" / "screenshot.png"


@pytest.mark.parametrize("shot", [0, 1])
def test_people_in_the_picture_are_made_up(shot: int) -> None:
    """Both photos that test_page.py shows are there, at their own size, under the boxes."""
    page, scene = decode_image(SCREENSHOT.read_bytes(), SCREENSHOT.name), render_scene(0, 0, shot)[0]
    _, _, (left, top), _ = cv2.minMaxLoc(cv2.matchTemplate(page, scene, cv2.TM_SQDIFF))
    shown = page[top : top + scene.shape[0], left : left + scene.shape[1]]
    assert cv2.absdiff(shown, scene).mean() < 8  # 4 to 5 with its boxes and few colours; 20 where it is another's
