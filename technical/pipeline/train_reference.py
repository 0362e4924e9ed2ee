"""Train the reference models of checkpoints/ again, from a recipe: DSR and EdgeFace in turns, then at once; thresholds.

    python -m pipeline.train_reference --recipe recipes/reference.toml --out runs/reference_models

Runs the commands of the recipe one after the other, each in a folder of its own under --out, and leaves what
checkpoints/ holds, but for landmarks.onnx and the results, in <out>/checkpoints. A run that was killed goes on where it
was. With --stop-after N only the first N epochs of the DSR are trained, and compared with those of the shipped one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from common import cli
from common.errors import UserError
from common.files import read_json, sha256_of, write_json, write_text, write_with
from common.paths import REPOSITORY_ROOT, default_dataset, find_weights
from common.recipes import read_recipe, read_sections
from common.runlog import read_records
from dsr import mirror, train_dsr
from facial_rec import finetune_edgeface
from facial_rec.download import edgeface_file
from facial_rec.finetune_result import NAME as FINETUNED
from facial_rec.tables import format_table
from pipeline import calibrate, export, normalise_head, train_chain
from pipeline.model_metadata import Kind
from pipeline.provenance import command_of
from pipeline.run_record import git_state, versions

HISTORY = "reference.json"
CHAINS = ("chain", "chain_second", "chain_third")  # DSR and EdgeFace at once; the second was trained on a GPU
LAST_DSR = "dsr_fifth"  # then the DSR alone once more, against the EdgeFace of `normalise`
NORMALISED = ("normalise", "normalise_second")  # its last layer normalised, which is no training; on the last DSR again
STAGES = (
    *("dsr", "finetune", "dsr_second", "finetune_second", "dsr_third", "finetune_third", "finetune_fourth"),
    *("dsr_fourth", "finetune_fifth", *CHAINS, LAST_DSR, "large"),
)
EDGEFACE = "edgeface_xxs_dsr.pth"
SHIPPED = (
    *("dsr.pt", "dsr_large.pt", "dsr_mirrored.pt", EDGEFACE),
    *("edgeface.onnx", "chain.onnx", "dsr.onnx", "thresholds.json", HISTORY),
    "landmarks.onnx",  # of facial_rec.train_landmarks
)
MADE_BY = "made_by.json"
INPUTS = ("edgeface", "original", "start_from", "second_edgeface", "dsr")
EQUAL = 1e-6  # largest difference, relative, at which an epoch counts as reproduced


@dataclass(frozen=True)
class Config:
    """What to train, on what, and where."""

    recipe: Path = REPOSITORY_ROOT / "recipes/reference.toml"
    """Recipe: TOML with a section for every stage, and calibrate."""
    out: Path = Path("runs/reference_models")
    """Folder of everything it makes."""
    edgeface: str = "edgeface_xxs.pt"
    """The original recogniser: a float network, a path or a name in checkpoints/."""
    train_root: Path | None = None
    """Training faces (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Validation faces, of other people (default: dataset/val_processed)."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""
    threads: int = 1
    """CPU threads; the shipped models' first epochs were made with one."""
    install: bool = False
    """Copy the finished files into checkpoints/, in place of those that are there."""
    stop_after: int = 0
    """Train only so many epochs of the DSR, and compare them with the shipped one's; 0: train everything."""


def main(cfg: Config) -> Path:
    """Train what is not there yet; return the folder with the finished files (with --stop-after: the DSR's run).

    Raises UserError, before anything else, for a recogniser of the recipe that is missing, and where a training fails.
    """
    cfg = _with_data(cfg)
    if cfg.stop_after:
        return _first_epochs(cfg)
    for recogniser in recognisers(cfg.recipe):  # hours before they are needed
        edgeface_file(recogniser)
    first = _train_dsr(cfg, "dsr")
    first_tuned = _finetune(cfg, "finetune", first)
    second = _train_dsr(cfg, "dsr_second", start=first, second=first_tuned.with_suffix(".pt"))
    second_tuned = _finetune(cfg, "finetune_second", second, start=first_tuned)
    third = _train_dsr(cfg, "dsr_third", start=second)
    third_tuned = _finetune(cfg, "finetune_third", third, start=second_tuned)
    fourth_tuned = _finetune(cfg, "finetune_fourth", third, start=third_tuned)
    fourth = _train_dsr(cfg, "dsr_fourth", start=third, second=third_tuned.with_suffix(".pt"))
    fifth_tuned = _finetune(cfg, "finetune_fifth", fourth, start=fourth_tuned)
    pairs = [(fourth, fifth_tuned)]
    for stage in CHAINS:
        pairs.append(_train_chain(cfg, stage, *pairs[-1]))
    dsr, trained = pairs[-1]
    tuned = _normalise(cfg, NORMALISED[0], dsr, trained)
    dsr = _train_dsr(cfg, LAST_DSR, start=dsr, second=tuned.with_suffix(".pt"))
    tuned = _normalise(cfg, NORMALISED[1], dsr, trained)
    large = _train_dsr(cfg, "large", start=dsr, second=tuned.with_suffix(".pt"))
    return _collect(cfg, dsr, tuned, large)


def recognisers(recipe: Path) -> list[str]:
    """The recognisers that the recipe names beside the original: teachers, and who sees every other face of a DSR."""
    found: list[str] = []
    for stage in STAGES:
        if stage.startswith("finetune"):
            found += read_recipe(finetune_edgeface.Config, recipe, stage).teachers
        elif stage in CHAINS:
            found += read_recipe(train_chain.Config, recipe, stage).teachers
        elif second := read_recipe(train_dsr.Config, recipe, stage).second_edgeface:
            found.append(second)
    return list(dict.fromkeys(found))


def _with_data(cfg: Config) -> Config:
    found = {
        "train_root": cfg.train_root or default_dataset("train"),
        "val_root": cfg.val_root or default_dataset("val"),
    }
    for name, path in found.items():
        if path is None:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag}: there is no default data set. Make one with `python -m dsr.prepare_dataset folder`."
            )
    if cfg.stop_after < 0:
        raise UserError(f"--stop-after {cfg.stop_after}: expected 0 or more epochs.")
    return replace(cfg, **found)  # type: ignore[arg-type]


