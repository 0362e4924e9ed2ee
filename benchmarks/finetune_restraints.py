"""Which restraint is best when EdgeFace is fine-tuned on DSR outputs: short trials of equal length, one change each.

    python benchmarks/finetune_restraints.py --edgeface edgeface_xxs.pt --dsr runs/dsr/dsr.pt

Every trial is `facial_rec.finetune_edgeface` for one short epoch from the same weights and seed, and is judged on the
validation people as it judges itself: TAR at FMR 1e-3, at each size and in HR, of the fine-tuned weights (alpha 1) and
of their mean with the original (alpha 0.5). Finished trials in --out are not repeated; those of other settings are
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cli
from common.errors import UserError
from common.files import read_json, sha256_of
from common.runlog import read_records
from dsr.checkpoint import load_dsr
from facial_rec import finetune_edgeface
from facial_rec.download import edgeface_file
from facial_rec.tables import format_table

BASE: dict[str, Any] = {"margin_weight": 0.0, "octuplet_weight": 0.0, "augmentation": "strong", "learning_rate": 3e-4}
TRIALS: dict[str, dict[str, Any]] = {
    "base": {"learning_rate": 1e-4},
    "light": {"learning_rate": 1e-4, "augmentation": "light"},
    "lr3e-4": {},
    "light_lr3e-4": {"augmentation": "light"},
    "hr3_lr3e-4": {"hr_weight": 3.0},
    "decay0.8_lr3e-4": {"layer_decay": 0.8},
    "lora16_lr1e-3": {"learning_rate": 1e-3, "adapter_rank": 16},
    "octuplet_lr3e-4": {"octuplet_weight": 0.1},
    "margin_lr3e-4": {"margin_weight": 0.02},
}
COLUMNS = ("hr-hr", "lr-hr@16", "lr-lr@16", "lr-hr@24", "lr-lr@24", "lr-hr@32", "lr-lr@32")


@dataclass(frozen=True)
class Config:
    """What is tried, on what."""

    edgeface: str = "edgeface_xxs.pt"
    """Network to start from."""
    dsr: str = "dsr.pt"
    """DSR that restores the faces."""
    train_root: Path | None = None
    """Training faces (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Validation faces of other people (default: dataset/val_processed)."""
    trials: tuple[str, ...] = tuple(TRIALS)
    """Which ones."""
    steps: int = 200
    """Steps of each."""
    out: Path = Path("runs/restraints")
    """A folder for each trial is made in it."""
    device: str = "cpu"
    """Where to compute."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""


def main(cfg: Config) -> list[list[str]]:
    """Run the trials that are not done, print the table, and return its rows."""
    if unknown := [name for name in cfg.trials if name not in TRIALS]:
        raise UserError(f"--trials {' '.join(unknown)}: expected some of {', '.join(TRIALS)}.")
    found = {name: _trial(cfg, name) for name in cfg.trials}
    _require_alike(cfg, found)
    original = next(iter(found.values()))["validation_original"]
    rows = [["the original", "0", *_tars(original)]]
    for name, result in found.items():
        changes = {**BASE, **TRIALS[name]}
        for alpha, report in _reports(cfg.out / name, result).items():
            rows.append([_words(changes), f"{alpha:g}", *_tars(report)])
    print("\nTAR at FMR 1e-3 on the validation people, %\n")
    print(format_table(["trial", "alpha", *COLUMNS], rows))
    return rows


def _trial(cfg: Config, name: str) -> dict[str, Any]:
    """The JSON beside the weights of a trial."""
    out = cfg.out / name
    if not (out / "edgeface_finetuned.json").is_file() or not (out / "edgeface_finetuned.pt").is_file():
        settings = finetune_edgeface.Config(
            device=cfg.device,
            edgeface=cfg.edgeface,
            dsr=cfg.dsr,
            train_root=cfg.train_root,
            val_root=cfg.val_root,
            epochs=1,
            steps_per_epoch=cfg.steps,
            warmup_steps=cfg.steps // 10,
            hr_drop=1.0,  # nothing is refused: what is lost in HR is what the table shows
            alphas=(0.5, 1.0),
            out=out,
            resume=(out / "last.pt").is_file(),
            threads=cfg.threads,
        )
        print(f"[trial] {name}", flush=True)
        finetune_edgeface.main(replace(settings, **{**BASE, **TRIALS[name]}))
    return read_json(out / "edgeface_finetuned.json")


def _require_alike(cfg: Config, found: Mapping[str, Mapping[str, Any]]) -> None:
    """UserError where trials, some of them perhaps of an earlier run, differ in more than what is tried."""
    settings = {name: read_json(cfg.out / name / "config.json") for name in found}
    tried = {"command", "out", "original", *BASE, *(key for changes in TRIALS.values() for key in changes)}
    first_name, first = next(iter(settings.items()))
    ours = {
        "steps_per_epoch": cfg.steps,
        "edgeface_sha256": sha256_of(edgeface_file(cfg.edgeface)),
        "dsr_sha256": load_dsr(cfg.dsr)[1].sha256,
    }
    faces, val_faces = finetune_edgeface.load_data(
        finetune_edgeface.Config(train_root=cfg.train_root, val_root=cfg.val_root, cache_gb=0.0)
    )
    ours |= {"training_names_sha256": faces.names_sha256, "validation_names_sha256": val_faces.names_sha256}
    for name, one in {"this run": ours, **settings}.items():
        other = sorted(key for key in one.keys() & first.keys() - tried if one[key] != first[key])
        if other:
            raise UserError(
                f"{cfg.out}: the trials {first_name} and {name} differ in {', '.join(other)}: one is of an earlier run "
                "with other settings. Give another --out, or remove the older folder."
            )


def _reports(out: Path, result: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """The validation figures by alpha."""
    mixtures = {float(one["alpha"]): one["validation"] for one in result.get("mixtures", ())}
    last = read_records(out / "metrics.jsonl")[-1]["validation"]
    return {1.0: last, **mixtures, float(result["alpha"]): result["validation"]}


def _tars(report: Mapping[str, Any]) -> list[str]:
    return [f"{100 * report[name]['tar']:.1f}" if name in report else "-" for name in COLUMNS]


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changes.items() if value not in (0.0, 0))


if __name__ == "__main__":
    cli.run(main, Config)
