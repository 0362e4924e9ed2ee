"""The table of `pipeline.evaluate_pairs` with a recogniser that no training ever saw: a MobileFaceNet in ONNX.

    python benchmarks/independent_recogniser.py --onnx mobilefacenet.onnx --images lfw_112.zip --pairs pairs.txt \
        --vlr-size 16 --protocol lr-hr --json out.json

A DSR is trained through one EdgeFace; a gain that this network sees too is no artefact of that one. Expected is a
network of batch 1, `(1, 3, 112, 112)` RGB with ImageNet's mean and standard deviation (MobileFaceNet by foamliu).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cli
from common.device import select_device
from common.files import sha256_of, write_json
from dsr.checkpoint import load_dsr
from facial_rec.trials import load_trials
from pipeline.cache import open_cache
from pipeline.chain import Chain
from pipeline.degradations import Degradation
from pipeline.evaluate_pairs import print_result, result_of, settings_of
from pipeline.mobilefacenet import load_mobilefacenet
from pipeline.networks import DEFAULT_DSR, dsr_file
from pipeline.pair_evaluation import Protocol, evaluate
from pipeline.run_record import checksums, now, run_record


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
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted. EdgeFace's threshold: it means little to this network."""
    reduction: Degradation = "canonical"
    """canonical: antialiased bicubic; inter_area: OpenCV's INTER_AREA; or a realistic one."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling."""
    device: str = "cpu"
    """Where the DSR runs: cpu, cuda, cuda:1 or mps."""
    threads: int = 1
    """CPU threads of this recogniser."""
    cache: bool = True
    """Keep embeddings in .cache/embeddings.sqlite, and take from there what was computed before."""
    json: Path | None = None
    """File to write the figures to, as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write `cfg.json` if given, and return what it holds."""
    started, settings = now(), settings_of(cfg)
    source, pairs = load_trials(cfg.images, cfg.pairs, cfg.seed)
    recogniser = load_mobilefacenet(cfg.onnx, cfg.threads)
    weights, device = {cfg.onnx.name: sha256_of(cfg.onnx)}, select_device(cfg.device)
    chain = Chain({cfg.onnx.stem: recogniser}, device=device, fingerprints={cfg.onnx.stem: weights[cfg.onnx.name]})
    if (file := dsr_file(cfg.dsr)) is not None:
        dsr, info = load_dsr(file, device)
        chain = replace(chain, dsr=dsr, dsr_fingerprint=info.sha256)
        weights[info.path.name] = info.sha256
    with open_cache(cfg.cache) as cache:
        evaluation = evaluate(source, pairs, chain, settings, cache)
    run = run_record("benchmarks.independent_recogniser", cfg, started, weights, checksums(source, cfg.pairs))
    run["command"] = run["command"].replace(
        "-m benchmarks.independent_recogniser", "benchmarks/independent_recogniser.py"
    )
    result = result_of(evaluation, source, pairs, chain, settings, run)
    print_result(result, chain)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


if __name__ == "__main__":
    cli.run(main, Config)
