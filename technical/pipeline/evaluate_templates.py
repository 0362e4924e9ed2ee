"""Verification of templates (several images of a person as one), at low resolutions, on lists of the IJB kind.

    python -m pipeline.evaluate_templates --images aligned_112 --templates face_tid_mid.txt \
        --pairs template_pair_label.txt --vlr-size 16 32 --json templates.json

The lists are described in `pipeline.templates`; the images must be aligned 112 x 112 faces. At a low resolution every
image of both templates is reduced and enlarged again by each method before it is embedded. The JSON is an evaluation
record, from which `pipeline.report` makes a page. With millions of pairs the intervals take long: --bootstrap 100, or
0 for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from common import cli
from common.files import write_json
from common.images import ImageStore
from common.paths import find_dataset
from common.progress import progress_bar
from facial_rec.metrics import Floats, Ints
from facial_rec.pair_bootstrap import PairResampler, Replicates
from facial_rec.sources import ImageSource, StoreSource
from facial_rec.strict_rates import STRICT_POINTS, StrictComparisons
from facial_rec.tables import FOOTNOTE, format_table, has_few, judged, percent
from facial_rec.verification import differences, entry
from pipeline.cache import EmbeddingCache, open_cache
from pipeline.chain import DEFAULT_BATCH, Chain
from pipeline.degradations import Degradation, View, check_size
from pipeline.embedding import embed_images
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, check_settings, load_chain
from pipeline.run_record import FORMAT, checksums, now, run_record
from pipeline.templates import TemplatePairs, Templates, pool, read_template_pairs, read_templates, template_scores

CHUNK = 4096  # images embedded before their templates are pooled
HR = View("hr")
LABELS = {
    "tar@fmr=1e-2": "TAR at FMR 1e-2",
    "tar@fmr=1e-3": "TAR at FMR 1e-3",
    **{name: f"TAR at FMR {name.partition('=')[2]}" for name in STRICT_POINTS},
    "eer": "EER",
    "fmr@threshold": "FMR at {threshold}",
    "fnmr@threshold": "FNMR at {threshold}",
}


@dataclass(frozen=True)
class Config:
    """What to evaluate, and with what."""

    images: Path
    """Folder or zip of aligned 112x112 faces."""
    templates: Path
    """List of images with their templates and media (face_tid_mid.txt): image, template, medium."""
    pairs: Path
    """List of template pairs (template_pair_label.txt): template, template, label 1 or 0."""
    vlr_size: tuple[int, ...] = (8, 12, 16, 20, 24, 28, 32)
    """Sides of the low-resolution faces in pixels, 8 to 64; HR always stands beside them."""
    degradation: Degradation = "canonical"
    """How images are reduced: canonical (antialiased bicubic), inter_area, or realistic-mild, -medium, -severe."""
    by_medium: bool = True
    """Average the images of a medium (a video) first, then the media; otherwise all images of a template at once."""
    keep_lengths: bool = False
    """Let an embedding weigh as much as it is long; otherwise all images count alike."""
    dsr: str = DEFAULT_DSR
    """DSR checkpoint, looked up in checkpoints/ too; none: HR and bicubic only."""
    edgeface: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """EdgeFace weights, looked up in checkpoints/ too; repeat for several (default: edgeface_xxs_dsr.pth)."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for FMR and FNMR at the threshold."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling and of the realistic degradations."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    batch_size: int = DEFAULT_BATCH
    """Images that go through the networks together."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    cache: bool = True
    """Keep embeddings in .cache/embeddings.sqlite, and take from there what was computed before."""
    json: Path | None = None
    """File to write the record to, figures as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return the record it holds."""
    started = now()
    check_settings(cfg.threshold, cfg.bootstrap, cfg.seed)
    for size in cfg.vlr_size:
        check_size(size, "--vlr-size")
    store = ImageStore(find_dataset(cfg.images))
    templates = read_templates(cfg.templates, store.names)
    pairs = read_template_pairs(cfg.pairs, templates)
    chain, weights = load_chain(cfg.edgeface or (DEFAULT_EDGEFACE,), cfg.dsr, cfg.device, cfg.batch_size, cfg.threads)
    source = StoreSource(store, sorted(set(templates.images)))
    with open_cache(cfg.cache) as cache:
        sections = evaluate(source, templates, pairs, chain, cfg, cache)
    record = {
        "format": FORMAT,
        "title": f"Templates of {store.root.name}",
        "run": run_record(
            "pipeline.evaluate_templates", cfg, started, weights, checksums(source, cfg.templates, cfg.pairs)
        ),
        "threshold": cfg.threshold,
        **sections,
    }
    print_record(record)
    if cfg.json is not None:
        write_json(cfg.json, record)
        print(f"written: {cfg.json}")
    return record


def evaluate(
    source: ImageSource,
    templates: Templates,
    pairs: TemplatePairs,
    chain: Chain,
    cfg: Config,
    cache: EmbeddingCache | None = None,
) -> dict[str, Any]:
    """The sections `verification` and `differences` of the record."""
    low = [(method, size) for size in dict.fromkeys(cfg.vlr_size) for method in chain.low_methods]
    views = [HR, *(View(method, size, cfg.degradation, cfg.seed) for method, size in low)]
    vectors = embed_templates(source, templates, chain, views, cfg, cache)
    resampler = PairResampler(*_people(pairs), cfg.bootstrap, cfg.seed)
    counts = counts_of(templates, pairs)
    entries: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    with progress_bar(len(vectors), "figures and intervals", "table row", show=cfg.bootstrap > 0) as progress:
        for recogniser in chain.embedders:
            base: tuple[dict[str, Any], dict[str, Replicates]] = ({}, {})
            for view in views:
                scores = template_scores(vectors[recogniser, view], pairs.first, pairs.second)
                comparisons = StrictComparisons(scores, pairs.genuine, np.zeros(len(scores), dtype=np.int64))
                replicates = comparisons.replicate(resampler, cfg.threshold)
                found = entry(comparisons, cfg.threshold, replicates)
                case = {"recogniser": recogniser, "protocol": "templates", "method": view.method, "size": view.size}
                case |= {"degradation": cfg.degradation}
                entries.append(case | {"pairs": counts} | found)
                if view.method == "bicubic":
                    base = found["figures"], replicates
                if view.method == "dsr":
                    gap = differences(found["figures"], base[0], replicates, base[1])
                    gaps.append(case | {"minus": "bicubic", "figures": gap})
                progress.update()
    return {"verification": entries, "differences": gaps}


def embed_templates(
    source: ImageSource,
    templates: Templates,
    chain: Chain,
    views: Sequence[View],
    cfg: Config,
    cache: EmbeddingCache | None = None,
) -> dict[tuple[str, View], Floats]:
    """The embedding of every template `(T, D)` by recogniser and view; images are embedded a few thousand at a time."""
    parts: dict[tuple[str, View], list[Any]] = {}
    for of_templates, of_lines in templates.chunk(CHUNK):
        names = templates.images[of_lines]
        description = f"templates up to {of_templates.stop:,} of {len(templates):,}"
        found = embed_images(chain, source, names, views, cache, quality=False, description=description)
        numbers = templates.numbers[of_lines] - of_templates.start
        for key, vectors in found.vectors.items():
            pooled = pool(vectors, numbers, templates.media[of_lines], cfg.by_medium, cfg.keep_lengths)
            parts.setdefault(key, []).append(pooled.astype(np.float32))
    return {key: np.concatenate(found) for key, found in parts.items()}


def _people(pairs: TemplatePairs) -> tuple[Ints, Ints]:
    """The two people of each pair, numbered without those who stand in no pair: they would only dilute the draws."""
    both = np.stack([pairs.people[pairs.first], pairs.people[pairs.second]])
    _, numbers = np.unique(both, return_inverse=True)
    first, second = numbers.reshape(both.shape)
    return first, second


def counts_of(templates: Templates, pairs: TemplatePairs) -> dict[str, int]:
    """How many pairs, people (as recovered), templates and images stand behind the figures."""
    first, second = _people(pairs)
    return {
        "genuine": int(pairs.genuine.sum()),
        "impostor": int((~pairs.genuine).sum()),
        "people": int(max(first.max(), second.max())) + 1,
        "folds": 1,
        "templates": len(templates),
        "images": len(set(templates.images)),
    }


def print_record(record: Mapping[str, Any]) -> None:
    """A table a recogniser: sizes and methods down, figures across, DSR minus bicubic below them."""
    entries = record["verification"]
    counts = entries[0]["pairs"]
    print(
        f"\n{counts['genuine']:,} genuine and {counts['impostor']:,} impostor pairs of {counts['templates']:,} "
        f"templates ({counts['images']:,} images, {counts['people']:,} people as far as genuine pairs tell); "
        "figures in %"
    )
    known = {name for one in entries for name, value in one["figures"].items() if value is not None}
    labels = {name: label for name, label in LABELS.items() if name in known or name not in STRICT_POINTS}
    for recogniser in dict.fromkeys(one["recogniser"] for one in entries):
        rows = []
        for one in (one for one in entries if one["recogniser"] == recogniser):
            pixels = "HR" if one["size"] is None else str(one["size"])
            rows.append([pixels, one["method"], *(judged(one, name) for name in labels)])
            for gap in record["differences"]:
                if one["method"] == "dsr" and (gap["recogniser"], gap["size"]) == (recogniser, one["size"]):
                    figures = gap["figures"]
                    cells = [percent(figures[name], figures.get(f"{name}_ci95"), signed=True) for name in labels]
                    rows.append([pixels, "dsr - bicubic", *cells])
        header = ["size", "method", *(label.format(threshold=record["threshold"]) for label in labels.values())]
        print(f"\n{recogniser}\n{format_table(header, rows)}")
    if resamples := record["run"]["bootstrap"]:
        print(f"\nIn brackets: 95 % intervals from {resamples:,} resamples of people.")
    if has_few(entries):
        print(FOOTNOTE)


if __name__ == "__main__":
    cli.run(main, Config)