def _train_dsr(cfg: Config, stage: str, start: Path | None = None, second: Path | None = None) -> Path:
    out = cfg.out / stage
    wanted, processes = read_recipe(train_dsr.Config, cfg.recipe, stage), processes_of(cfg.recipe, stage)
    if cfg.device != "cpu":  # one process there, with the faces of all
        wanted, processes = replace(wanted, batch_size=wanted.batch_size * processes), 1
    settings = replace(
        wanted,
        edgeface=cfg.edgeface,
        train_root=cfg.train_root,
        val_root=cfg.val_root,
        device=cfg.device,
        threads=cfg.threads,
        start_from=str(start) if start is not None else None,
        second_edgeface=str(second) if second is not None else wanted.second_edgeface,
        stop_after=cfg.stop_after,
        out=out,
        resume=(out / "last.pt").is_file(),
    )
    _require_recipe(out, settings, processes)
    unmixed = bool(settings.alphas) and not cfg.stop_after and not (out / train_dsr.MIXTURES).is_file()
    if unmixed or len(read_records(out / "metrics.jsonl")) < (cfg.stop_after or settings.epochs):
        _run_stage("dsr.train_dsr", settings, processes)
    return out / "dsr.pt"


def processes_of(recipe: Path, stage: str) -> int:
    """How many processes share a DSR training of the recipe: its table `processes`, else 1.

    Raises UserError for anything but a number from 1 on.
    """
    count = read_sections(recipe).get("processes", {}).get(stage, 1)
    if type(count) is not int or count < 1:
        raise UserError(f"{recipe}, [processes] key '{stage}': expected a whole number from 1 on, found {count!r}.")
    return count


def _finetune(cfg: Config, stage: str, dsr: Path, start: Path | None = None) -> Path:
    out = cfg.out / stage
    tuned = out / f"{FINETUNED}.pth"
    settings = replace(
        read_recipe(finetune_edgeface.Config, cfg.recipe, stage),
        edgeface=cfg.edgeface,
        start_from=str(start) if start is not None else None,
        dsr=str(dsr),
        train_root=cfg.train_root,
        val_root=cfg.val_root,
        device=cfg.device,
        threads=cfg.threads,
        out=out,
        resume=(out / "last.pt").is_file(),
    )
    _require_recipe(out, settings)
    if not tuned.with_suffix(".pt").is_file():  # the TorchScript comes last
        _run_stage("facial_rec.finetune_edgeface", settings)
    return tuned


def _train_chain(cfg: Config, stage: str, dsr: Path, start: Path) -> tuple[Path, Path]:
    """The DSR and the EdgeFace that were trained at once, from those given."""
    out = cfg.out / stage
    tuned = out / f"{FINETUNED}.pth"
    wanted, processes = read_recipe(train_chain.Config, cfg.recipe, stage), processes_of(cfg.recipe, stage)
    if cfg.device != "cpu":  # one process there, with the faces of all
        wanted, processes = replace(wanted, batch_size=wanted.batch_size * processes), 1
    else:
        wanted = replace(wanted, cuda_graph=False)
    settings = replace(
        wanted,
        edgeface=cfg.edgeface,
        start_from=str(start),
        dsr=str(dsr),
        train_root=cfg.train_root,
        val_root=cfg.val_root,
        device=cfg.device,
        threads=cfg.threads,
        out=out,
        resume=(out / "last.pt").is_file(),
    )
    _require_recipe(out, settings, processes)
    if not tuned.with_suffix(".pt").is_file():  # the TorchScript comes last
        _run_stage("pipeline.train_chain", settings, processes)
    return out / "dsr.pt", tuned


