"""The whole method on made-up faces: recognise them with the shipped DSR and EdgeFace, and train a DSR as well.

    python -m pipeline.demo

Takes a few minutes on two cores, downloads nothing, and leaves runs/demo/report.html. The training is short, against
the same frozen EdgeFace, and what it gives stands beside the shipped DSR. Without the shipped files the recogniser is
an official EdgeFace from checkpoints/ if one is there, else a small one that is trained on the synthetic people first,
and the only DSR is the one trained here. Killed and started again, it goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import cli
from common.device import select_device
from common.errors import UserError
from common.files import read_json, sha256_of, write_json, write_text
from common.paths import find_weights
from common.runlog import read_records
from dsr import prepare_dataset, train_dsr
from dsr.checkpoint import load_dsr
from dsr.curves import save_picture
from dsr.data import FaceReader, evenly_spaced
from dsr.training import Validation
from facial_rec import export
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from facial_rec.weights import find_edgeface
from pipeline import evaluate_dataset
from pipeline.demo_recogniser import Schedule, train_demo_recogniser
from pipeline.demo_report import Shown, demo_report
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE, dsr_file

OFFICIAL = (
    "edgeface_xxs.pt",
    "edgeface_xs_gamma_06.pt",
    "edgeface_xs_q.pt",
    "edgeface_s_gamma_05.pt",
    "edgeface_base.pt",
)
RECOGNISERS = (DEFAULT_EDGEFACE, *OFFICIAL)
VLR_SIZE = 16
VAL_FACES = 96


@dataclass(frozen=True)
class Config:
    """The demo's size."""

    out: Path = Path("runs/demo")
    """Folder for everything it makes."""
    edgeface: str | None = None
    """Recogniser to use; default: the shipped one, else an official one in checkpoints/, else a small one trained on
    the spot."""
    dsr: str | None = None
    """DSR to show beside the one trained here; default: the shipped one, if it is in checkpoints/; none: no other."""
    identities: int = 80
    """Synthetic people."""
    images: int = 16
    """Pictures of each."""
    recogniser_steps: int = 700
    """Training steps of the small EdgeFace, where one is trained."""
    epochs: int = 8
    """Passes of the DSR over the synthetic training faces."""
    preset: str = "default"
    """DSR network: default, large, tiny, separate or mirrored."""
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
    ready = dsr_at_hand(cfg)
    data = drawn_faces(cfg)
    edgeface, how = _recogniser(cfg, data)
    results = {}
    if ready is not None:
        print(f"[demo] 3/5 recognising the test people at {VLR_SIZE} pixels with {ready}, threshold {cfg.threshold}")
        results[f"ready-made DSR ({ready.name})"] = _evaluated(cfg, data, edgeface, ready, "ready")
    trained = _trained_dsr(cfg, data, edgeface)
    print(f"[demo] 5/5 recognising the test people at {VLR_SIZE} pixels with the DSR trained here")
    results["DSR trained here"] = _evaluated(cfg, data, edgeface, trained, "trained")
    files = [file for file in (ready, trained) if file is not None]
    quality, grid = _looked_at(cfg, data, edgeface, files)
    shown = [Shown(label, result, figures) for (label, result), figures in zip(results.items(), quality, strict=True)]
    report = cfg.out / "report.html"
    write_text(report, demo_report(shown, cfg.out / "dsr" / "curves.png", grid, how, VLR_SIZE))
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Open {report} (samples: {grid}).")
    return report


def drawn_faces(cfg: Config) -> Path:
    """The folder of the synthetic splits, drawn where they are not there yet; what other settings left is removed."""
    _check_or_clear(cfg)
    return _made_faces(cfg)


def _check_or_clear(cfg: Config) -> None:
    """Keep earlier steps only if they were made with the same settings and the same recogniser's bytes."""
    at_hand = recogniser_at_hand(cfg)
    marker = cfg.out / "demo.json"
    every_time = {"again", "dsr", "threshold", "device"}  # what is made anew in each run depends on these, no more
    settings = {key: str(value) for key, value in vars(cfg).items() if key not in every_time}
    settings["recogniser"] = sha256_of(at_hand) if at_hand is not None else "trained on the spot"
    if cfg.out.is_dir() and any(cfg.out.iterdir()):
        if not marker.is_file():
            raise UserError(f"{cfg.out} holds something else than a demo: choose another --out.")
        made = {key: value for key, value in read_json(marker).items() if key not in every_time}
        if cfg.again or made != settings:
            _clear(cfg.out, marker)
    write_json(marker, settings)


