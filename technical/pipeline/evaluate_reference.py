"""The shipped models on LFW, beside bicubic and the original EdgeFace, and of each bound whether it is reached.

    python -m pipeline.evaluate_reference --shared ../shared --json runs/reference.json

One run from the files in checkpoints/: their checksums, verification from 8 to 32 pixels, the realistic degradations,
identification, a recogniser that no training saw, the larger DSR and the mirrored one. Without LFW the checksums are
checked and the synthetic test people recognised. Embeddings are kept in .cache/, so a run that was killed goes on where
it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cli
from common.errors import UserError
from common.files import read_json, sha256_of, write_json
from common.paths import REPOSITORY_ROOT
from common.shipped import shipped_files
from dsr.checkpoint import load_dsr
from dsr.prepare_dataset import DRAWN, Synthetic, make_synthetic
from facial_rec.edgeface import count_parameters
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource
from facial_rec.tables import format_table, number, percent
from facial_rec.trials import load_trials
from pipeline import evaluate_dataset, evaluate_identification
from pipeline.cache import EmbeddingCache, open_cache
from pipeline.chain import Chain
from pipeline.degradations import Degradation
from pipeline.mobilefacenet import load_mobilefacenet
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, dsr_file, load_chain
from pipeline.pair_evaluation import Settings, evaluate
from pipeline.records import verification_record
from pipeline.reference_bounds import OTHERS, Names, bound_rows, bounds_table, figures, gap
from pipeline.run_record import checksums, now, run_record

SIZES = (8, 12, 16, 24, 32)
REALISTIC_SIZES = (16, 32)
REALISTIC: tuple[Degradation, ...] = ("realistic-mild", "realistic-medium", "realistic-severe")
OTHER_SIZES = (16, 24, 32)
LARGE = "dsr_large.pt"
MIRRORED = "dsr_mirrored.pt"


@dataclass(frozen=True)
class Config:
    """Where the faces and the networks lie."""

    shared: Path = Path("../shared")
    """Folder with data/lfw/lfw_112.zip, data/lfw/pairs.txt, weights/edgeface_xxs_q.pt (the original EdgeFace) and
    weights/mobilefacenet_independent.onnx; without it the synthetic set is used."""
    edgeface: str = DEFAULT_EDGEFACE
    """The fine-tuned recogniser, looked up in checkpoints/ too."""
    dsr: str = DEFAULT_DSR
    """The DSR, looked up in checkpoints/ too."""
    large: str = LARGE
    """The larger DSR, looked up in checkpoints/ too; none: leave it out."""
    mirrored: str = MIRRORED
    """The DSR averaged over both mirror images, looked up in checkpoints/ too; none: leave it out."""
    synthetic: Path = Path("runs/reference_synthetic")
    """Folder for the synthetic set, where LFW is not there; one that is there may be drawn anew."""
    synthetic_people: int = 40
    """People to draw for it."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals."""
    seed: int = 0
    """Seed of the resampling and of the realistic degradations."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    json: Path | None = None
    """File to write everything to, as fractions."""


def main(cfg: Config) -> dict[str, Any]:
    """Print the tables, write `cfg.json` if given, and return what it holds."""
    started = now()
    if cfg.bootstrap < 1:
        raise UserError(f"--bootstrap {cfg.bootstrap}: expected 1 or more, a bound is judged by its interval.")
    files = check_files()
    images, pairs = cfg.shared / "data/lfw/lfw_112.zip", cfg.shared / "data/lfw/pairs.txt"
    if not images.exists():
        print(f"\n{images} is not there: the synthetic people instead, which say nothing about real faces.")
        made_up = {"format": "dsr-edgeface-reference-1", "files": files, "synthetic": synthetic(cfg)}
        if cfg.json is not None:
            write_json(cfg.json, made_up)
            print(f"written: {cfg.json}")
        return made_up
    source, trials = load_trials(images, pairs, cfg.seed)
    with open_cache(True) as cache:
        measured = _Measured(cfg, source, trials, cache)
        parts = measured.parts()
    record = {
        "format": "dsr-edgeface-reference-1",
        "run": run_record("pipeline.evaluate_reference", cfg, started, measured.weights, checksums(source, pairs)),
        "files": files,
        "names": {"original": measured.names.original, "shipped": measured.names.shipped},
        **parts,
    }
    record["canonical"]["run"] = record["run"]
    rows = bound_rows(parts, measured.names)
    record["bounds"] = [vars(row) for row in rows]
    if any(name in parts for name in OTHERS):
        print(f"\nThe other DSRs, beside the default one\n{others_table(parts, measured.names)}")
    print(
        f"\nShipped chain on LFW. Baseline: bicubic and the original EdgeFace-XXS ({measured.names.original}).\n"
        f"{bounds_table(rows)}\n\nIn brackets: 95 % intervals, people resampled. TAR at FMR 1e-3 rests on 3 impostor "
        f"pairs. Reached: {sum(row.reached for row in rows)} of {len(rows)}."
    )
    print(f"\n{record['run']['seconds']:.0f} seconds.")
    if cfg.json is not None:
        write_json(cfg.json, record)
        print(f"written: {cfg.json}")
    return record


def check_files() -> list[dict[str, Any]]:
    """Size and SHA-256 of each shipped file, printed. Raises UserError for one that is missing or is another."""
    folder, listed = REPOSITORY_ROOT / "checkpoints", shipped_files()
    if not listed:
        raise UserError(f"{folder}/SHA256SUMS is missing or empty: `git checkout checkpoints` restores the folder.")
    found: list[dict[str, Any]] = []
    for name, sha256 in listed.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != sha256:
            state = "is not the file that SHA256SUMS lists" if path.is_file() else "is missing"
            raise UserError(f"{path} {state}: `git checkout checkpoints/{name}` restores it.")
        found.append({"file": name, "bytes": path.stat().st_size, "sha256": sha256})
    rows = [[one["file"], f"{one['bytes']:,}", one["sha256"][:16]] for one in found]
    rows.append(["together", f"{sum(one['bytes'] for one in found):,}", "all as listed"])
    print(format_table(["checkpoints/", "bytes", "SHA-256"], rows))
    return found


def synthetic(cfg: Config) -> dict[str, Any]:
    """The people of a synthetic test set at 16 pixels, by bicubic and by the shipped chain; drawn if not there.

    Raises UserError where the test set in `cfg.synthetic` is of other faces.
    """
    options = _options_drawn_with(cfg.synthetic / "test_processed")
    if (options.get("identities"), options.get("seed")) != (cfg.synthetic_people, cfg.seed):
        drawn = Synthetic(cfg.synthetic_people, val_fraction=0.0, test_fraction=0.95, seed=cfg.seed, out=cfg.synthetic)
        make_synthetic(replace(drawn, overwrite=True), leave=frozenset({"train"}))
    return evaluate_dataset.main(
        evaluate_dataset.Config(
            dataset_root=cfg.synthetic / "test_processed",
            dsr=cfg.dsr,
            edgeface=cfg.edgeface,
            seed=cfg.seed,
            bootstrap=cfg.bootstrap,
            threads=cfg.threads,
        )
    )


def _options_drawn_with(folder: Path) -> dict[str, Any]:
    """Those of the synthetic set in `folder`, none where nothing is there. UserError for what is no such set."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    file = folder / "meta.json"
    meta = read_json(file) if file.is_file() else {}
    source = meta.get("source") if isinstance(meta, dict) else None
    if source != DRAWN:
        found = f"says {source!r}" if file.is_file() else "is missing"
        raise UserError(
            f"{folder} would be overwritten and is no synthetic set: its meta.json {found}, expected the source "
            f"{DRAWN!r}. Move it away, or give another --synthetic."
        )
    return dict(meta.get("options", {}))