def _normalise(cfg: Config, stage: str, dsr: Path, trained: Path) -> Path:
    """The trained EdgeFace with its last layer normalised, on the outputs of `dsr`."""
    out = cfg.out / stage
    tuned = out / f"{FINETUNED}.pth"
    settings = replace(
        read_recipe(normalise_head.Config, cfg.recipe, stage),
        edgeface=str(trained),
        original=cfg.edgeface,
        dsr=str(dsr),
        train_root=cfg.train_root,
        val_root=cfg.val_root,
        device=cfg.device,
        threads=cfg.threads,
        out=out,
    )
    _require_recipe(out, settings)
    if not tuned.with_suffix(".pt").is_file():
        _run_stage("pipeline.normalise_head", settings)
    return tuned


def _require_recipe(out: Path, settings: Any, processes: int = 1) -> None:
    """UserError where a stage that has begun, or ended, in `out` had other settings than the recipe has now."""
    now = _what_shapes(settings, processes)
    other: dict[str, str] = {}
    files = [out / name for name in ("config.json", MADE_BY)]  # what the command wrote, and what it was started with
    for made in (read_json(file) for file in files if file.is_file()):
        made["batch_size"] = made.get("batch_size", 0) * made.get("processes", 1)
        differing = sorted(key for key in made.keys() & now.keys() if made[key] != now[key])
        other |= {key: f"{key} was {made[key]}, is {now[key]}" for key in differing}
    if other:
        raise UserError(
            f"{out} was trained by another recipe ({'; '.join(other.values())}). Give another --out, or remove that "
            "folder and those of the stages after it."
        )


def _what_shapes(settings: Any, processes: int) -> dict[str, Any]:
    """The settings that change what comes of a stage, and the SHA-256 of the weights that go into it."""
    wanted = json.loads(json.dumps(asdict(settings), default=str))
    wanted["batch_size"] = wanted.get("batch_size", 0) * processes  # on a GPU one process takes the faces of all
    left_out = (PATHS - {"teachers"}) | PLACE | {"original"}  # teachers are named by the recipe, and not by a path
    if wanted.get("minutes"):
        left_out |= {"epochs"}  # as many as the minutes held
    kept = {key: value for key, value in wanted.items() if key not in left_out}
    files = {key: find_weights(wanted[key]) for key in INPUTS if wanted.get(key)}
    return kept | {f"{key}_file_sha256": sha256_of(path) for key, path in files.items() if path is not None}


def _run_stage(module: str, settings: Any, processes: int = 1) -> None:
    """As `_run`, after noting in the stage's folder what it is made by."""
    if not (settings.out / MADE_BY).is_file():
        settings.out.mkdir(parents=True, exist_ok=True)
        write_json(settings.out / MADE_BY, _what_shapes(settings, processes))
    _run(module, settings, processes)


def _collect(cfg: Config, dsr: Path, tuned: Path, large: Path) -> Path:
    """Everything that checkpoints/ holds of these models, without the cards."""
    folder = cfg.out / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((dsr, "dsr.pt"), (tuned, EDGEFACE), (large, "dsr_large.pt")):
        write_with(folder / name, partial(shutil.copyfile, source))
    edgeface, network, thresholds = str(folder / EDGEFACE), str(folder / "dsr.pt"), folder / "thresholds.json"
    _run("dsr.mirror", mirror.Config(network, folder / "dsr_mirrored.pt"))
    wanted = read_recipe(calibrate.Config, cfg.recipe, "calibrate")
    wanted = replace(wanted, images=cfg.val_root, out=thresholds, threads=cfg.threads, edgeface=edgeface, dsr=network)
    _run("pipeline.calibrate", wanted)
    for kind in get_args(Kind):
        made = export.Config(
            what=kind,
            edgeface=edgeface,
            dsr=network,
            calibration=thresholds,
            precision="fp16",
            val_root=cfg.val_root,
            out=folder / f"{kind}.onnx",
        )
        _run("pipeline.export", made)
    write_json(folder / HISTORY, history(cfg))
    write_checksums(folder)
    print(f"All of it lies in {folder}.")
    if cfg.install:
        _install(folder)
    return folder


