"""A run of `pipeline.train_chain`: what it measures after an epoch, which networks it keeps, what it leaves on disk."""

from __future__ import annotations

import math
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import UserError
from common.files import read_json, sha256_of, write_json, write_with
from common.paths import find_weights
from common.runlog import append_record, keep_records, read_records
from dsr.checkpoint import load_dsr, save_dsr
from dsr.curves import save_picture
from dsr.data import FaceReader, SizeChoice
from dsr.model import Dsr
from dsr.restored import Restorer
from dsr.train_dsr import MIXTURES, print_figures
from dsr.training import Validation
from facial_rec.distributed import Place
from facial_rec.edgeface import EdgeFace
from facial_rec.finetune_curves import save_curves
from facial_rec.finetune_result import on_device, save_mixture, save_result
from facial_rec.finetune_state import Kept
from facial_rec.finetune_validation import Guard, Report, Verification, score, summary
from facial_rec.metrics import Floats
from facial_rec.weight_average import interpolate
from pipeline.chain_training import ChainState, averaged_pair, save_chain

if TYPE_CHECKING:
    from pipeline.train_chain import Config

SAVE_SECONDS = 20.0  # an epoch that ends sooner after the last save is not saved by itself


@dataclass
class ChainRun:
    """One run: its state, and what it is measured with; validation is the leading process's."""

    cfg: Config
    state: ChainState
    original: EdgeFace
    start: Dsr
    """The DSR that the training began with."""
    settings: dict[str, Any]
    about: dict[str, Any]
    place: Place
    faces: FaceReader
    """Validation faces."""
    people: torch.Tensor
    quality: Validation
    guard: Guard
    high: Floats
    """What the original says of the true validation faces, `(N, D)`, with which every student's is compared."""
    saved_at: float = -math.inf

    def shorten(self, epochs: int) -> Config:
        """From now on the run has at most so many epochs; returns the settings it goes on with."""
        chosen = max(state_epoch := self.state.epoch + 1, min(self.cfg.epochs, epochs))
        print(f"[minutes] {self.cfg.minutes:g} minutes hold {chosen} epochs; the {state_epoch} so far were measured")
        self.cfg = replace(self.cfg, epochs=chosen, minutes=0.0)
        self.settings["epochs"] = chosen
        self.saved_at = -math.inf  # the state must have that number too, at the end of this very epoch
        write_json(self.cfg.out / "config.json", {**read_json(self.cfg.out / "config.json"), "epochs": chosen})
        return self.cfg

    def save(self) -> None:
        """Write `last.pt`, atomically."""
        save_chain(self.cfg.out / "last.pt", self.state, self.settings)
        self.saved_at = time.monotonic()

    def verification(self, dsr: Dsr) -> Verification:
        """Verification of the validation people on this DSR's outputs."""
        found = verification_on(dsr, self.cfg, self.faces, self.people, self.place.device)
        found.original = self.high
        return found

    def finish_epoch(self, record: dict[str, Any]) -> dict[str, Any]:
        """Validate the averaged networks where it is their turn, keep them, log; the state comes last.

        Kept are the best so far, and in the end those of the last epoch: at a rate of nearly zero they are the best
        but for chance.

        `record` holds the epoch's number, step and losses; it is returned with the validation figures.
        """
        cfg, state, out = self.cfg, self.state, self.cfg.out
        last = record["epoch"] == cfg.epochs
        validates = last or record["epoch"] % cfg.validate_every == 0
        if validates:
            dsr, student = averaged_pair(state)
            report = self.verification(dsr).run(on_device(self.original, student, self.place.device))
            quality = self.quality.run(dsr)
            record = {**record, "validation": report, "score": score(report), "quality": quality}
            if last or state.kept is None or score(report) > score(state.kept.report):
                state.kept = Kept(student, record["epoch"], report)
                metadata = {**self.about, "settings": self.settings, "epoch": record["epoch"], "validation": quality}
                if state.dsr_learns:
                    save_dsr(out / "dsr.pt", dsr, metadata)
                else:
                    self._copy_dsr()
                save_result(out, self.original, student, self._metadata(1.0, report, record["epoch"]))
            save_picture(out / "samples" / f"epoch_{record['epoch']:03d}.png", self.quality.grid(dsr))
        keep_records(out / "metrics.jsonl", record["epoch"] - 1)
        append_record(out / "metrics.jsonl", record)
        if validates:
            validated = [one for one in read_records(out / "metrics.jsonl") if "validation" in one]
            save_curves(out / "curves.png", validated, self.guard.original)
        state.epoch, state.sums = record["epoch"], {}
        if validates or time.monotonic() - self.saved_at > SAVE_SECONDS:  # an epoch may take but a second
            self.save()
        _print_epoch(record)
        return record

    def finish(self) -> Path:
        """Mix the DSR with the one it began as, choose the recogniser's mixture with the original, write both.

        Returns the path of the recogniser's state dict. Raises UserError when the guard admits none.
        """
        kept = self.state.kept
        assert kept is not None
        verification = self.verification(self._mixed_dsr())
        named, alphas = partial(self._metadata, epoch=kept.epoch), self.cfg.alphas
        path, best = save_mixture(self.cfg.out, self.original, kept.state, alphas, verification, self.guard, named)
        print(f"Chosen: epoch {kept.epoch}, alpha {best.alpha}. Weights: {self.cfg.out / 'dsr.pt'} and {path}")
        return path

    def _copy_dsr(self) -> None:
        """The DSR that did not learn, byte for byte: what was made with it still belongs to it."""
        source, path = find_weights(self.cfg.dsr), self.cfg.out / "dsr.pt"
        assert source is not None
        if not path.is_file() or sha256_of(path) != sha256_of(source):  # of a run that was killed before its first save
            write_with(path, lambda temporary: shutil.copyfile(source, temporary))

    def _mixed_dsr(self) -> Dsr:
        """The DSR of `--dsr-alpha`, which replaces the trained one in `dsr.pt` unless it lies there already."""
        path, alpha = self.cfg.out / "dsr.pt", self.cfg.dsr_alpha
        dsr, info = load_dsr(path, self.place.device)
        if not self.state.dsr_learns:
            return dsr
        found, quality = info.metadata.get("alpha", 1.0), info.metadata["validation"]
        if found not in (1.0, alpha):
            raise UserError(
                f"{path} is mixed already, with --dsr-alpha {found}, not {alpha}: the trained one is gone. "
                "Give the same, or train again in another --out."
            )
        if found != alpha:
            dsr.load_state_dict(interpolate(self.start.state_dict(), dsr.state_dict(), alpha), strict=True)
            quality = self.quality.run(dsr)
            save_dsr(path, dsr, {**info.metadata, "alpha": alpha, "validation": quality})
        if alpha != 1.0:
            write_json(self.cfg.out / MIXTURES, {"alpha": alpha, "validation": quality})
            print(f"DSR, alpha {alpha}:")
            print_figures(quality)
        return dsr

    def _metadata(self, alpha: float, report: Report, epoch: int) -> dict[str, Any]:
        chosen = {"epoch": epoch, "alpha": alpha, "validation": report, "validation_original": self.guard.original}
        return {**self.about, **chosen, "settings": self.settings}


def verification_on(
    dsr: Dsr, cfg: Config, faces: FaceReader, people: torch.Tensor, device: torch.device
) -> Verification:
    """Verification of the validation people, reduced to the sizes of `cfg` and restored by `dsr`."""
    restorer = Restorer(dsr, SizeChoice.parse(cfg.vlr_size))
    pixels = faces.read(range(len(faces)))
    return Verification(pixels, people, restorer.sizes.validation_sizes(), restorer.at, device)


def _print_epoch(record: dict[str, Any]) -> None:
    parts = ", ".join(f"{name} {value:.4f}" for name, value in record["train"].items())
    print(f"[epoch {record['epoch']}] {parts} ({record['seconds']:.0f} s)")
    if "validation" in record:
        print(f"    TAR at FMR 1e-3: {summary(record['validation'])}; score {record['score']:.4f}")
        print_figures(record["quality"])
    sys.stdout.flush()