class _Measured:
    """Every evaluation of the shipped files on LFW."""

    def __init__(self, cfg: Config, source: ImageSource, trials: PairList, cache: EmbeddingCache | None) -> None:
        self.cfg, self.source, self.trials, self.cache = cfg, source, trials, cache
        self.original = str(cfg.shared / "weights/edgeface_xxs_q.pt")
        self.chain, self.weights = load_chain((self.original, cfg.edgeface), cfg.dsr, threads=cfg.threads)
        given = {"large": cfg.large, "mirrored": cfg.mirrored}
        self.others = {name: load_dsr(file) for name, file in given.items() if dsr_file(file) is not None}
        first, second = self.chain.embedders
        self.independent = cfg.shared / "weights/mobilefacenet_independent.onnx"
        self.names = Names(first, second, self.independent.stem if self.independent.is_file() else None)
        parameters = count_parameters(load_dsr(cfg.dsr)[0])
        print(f"\nDSR {parameters:,} parameters; recognisers {first} and {second}; {len(trials.pairs):,} pairs")

    def parts(self) -> dict[str, Any]:
        """Records by name, as `bound_rows` takes them, and of the other DSRs."""
        found = {"canonical": self._verification("LFW, canonical reduction", self.chain, SIZES, "canonical")}
        for degradation in REALISTIC:
            found[degradation] = self._verification(f"LFW, {degradation}", self.chain, REALISTIC_SIZES, degradation)
        found["identification"] = self._identification()
        if self.names.independent is not None:
            network = load_mobilefacenet(self.independent, self.cfg.threads or os.cpu_count() or 1)
            prints = {self.names.independent: sha256_of(self.independent)}
            chain = replace(self.chain, embedders={self.names.independent: network}, fingerprints=prints)
            found["independent"] = self._verification("LFW, MobileFaceNet", chain, (16,), "canonical")
        for name, (network, info) in self.others.items():
            chain = replace(self.chain, dsr=network, dsr_fingerprint=info.sha256)
            self.weights[info.path.name] = info.sha256
            found[name] = self._verification(f"LFW, the {OTHERS[name]} DSR", chain, OTHER_SIZES, "canonical")
        return found

    def _verification(self, title: str, chain: Chain, sizes: Sequence[int], degradation: Degradation) -> dict[str, Any]:
        print(f"\n[reference] {title}: {', '.join(map(str, sizes))} pixels")
        settings = Settings(
            tuple(sizes),
            ("lr-hr", "lr-lr"),
            degradation=degradation,
            bootstrap=self.cfg.bootstrap,
            seed=self.cfg.seed,
        )
        evaluation = evaluate(self.source, self.trials, chain, settings, self.cache)
        return verification_record(title, evaluation, self.trials, settings, {})

    def _identification(self) -> dict[str, Any]:
        print("\n[reference] LFW, identification at 16 pixels")
        return evaluate_identification.main(
            evaluate_identification.Config(
                images=self.cfg.shared / "data/lfw/lfw_112.zip",
                vlr_size=(16,),
                sets=("closed",),
                dsr=self.cfg.dsr,
                edgeface=(self.original, self.cfg.edgeface),
                bootstrap=self.cfg.bootstrap,
                seed=self.cfg.seed,
                threads=self.cfg.threads,
            )
        )