def history(cfg: Config) -> dict[str, Any]:
    """How the models came about: of each stage its settings, and every epoch's figures and seconds."""
    stages = {}
    tuned = read_json(cfg.out / NORMALISED[1] / f"{FINETUNED}.json")
    for stage in STAGES:
        run = cfg.out / stage
        epochs = read_records(run / "metrics.jsonl")
        stages[stage] = {
            "config": {key: value for key, value in read_json(run / "config.json").items() if key not in PATHS},
            "seconds": round(sum(epoch["seconds"] for epoch in epochs), 1),
            "epochs": epochs,
        }
        if (run / train_dsr.MIXTURES).is_file():
            stages[stage]["mixture"] = read_json(run / train_dsr.MIXTURES)
    commit, dirty = git_state()
    return {
        "format": "dsr-edgeface-training-1",
        "machine": f"{os.cpu_count()} CPU cores, {_processor()}" if cfg.device == "cpu" else cfg.device,
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "stages": stages,
        "finetuned": {key: value for key, value in tuned.items() if key not in PATHS},
    }


PATHS = {
    "command",
    "out",
    "train_root",
    "val_root",
    "dsr",
    "edgeface",
    "start_from",
    "second_edgeface",
    "teachers",
}  # of the machine, not of the models
PLACE = {"device", "threads", "resume", "stop_after", "wandb", "cache_gb", "save_every", "cuda_graph", "minutes"}
"""Settings that change where and how far a stage runs, not what comes of it."""


def _processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def write_checksums(folder: Path) -> None:
    """`SHA256SUMS` over the shipped files that are in `folder`, as sha256sum writes it."""
    files = [folder / name for name in SHIPPED if (folder / name).is_file()]
    write_text(folder / "SHA256SUMS", "".join(f"{sha256_of(path)}  {path.name}\n" for path in files))


def _install(made: Path) -> None:
    """Copy what was made into checkpoints/, in place of what is there, and list it."""
    checkpoints = REPOSITORY_ROOT / "checkpoints"
    for name in SHIPPED:
        if (made / name).is_file():
            write_with(checkpoints / name, partial(shutil.copyfile, made / name))
    write_checksums(checkpoints)
    print(f"Installed in {checkpoints}. Measure with `python -m pipeline.evaluate_reference`, then write the cards.")


def _first_epochs(cfg: Config) -> Path:
    """Train the DSR's first epochs and compare every figure with those of the shipped one."""
    shipped = find_weights(HISTORY)
    if shipped is None:
        raise UserError(f"checkpoints/{HISTORY} is missing: it holds the epochs to compare with. `git checkout` it.")
    known = read_json(shipped)["stages"]["dsr"]["epochs"]
    if len(known) < cfg.stop_after:
        raise UserError(f"--stop-after {cfg.stop_after}: the shipped DSR's first stage had {len(known)} epochs.")
    _train_dsr(cfg, "dsr")
    ours = read_records(cfg.out / "dsr" / "metrics.jsonl")[: cfg.stop_after]
    rows, largest = compared(ours, known[: len(ours)])
    print("\n" + format_table(["epoch", "figure", "shipped", "here", "difference"], rows))
    verdict = "reproduced" if largest <= EQUAL else "other machines and thread counts round otherwise"
    print(f"Largest relative difference {largest:.1e}: {verdict}.")
    return cfg.out / "dsr"


def compared(ours: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]) -> tuple[list[list[str]], float]:
    """Training losses and validation figures of two histories side by side, and the largest relative difference.

    Raises UserError where they hold other figures: then the recipes differ.
    """
    rows, largest = [], 0.0
    for mine, theirs in zip(ours, known, strict=True):
        here, there = _figures(mine), _figures(theirs)
        if other := sorted(here.keys() ^ there.keys()):
            raise UserError(
                f"the shipped DSR had another recipe: one of both has no {', '.join(other)}, epoch {mine['epoch']}."
            )
        for name, now in here.items():
            before = there[name]
            rows.append([str(mine["epoch"]), name, f"{before:.6f}", f"{now:.6f}", f"{now - before:+.1e}"])
            largest = max(largest, abs(now - before) / max(abs(before), 1e-12))
    return rows, largest


def _figures(epoch: Mapping[str, Any]) -> dict[str, float]:
    found = {f"training {name}": value for name, value in epoch["train"].items()}
    for size, methods in epoch["validation"].items():
        found |= {f"{name} at {size}": value for name, value in methods["dsr"].items()}
    return found


def _run(module: str, settings: Any, processes: int = 1) -> None:
    """Run a command of this project in a process of its own, or several. Raises UserError where it fails."""
    command = command_of(module, settings)
    print(f"\n[reference] {command}", flush=True)
    shared = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = [sys.executable, *shared, *shlex.split(command)[1:]]
    if code := subprocess.run(words, check=False).returncode:
        raise UserError(f"`{command}` ended with {code}: see above. Run this command again to go on from there.")


if __name__ == "__main__":
    cli.run(main, Config)
