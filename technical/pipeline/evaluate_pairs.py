"""Verification on a pair list at one low resolution: HR, bicubic and DSR side by side.

    python -m pipeline.evaluate_pairs --images lfw_112.zip --pairs pairs.txt --vlr-size 16 --protocol lr-hr \
        --json out.json

Every image is reduced to `vlr-size` pixels and enlarged again by each method; ten folds, the threshold chosen on nine
and applied to the tenth. Figures stand with their subject-level 95 % interval; those with too few errors behind them
are flagged or withheld. `pipeline.evaluate_resolutions` does the same at many resolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common import cli
from common.files import write_json
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource
from facial_rec.tables import FOOTNOTE, NO_PEOPLE, format_table, has_few, judged, number, percent
from facial_rec.trials import load_trials
from pipeline.cache import open_cache
from pipeline.chain import DEFAULT_BATCH, Chain
from pipeline.degradations import Degradation
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, load_chain, with_lpips
from pipeline.pair_evaluation import Evaluation, Protocol, Settings, counts_of, evaluate
from pipeline.records import verification_record
from pipeline.run_record import checksums, now, run_record

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
PLAIN_FIGURES = {
    "d_prime": "d'",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "identity_loss": "identity loss",
}


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    images: Path
    """Folder or zip of aligned 112x112 faces, Name/Name_0001.jpg (any suffix), or a .bin verification set."""
    pairs: Path | None = None
    """Pair list in LFW's format (pairs.txt, pairsDevTest.txt); none: a .bin's own, or pairs made from the folder."""
    vlr_size: int = 16
    """Side of the low-resolution faces in pixels, 8 to 64."""
    protocol: Protocol = "lr-lr"
    """lr-lr: both images of a pair are of low resolution; lr-hr: the first only."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    edgeface: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """EdgeFace weights, looked up in checkpoints/ too; repeat for several (default: edgeface_xxs_dsr.pth)."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for FMR and FNMR at the threshold."""
    reduction: Degradation = "canonical"
    """canonical: antialiased bicubic; inter_area: OpenCV's INTER_AREA; realistic-mild, -medium, -severe: seeded blur,
    motion, noise and JPEG."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling, of realistic degradations, and of pairs that are made."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    cache: bool = True
    """Keep embeddings in .cache/embeddings.sqlite, and take from there what was computed before."""
    json: Path | None = None
    """File to write the figures to, as fractions; `pipeline.report` reads it."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the table, write `cfg.json` if given, and return what it holds."""
    started = now()
    settings = settings_of(cfg)
    source, pairs = load_trials(cfg.images, cfg.pairs, cfg.seed)
    chain, weights = load_chain(cfg.edgeface or (DEFAULT_EDGEFACE,), cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    chain = with_lpips(chain)
    with open_cache(cfg.cache) as cache:
        evaluation = evaluate(source, pairs, chain, settings, cache)
    run = run_record("pipeline.evaluate_pairs", cfg, started, weights, checksums(source, cfg.pairs))
    result = result_of(evaluation, source, pairs, chain, settings, run)
    print_result(result, chain)
    if cfg.json is not None:
        write_json(cfg.json, result)
        print(f"written: {cfg.json}")
    return result


def settings_of(cfg: Any) -> Settings:
    """The settings of a run with one size and one protocol."""
    return Settings((cfg.vlr_size,), (cfg.protocol,), cfg.threshold, cfg.reduction, cfg.bootstrap, cfg.seed)


def result_of(
    evaluation: Evaluation,
    source: ImageSource,
    pairs: PairList,
    chain: Chain,
    settings: Settings,
    run: dict[str, Any],
) -> dict[str, Any]:
    """The record, and beside it the figures keyed by method: `hr`, `bicubic`, `dsr`.

    With several recognisers a method is keyed `<recogniser>/hr` and so on. `withheld` and `few_errors` say of which
    figures nothing, or little, can be said.
    """
    (size,), (protocol,) = settings.vlr_sizes, settings.protocols
    title = f"{Path(source.label).name}: {protocol.upper()} at {size} pixels"
    judgements = ("withheld", "few_errors")
    methods = {
        method_key(chain, case.recogniser, case.method): found["figures"] | {name: found[name] for name in judgements}
        for case, found in evaluation.entries.items()
    }
    gaps = {
        method_key(chain, case.recogniser, "dsr-bicubic"): figures for case, figures in evaluation.differences.items()
    }
    record = verification_record(title, evaluation, pairs, settings, run)
    return record | {
        "methods": methods,
        "method_differences": gaps,
        "protocol": protocol,
        "vlr_size": size,
        "reduction": settings.degradation,
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "pairs": counts_of(pairs),
        "people_known": pairs.people_known,
        "weights": run["weights"],
        "command": run["command"],
    }


def method_key(chain: Chain, recogniser: str, method: str) -> str:
    """How a method is keyed: by its name alone when there is a single recogniser."""
    return method if len(chain.embedders) == 1 else f"{recogniser}/{method}"


def print_result(result: dict[str, Any], chain: Chain) -> None:
    """One table a recogniser: figures down, methods across, DSR minus bicubic last."""
    counts = result["pairs"]
    both = "both images" if result["protocol"] == "lr-lr" else "the first image"
    print(
        f"\n{counts['genuine']:,} genuine and {counts['impostor']:,} impostor pairs, {counts['folds']} fold(s); "
        f"{both} at {result['vlr_size']} pixels ({result['reduction']} reduction)."
    )
    for recogniser in chain.embedders:
        print(f"\n{recogniser}\n{_table(result, recogniser)}")
    any_method = next(iter(result["methods"].values()))
    print(
        f"\nBaselines: rejecting every pair scores {percent(any_method['reject_all_accuracy'])} % accuracy, "
        f"accepting every pair {percent(any_method['accept_all_accuracy'])} %."
    )
    print_notes(result["verification"], result["bootstrap"], result["people_known"])


def print_notes(entries: list[dict[str, Any]], resamples: int, people_known: bool) -> None:
    """What brackets, stars and bounds in a table of `entries` mean."""
    if resamples:
        print(f"Beside or below the figures: 95 % intervals from {resamples:,} resamples of people.")
    if resamples and not people_known:
        print(NO_PEOPLE)
    if has_few(entries):
        print(FOOTNOTE)


def _table(result: dict[str, Any], recogniser: str) -> str:
    columns = [entry for entry in result["verification"] if entry["recogniser"] == recogniser]
    mine = [one for one in result["differences"] if one["recogniser"] == recogniser and one["minus"] == "bicubic"]
    gap = mine[0]["figures"] if mine else None
    rows = []
    for names, show in ((PERCENT_FIGURES, percent), (PLAIN_FIGURES, number)):
        for name, label in names.items():
            row = [label.format(threshold=result["threshold"]), *(judged(entry, name, show) for entry in columns)]
            if gap is not None:
                row.append(show(gap.get(name), gap.get(f"{name}_ci95"), signed=True))
            if name != "lpips" or any(entry["figures"][name] is not None for entry in columns):
                rows.append(row)
    header = ["", *(entry["method"] for entry in columns), *(["dsr - bicubic"] if gap is not None else [])]
    return format_table(header, rows)


if __name__ == "__main__":
    cli.run(main, Config)
