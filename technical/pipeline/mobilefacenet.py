"""A recogniser that no training ever saw, to check that a gain is no artefact of one network: MobileFaceNet as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.onnx_session import NOT_A_MODEL, open_session, session_options

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


def load_mobilefacenet(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """The recogniser: RGB `(B, 3, 112, 112)` in [0, 1] -> `(B, D)`. Raises UserError for a file that is no network.

    The file is a network of batch 1, `(1, 3, 112, 112)` RGB with ImageNet's mean and standard deviation (by foamliu).
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: expected the MobileFaceNet as ONNX.")
    try:
        session = open_session(str(path), session_options(threads))
    except NOT_A_MODEL as error:
        raise UserError(f"{path} is not a network that onnxruntime loads ({error}).") from error
    name = session.get_inputs()[0].name

    def embed(images: Tensor) -> Tensor:
        pixels = (images.cpu().numpy() - IMAGENET_MEAN) / IMAGENET_STD
        rows = [session.run(None, {name: pixels[i : i + 1]})[0] for i in range(len(pixels))]
        return torch.from_numpy(np.concatenate(rows))

    return embed
