"""Write the examples in the API's description: what a running server answers to made-up faces.

rm -f runs/examples.sqlite
python -m pipeline.api --gallery runs/examples.sqlite &
python tools/api_examples.py; kill %1
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from PIL import Image

from common import cli
from common.files import write_json
from dsr.synthetic import render_scene

SHOWN_NUMBERS = 4  # of the 512 of an embedding
ATTEMPTS = 7  # to connect: the server may be starting still
SMALL = 48  # side of the photo with a small face, of about 20 pixels


@dataclass(frozen=True)
class Config:
    """Where to ask, and where to write."""

    server: str = "http://127.0.0.1:8000"
    """Address of a server whose gallery is empty."""
    out: Path = Path("technical/pipeline/api_examples.json")
    """File to write."""


def main(cfg: Config) -> None:
    """Ask every route, and write what it says."""
    with httpx.Client(base_url=cfg.server, transport=httpx.HTTPTransport(retries=ATTEMPTS), timeout=60) as client:
        large, other, small = made_photo(3, 0), made_photo(3, 1), made_photo(3, 2, SMALL)
        answers = {
            "welcome": client.get("/"),
            "healthz": client.get("/healthz"),
            "verify": client.post("/verify", files={"image1": large, "image2": small}),
            "embed": client.post("/embed", files={"image": large}),
            "enrol": client.post("/people", data={"name": "Ann Lee"}, files=[("image", large), ("image", other)]),
            "people": client.get("/people"),
            "identify": client.post("/identify", files={"image": small}),
            "delete": client.delete("/people/Ann%20Lee"),
        }
    found: dict[str, Any] = {name: answer.raise_for_status().json() for name, answer in answers.items()}
    for face in found["embed"]["faces"]:
        face["embedding"] = face["embedding"][:SHOWN_NUMBERS]
    write_json(cfg.out, found)
    print(f"written: {cfg.out}")


def made_photo(person: int, image: int, side: int | None = None) -> bytes:
    """The PNG of a photo of nobody, 250x250 or reduced to `side`."""
    scene = Image.fromarray(render_scene(0, person, image)[0])
    file = io.BytesIO()
    (scene if side is None else scene.resize((side, side), Image.Resampling.BICUBIC)).save(file, format="PNG")
    return file.getvalue()


if __name__ == "__main__":
    cli.run(main, Config)
