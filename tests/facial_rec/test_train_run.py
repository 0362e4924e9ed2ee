"""Training EdgeFace: stops, kills and resuming, and several processes give the losses of one uninterrupted run."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from common.runlog import read_records
from facial_rec import train_run
from facial_rec.train_edgeface import Config, main
from facial_rec.weights import read_state

PEOPLE, PHOTOS = 4, 4
LATER = {"seconds"}


def config_of(data: Path, out: Path) -> Config:
    """Two epochs of two steps."""
    return Config(
        variant="edgeface_tiny",
        train_root=data / "train",
        val_root=data / "val",
        epochs=2,
        batch_size=8,
        out=out,
        save_every=3,
        log_every=1,
    )


@pytest.fixture
def config(training_faces: Path, tmp_path: Path) -> Config:
    return config_of(training_faces, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(training_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The run of `config`, never interrupted. Nobody writes into it."""
    config = config_of(training_faces, tmp_path_factory.mktemp("finished") / "run")
    main(config)
    return config


@pytest.fixture(autouse=True)
def _plain_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training a tiny network; `finished` is drawn once."""
    monkeypatch.setattr(train_run, "save_curves", lambda path, *_: path.write_bytes(b"curves"))


def losses(config: Config) -> list[float]:
    return [record["loss"] for record in read_records(config.out / "losses.jsonl")]


def records(config: Config) -> list[dict[str, Any]]:
    """What was validated, without the clock's part."""
    found = read_records(config.out / "metrics.jsonl")
    return [{key: value for key, value in record.items() if key not in LATER} for record in found]


def assert_same_run(one: Config, other: Config) -> None:
    assert losses(one) == losses(other)
    assert records(one) == records(other)
    ours, theirs = (read_state(run.out / "edgeface.pt") for run in (one, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_run.train_step

    def step_or_stop(state: Any, *args: Any) -> float:
        if state.step == step:
            raise KeyboardInterrupt
        return whole(state, *args)

    monkeypatch.setattr(train_run, "train_step", step_or_stop)


@pytest.mark.parametrize("step", [2, 3])
def test_resume_in_the_middle_of_an_epoch_gives_the_losses_of_an_uninterrupted_run(
    step: int, config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    main(replace(config, resume=True))
    assert_same_run(config, finished)


@pytest.mark.parametrize("write", ["append_record", "save_weights", "save_curves", "save_state"])
def test_a_stop_between_any_two_files_is_mended(
    config: Config, finished: Config, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls, ranks = getattr(train_run, write), [], itertools.count(0, -1)
    monkeypatch.setattr(train_run, "_rank", lambda figures: next(ranks))  # every validation is the best so far

    def stop_the_third_time(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_run, write, stop_the_third_time)
        with pytest.raises(KeyboardInterrupt):
            main(replace(config, val_every=1))
    main(replace(config, val_every=1, resume=True))
    assert losses(config) == losses(finished)
    assert [record["step"] for record in records(config)] == list(range(1, 5))
    assert json.loads((config.out / "edgeface.json").read_text())["step"] == 4


def test_kill_9_costs_the_steps_since_the_last_save(config: Config, finished: Config) -> None:
    def killed() -> None:
        torch.set_num_threads(1)
        whole = train_run.train_step
        train_run.train_step = lambda state, *rest: (
            os.kill(os.getpid(), signal.SIGKILL) if state.step == 3 else whole(state, *rest)
        )
        main(replace(config, save_every=100))

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(losses(config)) == 3
    main(replace(config, resume=True))
    assert_same_run(config, finished)


@pytest.mark.parametrize("loss", ["cosface", "triplet"])
def test_one_and_two_processes_give_the_same_losses(
    loss: Any, config: Config, in_processes: Callable[..., list[Any]]
) -> None:
    """Twenty steps of eight faces with every augmentation."""
    one = replace(config, loss=loss, epochs=10, photos_per_person=2, val_every=100, save_every=100)
    two = replace(one, batch_size=4, out=config.out.with_name("two"))
    main(one)
    in_processes(lambda: main(two), 2)
    assert len(losses(one)) == 20
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    saved = sorted(path.name for path in (two.out / "state").rglob("*.pt"))
    assert saved == ["rank_0.pt", "rank_1.pt"]
    assert not list(two.out.rglob("*.tmp"))
    figures = [records(run)[0]["validation"] for run in (one, two)]
    assert figures[0]["auc"] == pytest.approx(figures[1]["auc"], abs=0.1)


def test_two_processes_resume(config: Config, in_processes: Callable[..., list[Any]]) -> None:
    """With sampled class centres; stopped in both processes at once, as torchrun does."""
    two = replace(config, batch_size=4, sampling=0.5, epochs=2)
    in_processes(lambda: main(two), 2)
    again = replace(two, out=config.out.with_name("again"))

    def interrupted() -> None:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(3, patch)
            with pytest.raises(KeyboardInterrupt):
                main(again)

    in_processes(interrupted, 2)
    assert len(losses(again)) == 3
    in_processes(lambda: main(replace(again, resume=True)), 2)
    assert_same_run(again, two)
    with pytest.raises(UserError, match=r"belongs to a run with other settings .*processes was 2, is now 1"):
        main(replace(again, resume=True))


@pytest.fixture
def copied(finished: Config, tmp_path: Path) -> Config:
    """A run to go on with."""
    shutil.copytree(finished.out, tmp_path / "copied")
    return replace(finished, out=tmp_path / "copied", resume=True)


def test_a_finished_run_stays_as_it_is(copied: Config, finished: Config) -> None:
    main(copied)
    assert_same_run(copied, finished)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"epochs": 3}, "epochs was 2, is now 3"),
        ({"margin": (0.3,)}, r"margin was \[0\.4\], is now \[0\.3\]"),
        ({"gamma": 0.5}, "gamma was None, is now 0.5"),
        ({"unlabelled": ("p3",)}, "training_people was 4, is now 3"),
    ],
)
def test_changed_settings_are_refused_on_resume(copied: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"copied belongs to a run with other settings \(.*{words}"):
        main(replace(copied, **change))


def test_a_damaged_state_is_refused(copied: Config) -> None:
    state = next((copied.out / "state").rglob("rank_0.pt"))
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"rank_0\.pt is not a readable weights file"):
        main(copied)
    state.unlink()
    with pytest.raises(UserError, match=r"rank_0\.pt is missing"):
        main(copied)
    torch.save({"something": 1}, state)
    with pytest.raises(UserError, match=r"rank_0\.pt is not a training state of train_edgeface"):
        main(copied)
    (copied.out / "last.json").write_text("[]")
    with pytest.raises(UserError, match=r"last\.json does not say where the state is"):
        main(copied)