def _clear(folder: Path, marker: Path) -> None:
    """Remove everything; the marker last, and till then one that fits no settings: a kill leaves a demo to clear."""
    print(f"[demo] {folder} was made with other settings or is to be made anew: starting over")
    write_json(marker, {})
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != marker:
            path.unlink()
    marker.unlink()


def _made_faces(cfg: Config) -> Path:
    data = cfg.out / "dataset"
    if not all((data / f"{split}_processed" / "meta.json").is_file() for split in ("train", "val", "test")):
        print(f"[demo] 1/5 drawing {cfg.identities} made-up people, {cfg.images} pictures of each")
        kind = prepare_dataset.Synthetic(
            identities=cfg.identities, images=cfg.images, seed=cfg.seed, out=data, vlr_size=VLR_SIZE, overwrite=True
        )
        prepare_dataset.main(prepare_dataset.Config(kind))
    return data


def dsr_at_hand(cfg: Config) -> Path | None:
    """The DSR asked for, else the shipped one, else None. UserError if the first is missing."""
    file = dsr_file(cfg.dsr or DEFAULT_DSR)
    if file is None or (cfg.dsr is None and find_weights(file) is None):
        return None
    return load_dsr(file)[1].path


def recogniser_at_hand(cfg: Config) -> Path | None:
    """The recogniser asked for, else the shipped or an official one, else None. UserError if the first is missing."""
    if cfg.edgeface is None:
        found = (find_weights(name) for name in RECOGNISERS)
        return next((path for path in found if path is not None), None)
    return find_edgeface(cfg.edgeface)


def _recogniser(cfg: Config, data: Path) -> tuple[Path, str]:
    """A float EdgeFace that takes gradients, and a sentence on what it is."""
    at_hand = recogniser_at_hand(cfg)
    if at_hand is not None:
        print(f"[demo] 2/5 recogniser: {at_hand}")
        return at_hand, f"The recogniser, in the training and on both sides of every comparison, is {at_hand.name}."
    script = cfg.out / "edgeface_demo.pt"
    if not script.is_file():
        print("[demo] 2/5 no EdgeFace in checkpoints/: training a small one on the synthetic people")
        weights = cfg.out / "edgeface_demo_state.pt"
        schedule = Schedule(steps=cfg.recogniser_steps, warmup=max(1, cfg.recogniser_steps // 15))
        train_demo_recogniser(data / "train_processed", weights, schedule, cfg.seed)
        export.main(export.Config(edgeface=str(weights), out=script))
    return script, (
        "No EdgeFace was at hand, so the recogniser is a small one (edgeface_tiny) trained minutes ago on the "
        f"synthetic training people. For real use put one of {', '.join(RECOGNISERS)} into checkpoints/."
    )


def _trained_dsr(cfg: Config, data: Path, edgeface: Path) -> Path:
    run = cfg.out / "dsr"
    weights = run / "dsr.pt"
    if len(read_records(run / "metrics.jsonl")) < cfg.epochs:
        print(f"[demo] 4/5 training a DSR for {cfg.epochs} epochs against the frozen recogniser")
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
                val_limit=VAL_FACES,
                warmup_steps=50,
            )
        )
    return weights


def _evaluated(cfg: Config, data: Path, edgeface: Path, dsr: Path, name: str) -> dict[str, Any]:
    return evaluate_dataset.main(
        evaluate_dataset.Config(
            dataset_root=data / "test_processed",
            threshold=cfg.threshold,
            dsr=str(dsr),
            edgeface=str(edgeface),
            seed=cfg.seed,
            device=cfg.device,
            json=cfg.out / f"evaluation_{name}.json",
            dump_results=cfg.out / f"results_{name}.csv",
        )
    )


def _looked_at(
    cfg: Config, data: Path, edgeface: Path, weights: Sequence[Path]
) -> tuple[list[dict[str, dict[str, float]]], Path]:
    """The figures of each DSR, beside bicubic's, on the faces that the training validates on; a picture of some."""
    faces, device = FaceSet(data / "val_processed"), select_device(cfg.device)
    reader = FaceReader(faces, evenly_spaced(faces.faces, VAL_FACES))
    validation = Validation(reader, [VLR_SIZE], load_embedder(edgeface, device), device)
    models = [load_dsr(file, device)[0] for file in weights]
    picture = cfg.out / "samples.png"
    save_picture(picture, validation.grid(*models))
    return [validation.run(model)[str(VLR_SIZE)] for model in models], picture


if __name__ == "__main__":
    cli.run(main, Config)
