"""Compare losses, or rank ratios (gamma), by training EdgeFace from scratch with each, under equal budgets.

    python -m pipeline.study --what losses --minutes 20 --seeds 0 1 --train-root dataset/train_processed \
        --val-root dataset/val_processed --out runs/study_losses

One run at a time, every setting with every seed. Killed and started again it goes on where it was; more seeds may be
added later. After each run `results.json` and `results.md` in --out hold what is known so far. CosFace 0.4 on the plain
network belongs to both studies: the second takes it over with --same-runs instead of training it again; --only gives
each machine or core a part of the settings. With --minutes the speed
of each setting is measured first, once, and its runs get the whole epochs that fit best: a faster network takes more.
With --epochs all take as many. The weights judged are the last ones, on people who were not trained on, never on LFW.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from common import cli
from common.errors import UserError
from common.files import read_json, write_json, write_text
from common.paths import default_dataset, find_dataset
from dsr.data import names_sha256
from facial_rec.edgeface import count_parameters, variant_named
from facial_rec.faceset import Face, FaceSet
from facial_rec.identities import require_disjoint
from facial_rec.operations import count_macs
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource, StoreSource
from facial_rec.trials import load_trials
from facial_rec.weights import load_strictly, read_edgeface_state, recognise
from pipeline.development_set import refuse_lfw
from pipeline.networks import NO_DSR, load_chain, set_threads
from pipeline.pair_evaluation import Settings, counts_of, evaluate
from pipeline.run_record import now, run_record
from pipeline.study_runs import SETTINGS, Run, What, runs_of, same_training
from pipeline.study_table import markdown
from pipeline.study_training import Training

FORMAT = "dsr-edgeface-study-1"
LATER = ("vlr_size", "train_images_sha256", "val_images_sha256")  # which older studies did not note


@dataclass(frozen=True)
class Config:
    """What to compare, on what, and for how long."""

    what: What
    """losses: CosFace 0.4, ArcFace 0.25, ArcFace 1.5, triplet 1.5; gamma: 0.2, 0.5 and 1.0 with CosFace 0.4."""
    train_root: Path | None = None
    """Training faces by identity: a folder or zip (default: dataset/train_processed)."""
    val_root: Path | None = None
    """Faces of other people to validate on (default: dataset/val_processed)."""
    out: Path | None = None
    """Folder of the study (default: runs/study_<what>)."""
    minutes: float = 20.0
    """Training time of a run, at the speed measured before its setting's first; not looked at with --epochs."""
    epochs: int = 0
    """Passes over the training faces in a run, equal for all; 0 goes by --minutes."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of weights, order and augmentation; every setting is trained with each."""
    only: tuple[str, ...] = ()
    """Settings to train now, as their folders are called (gamma_0.5, arcface_1.5); default all."""
    same_runs: Path | None = None
    """Folder of the other study; its finished runs that are equal to one of this study's are taken over."""
    variant: str = "edgeface_xxs"
    """Size of the network."""
    batch_size: int = 64
    """Faces a step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    unlabelled: tuple[str, ...] = ("unlabelled",)
    """Folders of faces without identity, which are left out."""
    vlr_size: int = 16
    """Side of the low-resolution faces in validation, which are enlarged by bicubic."""
    bootstrap: int = 1000
    """Resamples of people behind the 95 % intervals in results.json; 0 leaves them out."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""

    def __post_init__(self) -> None:
        if not self.epochs and not self.minutes > 0:
            raise UserError(f"--minutes {self.minutes}: expected more than 0, or --epochs.")
        if self.epochs < 0 or self.batch_size < 2 or self.bootstrap < 0:
            raise UserError(
                f"--epochs {self.epochs} --batch-size {self.batch_size} --bootstrap {self.bootstrap}: expected at "
                "least 0, 2 and 0."
            )
        variant_named(self.variant)
        known = [setting.name for setting in SETTINGS[self.what]]
        if unknown := [name for name in self.only if name not in known]:
            raise UserError(f"--only {' '.join(unknown)}: expected some of {', '.join(known)}.")


def main(cfg: Config) -> dict[str, Any]:
    """Do the runs that are not done yet, and return what `results.json` holds."""
    study = Study.open(cfg)
    with study.alone():
        if cfg.same_runs is not None:
            study.take_over(cfg.same_runs)
        for number, run in enumerate(study.runs, 1):
            if study.is_done(run) or (cfg.only and run.setting.name not in cfg.only):
                continue
            print(f"[study] run {number} of {len(study.runs)}: {run.setting.label}, seed {run.seed}", flush=True)
            study.do(run)
        results = study.write_results()
    print(f"\n{markdown(results)}\nwritten: {study.out / 'results.json'}, {study.out / 'results.md'}")
    return results


