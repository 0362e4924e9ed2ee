"""The table of `pipeline.evaluate_pairs` with a recogniser that no training ever saw: a MobileFaceNet in ONNX.

    python benchmarks/independent_recogniser.py --onnx mobilefacenet.onnx --images lfw_112.zip --pairs pairs.txt \
        --vlr-size 16 --protocol lr-hr --dsr dsr.pt --json out.json

A DSR is trained through one EdgeFace; a gain that this network sees too is no artefact of that one. Expected is a
network of batch 1, `(1, 3, 112, 112)` RGB with ImageNet's mean and standard deviation (MobileFaceNet by foamliu).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from common import cli
from common.errors import UserError
from common.files import sha256_of, write_json
from common.images import ImageStore
from common.paths import find_dataset
from dsr.checkpoint import load_dsr
from pipeline.embedding import Chain, Reduction
from pipeline.evaluate_pairs import evaluate_store, print_result
from pipeline.pair_evaluation import Protocol, Settings
from pipeline.pairs import read_pairs

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    onnx: Path
    """The MobileFaceNet."""
    images: Path
    """Folder or zip of aligned 112x112 faces, Name/Name_0001.jpg."""
    pairs: Path
    """Pair list in LFW's format."""
    vlr_size: int = 16
    """Side of the low-resolution faces in pixels, 8 to 64."""
    protocol: Protocol = "lr-lr"
    """lr-lr: both images of a pair are of low resolution; lr-hr: the first only."""
    dsr: str | None = None
    """DSR checkpoint; without one HR and bicubic are evaluated."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted. EdgeFace's threshold: it means little to this network."""
    reduction: Reduction = "canonical"
    """canonical: antialiased bicubic; inter_area: OpenCV's INTER_AREA."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling."""
    threads: int = 1
    """CPU threads of this recogniser."""
    json: Path | None = None
    """File to write the figures to, as fractions."""


def load_mobilefacenet(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """The recogniser: RGB `(B, 3, 112, 112)` in [0, 1] -> `(B, D)`. Raises UserError for a file that is no network."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not path.is_file():
        raise UserError(f"{path} is missing: expected the MobileFaceNet as ONNX.")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise UserError(f"{path} is not a network that onnxruntime loads ({error}).") from error
    name = session.get_inputs()[0].name

    def embed(images: Tensor) -> Tensor:
        pixels = (images.cpu().numpy() - IMAGENET_MEAN) / IMAGENET_STD
        rows = [session.run(None, {name: pixels[i : i + 1]})[0] for i in range(len(pixels))]
        return torch.from_numpy(np.concatenate(rows))

    return embed


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write `cfg.json` if given, and return what it holds."""
    store = ImageStore(find_dataset(cfg.images))
    pairs = read_pairs(cfg.pairs, store.names)
    recogniser = load_mobilefacenet(cfg.onnx, cfg.threads)
    checksums, dsr = {cfg.onnx.name: sha256_of(cfg.onnx)}, None
    if cfg.dsr is not None:
        dsr, info = load_dsr(cfg.dsr)
        checksums[info.path.name] = info.sha256
    chain = Chain({cfg.onnx.stem: recogniser}, dsr)
    settings = Settings(cfg.vlr_size, cfg.protocol, cfg.threshold, cfg.reduction, cfg.bootstrap, cfg.seed)
    result = evaluate_store(store, pairs, chain, settings) | {"weights": checksums}
    print_result(result, chain)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


if __name__ == "__main__":
    cli.run(main, Config)
