"""A DSR that averages over both mirror images, from a trained one: the same weights, twice the time, a better image.

    python -m dsr.mirror --dsr dsr.pt --out runs/dsr_mirrored.pt

What a DSR draws depends a little on which way a face looks. The mean of the restored face and of the restored
mirror image, mirrored back, does not (self-ensemble, https://arxiv.org/abs/1707.02921). Every command takes the file as
`--dsr`, and it can be exported like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from common import cli
from common.errors import UserError
from dsr.checkpoint import load_dsr, save_dsr
from dsr.grow import grow


@dataclass(frozen=True)
class Config:
    """Which DSR, and where to."""

    dsr: str = "dsr.pt"
    """Trained DSR: a path, or a name in checkpoints/."""
    out: Path = Path("runs/dsr_mirrored.pt")
    """File to write."""


def main(cfg: Config) -> Path:
    """Write the mirrored DSR to `cfg.out` and return that.

    Raises UserError for a file that is no DSR or is mirrored already, and for an `out` that is a folder or that file.
    """
    plain, info = load_dsr(cfg.dsr)
    if info.config.mirrored:
        raise UserError(f"{info.path} averages over both mirror images already: use it as it is.")
    if cfg.out.resolve() == info.path.resolve():
        raise UserError(f"--out {cfg.out} is the DSR that is read: give another name, the plain one is still needed.")
    metadata = {"plain": info.metadata, "plain_sha256": info.sha256}  # whose figures are the plain one's
    save_dsr(cfg.out, grow(plain, replace(info.config, mirrored=True)), metadata)
    print(f"written: {cfg.out}. Try it: python -m pipeline.evaluate_dataset --dsr {cfg.out}")
    return cfg.out


if __name__ == "__main__":
    cli.run(main, Config)