def others_table(parts: Mapping[str, Any], names: Names) -> str:
    """Images and accuracy of the default DSR and of the others that `parts` has, with either EdgeFace."""
    rows = []
    systems = {"default": "canonical"} | {label: name for name, label in OTHERS.items() if name in parts}
    for size in OTHER_SIZES:
        for label, name in systems.items():
            record = parts[name]
            low = figures(record, names.original, "lr-lr", size, "dsr")
            gain = gap(record, names.original, "lr-lr", size, "dsr", "bicubic")
            compared = [
                figures(record, recogniser, protocol, size, "dsr")
                for recogniser in (names.original, names.shipped)
                for protocol in ("lr-lr", "lr-hr")
            ]
            rows.append(
                [
                    f"{size}, {label}",
                    number(low["psnr"], low.get("psnr_ci95"), decimals=2),
                    number(gain["psnr"], gain.get("psnr_ci95"), decimals=2, signed=True),
                    number(low["identity_loss"], low.get("identity_loss_ci95"), decimals=4),
                    *(percent(one["accuracy"], one.get("accuracy_ci95")) for one in compared),
                ]
            )
    header = ["", "PSNR, dB", "- bicubic", "identity loss, original"]
    header += [f"{kind}, {whose}, %" for whose in ("original", "shipped") for kind in ("LR-LR", "LR-HR")]
    return format_table(header, rows)


if __name__ == "__main__":
    cli.run(main, Config)
