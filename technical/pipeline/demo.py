"""The whole method on made-up faces: draw a data set, train a DSR against a frozen EdgeFace, recognise with it.

    python -m pipeline.demo

Takes a few minutes on two cores, downloads nothing, and leaves runs/demo/report.html. It uses an official EdgeFace from
checkpoints/ if one is there, else it trains a small one on the synthetic people first. Killed and started again, it
goes on where it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cli
from common.errors import UserError
from common.files import read_json, sha256_of, write_json, write_text
from common.paths import find_weights
from common.runlog import read_records
from dsr import prepare_dataset, train_dsr
from facial_rec import export
from facial_rec.edgeface import VARIANTS
from pipeline import evaluate_dataset
from pipeline.demo_recogniser import Schedule, train_demo_recogniser
from pipeline.demo_report import demo_report

OFFICIAL = ("edgeface_xxs", "edgeface_xs_gamma_06", "edgeface_xs_q", "edgeface_s_gamma_05", "edgeface_base")
VLR_SIZE = 16


@dataclass(frozen=True)
class Config:
    """The demo's size."""

    out: Path = Path("runs/demo")
    """Folder for everything it makes."""
    edgeface: str | None = None
    """Recogniser to use; default: an official one in checkpoints/, else a small one trained on the spot."""
    identities: int = 80
    """Synthetic people."""
    images: int = 16
    """Pictures of each."""
    recogniser_steps: int = 700
    """Training steps of the small EdgeFace, where one is trained."""
    epochs: int = 8
    """Passes of the DSR over the synthetic training faces."""
    preset: str = "default"
    """DSR network: default, large or tiny."""
    threshold: float = 0.35
    """Cosine from which a probe is accepted."""
    seed: int = 0
    """Seed of faces and trainings."""
    device: str = "cpu"
    """Where to compute."""
    again: bool = False
    """Make everything anew, even where an earlier demo left it."""


def main(cfg: Config) -> Path:
    """Run every step and return the report's path."""
    started = time.monotonic()
    at_hand = _recogniser_at_hand(cfg)
    _check_or_clear(cfg, at_hand)
    data = _made_faces(cfg)
    edgeface, how = _recogniser(cfg, data, at_hand)
    dsr = _trained_dsr(cfg, data, edgeface)
    result = _evaluated(cfg, data, edgeface, dsr)
    report = cfg.out / "report.html"
    records = read_records(cfg.out / "dsr" / "metrics.jsonl")
    grids = sorted((cfg.out / "dsr" / "samples").glob("*.png"))
    write_text(report, demo_report(result, records, cfg.out / "dsr" / "curves.png", grids[-1], how, VLR_SIZE))
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Open {report} (samples: {grids[-1]}).")
    return report


def _check_or_clear(cfg: Config, at_hand: Path | None) -> None:
    """Keep earlier steps only if they were made with the same settings and the same recogniser's bytes."""
    marker = cfg.out / "demo.json"
    settings = {key: str(value) for key, value in vars(replace(cfg, again=False)).items()}
    settings["recogniser"] = sha256_of(at_hand) if at_hand is not None else "trained on the spot"
    if cfg.out.is_dir() and any(cfg.out.iterdir()):
        if not marker.is_file():
            raise UserError(f"{cfg.out} holds something else than a demo: choose another --out.")
        if cfg.again or read_json(marker) != settings:
            _remove(cfg.out)
    write_json(marker, settings)


def _remove(folder: Path) -> None:
    import shutil

    print(f"[demo] {folder} was made with other settings or is to be made anew: starting over")
    shutil.rmtree(folder)


def _made_faces(cfg: Config) -> Path:
    data = cfg.out / "dataset"
    if not all((data / f"{split}_processed" / "meta.json").is_file() for split in ("train", "val", "test")):
        print(f"[demo] 1/4 drawing {cfg.identities} made-up people, {cfg.images} pictures of each")
        kind = prepare_dataset.Synthetic(
            identities=cfg.identities, images=cfg.images, seed=cfg.seed, out=data, vlr_size=VLR_SIZE, overwrite=True
        )
        prepare_dataset.main(prepare_dataset.Config(kind))
    return data


def _recogniser_at_hand(cfg: Config) -> Path | None:
    """The recogniser asked for, else an official one in checkpoints/, else None. UserError if the first is missing."""
    if cfg.edgeface is None:
        found = (find_weights(f"{name}.pt") for name in OFFICIAL)
        return next((path for path in found if path is not None), None)
    path = find_weights(cfg.edgeface)
    if path is None:
        raise UserError(f"{cfg.edgeface} is missing: put it in checkpoints/, or leave --edgeface out.")
    return path


def _recogniser(cfg: Config, data: Path, at_hand: Path | None) -> tuple[Path, str]:
    """A float EdgeFace that takes gradients, and a sentence on what it is."""
    if at_hand is not None:
        print(f"[demo] 2/4 recogniser: {at_hand}")
        return at_hand, f"The recogniser is {at_hand.name}, frozen."
    script = cfg.out / "edgeface_demo.pt"
    if not script.is_file():
        print("[demo] 2/4 no official EdgeFace in checkpoints/: training a small one on the synthetic people")
        weights = cfg.out / "edgeface_demo_state.pt"
        schedule = Schedule(steps=cfg.recogniser_steps, warmup=max(1, cfg.recogniser_steps // 15))
        train_demo_recogniser(data / "train_processed", weights, schedule, cfg.seed)
        export.main(export.Config(edgeface=str(weights), out=script))
    known = ", ".join(name for name in VARIANTS if name in OFFICIAL)
    return script, (
        "No official EdgeFace was at hand, so the recogniser is a small one (edgeface_tiny) trained minutes ago on the "
        f"synthetic training people. For real use put one of {known} into checkpoints/."
    )


def _trained_dsr(cfg: Config, data: Path, edgeface: Path) -> Path:
    run = cfg.out / "dsr"
    weights = run / "dsr.pt"
    if len(read_records(run / "metrics.jsonl")) < cfg.epochs:
        print(f"[demo] 3/4 training the DSR for {cfg.epochs} epochs against the frozen recogniser")
        train_dsr.main(
            train_dsr.Config(
                device=cfg.device,
                epochs=cfg.epochs,
                edgeface=str(edgeface),
                train_root=data / "train_processed",
                val_root=data / "val_processed",
                vlr_size=(str(VLR_SIZE),),
                out=run,
                resume=(run / "last.pt").is_file(),
                seed=cfg.seed,
                preset=cfg.preset,
                pixel_weight=10.0,  # a recogniser this small is easily pleased: pixels keep the picture honest
                val_limit=96,
                warmup_steps=50,
            )
        )
    return weights


def _evaluated(cfg: Config, data: Path, edgeface: Path, dsr: Path) -> dict[str, Any]:
    print(f"[demo] 4/4 recognising the test people at {VLR_SIZE} pixels, threshold {cfg.threshold}")
    return evaluate_dataset.main(
        evaluate_dataset.Config(
            dataset_root=data / "test_processed",
            threshold=cfg.threshold,
            dsr=str(dsr),
            edgeface=str(edgeface),
            seed=cfg.seed,
            device=cfg.device,
            json=cfg.out / "evaluation.json",
            dump_results=cfg.out / "results.csv",
        )
    )


if __name__ == "__main__":
    cli.run(main, Config)