@dataclass(frozen=True)
class Study:
    """A study on disk: `<out>/study.json` says what it is, `<out>/<run>/result.json` that a run is done."""

    cfg: Config
    out: Path
    runs: list[Run]
    source: ImageSource
    pairs: PairList
    data: dict[str, Any]
    training: Training

    @classmethod
    def open(cls, cfg: Config) -> Study:
        """Begin a study, or go on with the one in `cfg.out`.

        Raises UserError for LFW, people who are in both sets, and a folder that holds a study with other settings or
        of other images.
        """
        runs, out = runs_of(cfg.what, cfg.seeds), cfg.out or Path("runs") / f"study_{cfg.what}"
        set_threads(cfg.threads)
        train_root, val_root = _root(cfg.train_root, "train"), _root(cfg.val_root, "val")
        train, val = FaceSet(train_root), FaceSet(val_root)
        _check_people(train, val, cfg.unlabelled)
        source, pairs = load_trials(val_root, left_out=cfg.unlabelled)
        used, validated_on = _labelled(train, cfg.unlabelled), _labelled(val, cfg.unlabelled)
        data = {
            "variant": cfg.variant,
            "batch_size": cfg.batch_size,
            "learning_rate": cfg.learning_rate,
            "train_faces": len(used),
            "train_people": len({face.subject for face in used}),
            "train_names_sha256": names_sha256(used),
            "val_names_sha256": names_sha256(validated_on),
            "train_images_sha256": images_sha256(StoreSource(train.store, [face.name for face in used])),
            "val_images_sha256": images_sha256(source),
            "vlr_size": cfg.vlr_size,
        }
        budget = {"epochs": cfg.epochs} if cfg.epochs else {"minutes": cfg.minutes}
        _check_same(out / "study.json", {"format": FORMAT, "what": cfg.what, **budget, **data})
        how = (cfg.variant, cfg.batch_size, cfg.learning_rate, cfg.unlabelled, cfg.device)
        return cls(cfg, out, runs, source, pairs, data, Training(train_root, val_root, *how))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second process out of this study. Raises UserError when one is in it."""
        with open(self.out / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"{self.out} is in use by another study: one run at a time.") from error
            yield

    def is_done(self, run: Run) -> bool:
        """Whether the run was finished, by this or by an earlier process."""
        return self._result(run).is_file()

    def do(self, run: Run) -> None:
        """Train and validate `run`, and write its result, then the table of all."""
        epochs, folder = self.epochs_of(run), self.out / run.name
        begun_before, started = folder.is_dir(), time.monotonic()
        weights = self.training.train(run, epochs, folder)
        seconds = None if begun_before else round(time.monotonic() - started, 1)  # a killed process's are not known
        result = {**asdict(run.setting), "seed": run.seed, "epochs": epochs, "steps": epochs * self.steps_an_epoch}
        result |= {"seconds": seconds, **cost_of(weights), "validation": self.validate(weights)}
        write_json(self._result(run), result)
        self.write_results()

    def take_over(self, other: Path) -> None:
        """Take the results of equal runs from the study in `other`. Raises UserError for one that does not compare."""
        mine, theirs = _begun_with(self.out), _begun_with(other)
        if differing := sorted(_differing(mine, theirs) - {"what"}):
            raise UserError(
                f"--same-runs {other} was made with another {', '.join(differing)}: its runs do not compare."
            )
        found = [read_json(file) for file in sorted(other.glob("*/result.json"))]
        for run in self.runs:
            if self.is_done(run):
                continue
            for result in found:
                if result["seed"] == run.seed and same_training(run.setting, result):
                    taken = {"taken_from": f"{result['label']}, study of {theirs['what']}"}
                    write_json(self._result(run), {**result, **asdict(run.setting), **taken})

    @property
    def steps_an_epoch(self) -> int:
        """Whole batches of the training faces."""
        return max(1, int(self.data["train_faces"]) // self.cfg.batch_size)

    def epochs_of(self, run: Run) -> int:
        """The budget of a run in epochs; for --minutes from the speed of its setting, measured once and kept."""
        if self.cfg.epochs:
            return self.cfg.epochs
        file = self.out / "speed" / f"{run.setting.name}.json"
        if not file.is_file():
            print(f"[study] measuring the speed of {run.setting.label}", flush=True)
            seconds = self.training.seconds_a_step(run.setting, self.data["train_people"])
            write_json(file, {"seconds_a_step": seconds})
        an_epoch = self.steps_an_epoch * float(read_json(file)["seconds_a_step"])
        return max(1, round(60.0 * self.cfg.minutes / an_epoch))

    def validate(self, weights: Path) -> dict[str, Any]:
        """Figures of HR pairs (`hr`) and of low-resolution probes against HR (`lr`), with `withheld`, `few_errors`."""
        chain, _ = load_chain([str(weights)], NO_DSR, self.cfg.device)
        settings = Settings((self.cfg.vlr_size,), ("lr-hr",), bootstrap=self.cfg.bootstrap)
        entries = evaluate(self.source, self.pairs, chain, settings).entries
        kept = ("figures", "withheld", "few_errors")
        return {
            "hr" if case.method == "hr" else "lr": {name: entry[name] for name in kept}
            for case, entry in entries.items()
        }

    def write_results(self) -> dict[str, Any]:
        """Write `results.json` and `results.md` from the runs that are done; return what the former holds."""
        budget = f"{self.cfg.epochs:,} epochs" if self.cfg.epochs else f"{self.cfg.minutes:g} minutes of training"
        done = [read_json(self._result(run)) for run in self.runs if self.is_done(run)]
        order = [setting.name for setting in SETTINGS[self.cfg.what]]
        results = {
            "format": FORMAT,
            "what": self.cfg.what,
            "budget": f"{budget} a run",
            "vlr_size": self.cfg.vlr_size,
            "planned_runs": len(self.runs),
            "data": self.data,
            "pairs": counts_of(self.pairs),
            "run": run_record("pipeline.study", self.cfg, now(), {}, {}),
            "runs": sorted(done, key=lambda result: (order.index(result["name"]), result["seed"])),
        }
        write_json(self.out / "results.json", results)
        if done:
            write_text(self.out / "results.md", markdown(results))
        return results

    def _result(self, run: Run) -> Path:
        return self.out / run.name / "result.json"


def images_sha256(source: ImageSource) -> str:
    """Hexadecimal digest of the names of the images and of what is in them, in a folder the same as in a zip."""
    lines = "".join(f"{name} {source.fingerprint(name)}\n" for name in sorted(source.names))
    return sha256(lines.encode(errors="surrogateescape")).hexdigest()


def cost_of(weights: Path) -> dict[str, int]:
    """Parameters, multiply-adds of one face, and bytes on disk."""
    state = read_edgeface_state(weights)
    _, network = recognise(state, weights)
    load_strictly(network, state, weights)
    network.eval()
    return {
        "parameters": count_parameters(network),
        "multiply_adds": sum(count_macs(network).values()),
        "bytes": weights.stat().st_size,
    }


def _root(given: Path | None, split: str) -> Path:
    return find_dataset(given or default_dataset(split) or Path(f"dataset/{split}_processed"))


def _labelled(faces: FaceSet, unlabelled: tuple[str, ...]) -> list[Face]:
    return [face for face in faces.faces if face.subject not in unlabelled]


def _check_people(train: FaceSet, val: FaceSet, unlabelled: tuple[str, ...]) -> None:
    for faces, option in ((train, "--train-root"), (val, "--val-root")):
        refuse_lfw(faces.root, faces.subjects, option)
    require_disjoint(train.root, val.root, train.subjects, val.subjects, unlabelled)


def _check_same(file: Path, settings: dict[str, Any]) -> None:
    """Write the study's settings, or raise UserError where others stand. An older study's are completed."""
    if file.is_file():
        if changed := _differing(settings, _begun_with(file.parent)):
            raise UserError(
                f"{file} was begun with another {', '.join(sorted(changed))}: runs of both would not compare. Choose "
                "another --out, or give the settings and the images it was begun with."
            )
        if read_json(file).keys() >= settings.keys():
            return
    write_json(file, settings)


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> set[str]:
    """What two studies do not have in common; what an older one, `theirs`, did not note counts as equal."""
    unknown = set(LATER) - theirs.keys()
    return {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)} - unknown


def _begun_with(folder: Path) -> dict[str, Any]:
    """What is noted of the study in `folder`: of an older one the low resolution stands in its results only."""
    settings, results = read_json(folder / "study.json"), folder / "results.json"
    older = {"vlr_size": read_json(results)["vlr_size"]} if "vlr_size" not in settings and results.is_file() else {}
    return {**settings, **older}


if __name__ == "__main__":
    cli.run(main, Config)
