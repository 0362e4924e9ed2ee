"""Turn any EdgeFace weights file into a float TorchScript that takes gradients.

    python -m facial_rec.export --edgeface edgeface_xxs_q.pt --out checkpoints/edgeface_xxs.pt

The TorchScript takes what the authors' network takes, RGB normalised to [-1, 1], and is compared with the original on
several batch sizes before it is kept.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from common import cli
from common.errors import UserError
from common.files import replacing, sha256_of
from facial_rec.download import edgeface_file
from facial_rec.edgeface import EMBEDDING_DIM, INPUT_SIZE, EdgeFace, count_parameters
from facial_rec.embedder import Embedder, Source, check_gradient
from facial_rec.weights import load_strictly, read_edgeface_state, recognise

TOLERANCE = 1e-5
BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True)
class Config:
    """Export an EdgeFace as float TorchScript."""

    edgeface: str
    """Weights to read: a state dict (float or int8), a fine-tuned .pth, or a TorchScript (float or int8)."""
    out: Path | None = None
    """TorchScript file to write; an existing one is replaced only after the comparison passes. Default: the network's
    name in checkpoints/, if nothing lies there."""
    seed: int = 0
    """Seed of the images that the comparison uses."""


def main(cfg: Config) -> Path:
    """Write the file and return its path.

    Raises UserError if the two networks differ by more than 1e-5, and where the default file is there already.
    """
    path = edgeface_file(cfg.edgeface)
    state = read_edgeface_state(path)
    variant, model = recognise(state, path)
    load_strictly(model, state, path)
    model.eval().requires_grad_(False)
    out = cfg.out or Path("checkpoints") / f"{variant}.pt"
    if cfg.out is None and out.exists():
        raise UserError(f"{out} is there already, perhaps of other weights: name the file to write with --out.")
    metadata = {
        "variant": variant,
        "parameters": count_parameters(model),
        "input": "RGB (B, 3, 112, 112), x * 2 - 1 for x in [0, 1]",
        "output": f"(B, {EMBEDDING_DIM}), compare with cosine similarity",
        "source_sha256": sha256_of(path),
        "licence": "weights of EdgeFace's authors: CC BY-NC-SA 4.0, research use",
    }
    save_torchscript(model, out, metadata, cfg.seed)
    print(f"[EdgeFace] {variant}: {metadata['parameters']:,} parameters, written to {out}")
    print(f"[EdgeFace] sha256 {sha256_of(out)}")
    return out


def save_torchscript(model: EdgeFace, out: Path, metadata: dict[str, object], seed: int = 0) -> float:
    """Script `model`, compare the saved file with it, keep it if they agree; return the largest difference.

    Raises UserError, leaving any older file in place, when an element differs by more than 1e-5 at batch 1, 3 or 8, or
    when the file gives no input gradient.
    """
    with replacing(out) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; TorchScript is what users of this pipeline pass on
        extra = {"metadata.json": json.dumps(metadata)}
        with open(temporary, "wb") as file:  # by name, torch would write that name inside: another sha256 every time
            torch.jit.save(torch.jit.script(model), file, _extra_files=extra)
        exported = torch.jit.load(str(temporary))
        worst = max(_difference(model, exported, size, seed) for size in BATCH_SIZES)
        if not worst <= TOLERANCE:
            raise UserError(
                f"The TorchScript differs from the original by {worst:.2e} (> {TOLERANCE:.0e}): not written."
            )
        check_gradient(Embedder(exported, Source(out, "", "torchscript", "")))
    print(f"[EdgeFace] TorchScript against the original: largest difference {worst:.1e} at batch {BATCH_SIZES}")
    return worst


@torch.no_grad()
def _difference(model: torch.nn.Module, exported: torch.nn.Module, batch: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, INPUT_SIZE, INPUT_SIZE, generator=generator) * 2 - 1
    return float((model(images) - exported(images)).abs().max())


if __name__ == "__main__":
    cli.run(main, Config)
