"""Verification on an LFW-style pair list at low resolution: HR, bicubic and DSR side by side.

    python -m pipeline.evaluate_pairs --images lfw_112.zip --pairs pairs.txt --vlr-size 16 --protocol lr-hr \
        --dsr dsr.pt --edgeface edgeface_xxs.pt --json out.json

Every image is reduced to `vlr-size` pixels and enlarged again by each method; ten folds, the threshold chosen on nine
and applied to the tenth. Figures stand with their subject-level 95 % interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common import cli
from common.files import write_json
from common.images import ImageStore, RgbImage
from common.paths import find_dataset
from facial_rec.faceset import HR_SIZE
from pipeline.embedding import DEFAULT_BATCH, Chain, Reduction
from pipeline.networks import DEFAULT_EDGEFACE, load_chain
from pipeline.pair_evaluation import Protocol, Settings, evaluate, method_key
from pipeline.pairs import PairList, read_pairs
from pipeline.provenance import command_of
from pipeline.tables import format_table, number, percent

PERCENT_FIGURES = {
    "accuracy": "accuracy, %",
    "accuracy_std": "  std over the folds",
    "tar@fmr=1e-2": "TAR at FMR 1e-2, %",
    "tar@fmr=1e-3": "TAR at FMR 1e-3, %",
    "auc": "AUC, %",
    "eer": "EER, %",
    "fmr@threshold": "FMR at {threshold}, %",
    "fnmr@threshold": "FNMR at {threshold}, %",
}
PLAIN_FIGURES = {"psnr": "PSNR, dB", "ssim": "SSIM", "identity_loss": "identity loss"}


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    images: Path
    """Folder or zip of aligned 112x112 faces, Name/Name_0001.jpg (any suffix)."""
    pairs: Path
    """Pair list in LFW's format: pairs.txt (View 2) or pairsDevTest.txt."""
    vlr_size: int = 16
    """Side of the low-resolution faces in pixels, 8 to 64."""
    protocol: Protocol = "lr-lr"
    """lr-lr: both images of a pair are of low resolution; lr-hr: the first only."""
    dsr: str | None = None
    """DSR checkpoint, looked up in checkpoints/ too; without one HR and bicubic are evaluated."""
    edgeface: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """EdgeFace weights, looked up in checkpoints/ too; repeat for several (none: edgeface_xxs.pt)."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for FMR and FNMR at the threshold."""
    reduction: Reduction = "canonical"
    """canonical: antialiased bicubic; inter_area: OpenCV's INTER_AREA, for figures published with it."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling; nothing else is random."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    json: Path | None = None
    """File to write the figures to, as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write `cfg.json` if given, and return what it holds."""
    settings = Settings(cfg.vlr_size, cfg.protocol, cfg.threshold, cfg.reduction, cfg.bootstrap, cfg.seed)
    store = ImageStore(find_dataset(cfg.images))
    pairs = read_pairs(cfg.pairs, store.names)
    edgeface = cfg.edgeface or (DEFAULT_EDGEFACE,)
    chain, checksums = load_chain(edgeface, cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    result = evaluate_store(store, pairs, chain, settings)
    result |= {"weights": checksums, "command": command_of("pipeline.evaluate_pairs", cfg)}
    print_result(result, chain)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def evaluate_store(store: ImageStore, pairs: PairList, chain: Chain, settings: Settings) -> dict[str, Any]:
    """`pair_evaluation.evaluate` on 112x112 images of a store; another size is a UserError that names the file."""

    def read(name: str) -> RgbImage:
        return store.read(name, (HR_SIZE, HR_SIZE))

    return evaluate(read, pairs, chain, settings)


def print_result(result: dict[str, Any], chain: Chain) -> None:
    """One table a recogniser: figures down, methods across, DSR minus bicubic last."""
    counts = result["pairs"]
    both = "both images" if result["protocol"] == "lr-lr" else "the first image"
    print(
        f"\n{counts['genuine']:,} genuine and {counts['impostor']:,} impostor pairs, {counts['folds']} fold(s); "
        f"{both} at {result['vlr_size']} pixels ({result['reduction']} reduction)."
    )
    for recogniser in chain.embedders:
        print(f"\n{recogniser}\n{_table(result, chain, recogniser)}")
    any_method = next(iter(result["methods"].values()))
    print(
        f"\nBaselines: rejecting every pair scores {percent(any_method['reject_all_accuracy'])} % accuracy, "
        f"accepting every pair {percent(any_method['accept_all_accuracy'])} %."
    )
    if result["bootstrap"]:
        print(f"In brackets: 95 % intervals from {result['bootstrap']:,} resamples of people.")


def _table(result: dict[str, Any], chain: Chain, recogniser: str) -> str:
    columns = [(method, result["methods"][method_key(chain, recogniser, method)]) for method in chain.methods]
    gap = result["differences"].get(method_key(chain, recogniser, "dsr-bicubic"))
    rows = []
    for names, show in ((PERCENT_FIGURES, percent), (PLAIN_FIGURES, number)):
        for name, label in names.items():
            row = [label.format(threshold=result["threshold"])]
            row += [show(figures[name], figures.get(f"{name}_ci95")) for _, figures in columns]
            if gap is not None:
                row.append(show(gap[name], gap.get(f"{name}_ci95"), signed=True))
            rows.append(row)
    header = ["", *(method for method, _ in columns), *(["dsr - bicubic"] if gap is not None else [])]
    return format_table(header, rows)


if __name__ == "__main__":
    cli.run(main, Config)
