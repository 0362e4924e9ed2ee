"""The study runner on tiny runs: all of them, a kill in the middle, more seeds later, the table, and every refusal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.files import read_json, write_json
from common.images import ImageStore, RgbImage, write_png
from facial_rec import train_run
from facial_rec.edgeface import get_model
from facial_rec.operations import count_macs
from facial_rec.sources import StoreSource
from pipeline import study, study_training
from pipeline.study import LATER, Config, Study, images_sha256, main
from pipeline.study_runs import SETTINGS, runs_of
from pipeline.study_table import markdown, spread
from pipeline.study_training import Training


@pytest.fixture
def cfg(tmp_path: Path, face: Callable[..., RgbImage]) -> Config:
    for split, people in (("train", range(4)), ("val", range(4, 9))):
        for person in people:
            for photo in range(4):
                write_png(tmp_path / split / f"p{person}" / f"{photo}.png", face(person, photo))
    return Config(
        what="gamma",
        train_root=tmp_path / "train",
        val_root=tmp_path / "val",
        out=tmp_path / "study",
        epochs=2,
        seeds=(0,),
        variant="edgeface_tiny",
        batch_size=8,
        bootstrap=0,
    )


def without_times(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in run.items() if key != "seconds"} for run in results["runs"]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """End the process, so to speak, in the training step with this number, counted over all runs."""
    step, done = train_run.Run.step, [0]

    def counted(self: train_run.Run, *args: Any) -> float:
        done[0] += 1
        if done[0] == count:
            raise Killed
        return step(self, *args)

    monkeypatch.setattr(train_run.Run, "step", counted)


def test_a_killed_study_goes_on_where_it_was_and_gives_the_same_results(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study_training, "SAVE_EVERY", 2)
    with monkeypatch.context() as killing:
        kill_at(killing, 8)  # the fourth and last step of the second of three runs
        with pytest.raises(Killed):
            main(cfg)
    out = tmp_path / "study"
    assert [run["gamma"] for run in read_json(out / "results.json")["runs"]] == [0.2]
    assert "1 of 3 runs are done" in (out / "results.md").read_text()
    first = (out / "gamma_0.2_seed0" / "result.json").stat().st_mtime_ns
    assert read_json(out / "gamma_0.5_seed0" / "last.json")["step"] == 2
    capsys.readouterr()

    resumed = main(cfg)
    printed = capsys.readouterr().out
    assert "run 2 of 3: gamma 0.5, seed 0" in printed
    assert "run 1 of 3" not in printed
    assert "of which 2 are done" in printed
    assert (out / "gamma_0.2_seed0" / "result.json").stat().st_mtime_ns == first
    assert [run["seconds"] is None for run in resumed["runs"]] == [False, True, False]

    whole = main(replace(cfg, out=tmp_path / "whole"))
    assert without_times(resumed) == without_times(whole)


def test_every_setting_is_measured_and_seeds_can_be_added(cfg: Config, tmp_path: Path) -> None:
    results = main(replace(cfg, epochs=1))
    small, half, plain = results["runs"]
    assert small["parameters"] < half["parameters"] < plain["parameters"]
    assert small["multiply_adds"] < plain["multiply_adds"] == sum(count_macs(get_model("edgeface_tiny")).values())
    assert small["bytes"] < plain["bytes"] == (tmp_path / "study" / "gamma_1_seed0" / "edgeface.pt").stat().st_size
    assert results["pairs"]["people"] == 5
    assert plain["validation"]["hr"].keys() == {"figures", "withheld", "few_errors"}
    assert plain["validation"]["hr"]["figures"] != plain["validation"]["lr"]["figures"]

    more = main(replace(cfg, epochs=1, seeds=(0, 1)))
    assert [(run["label"], run["seed"]) for run in more["runs"]][:2] == [("gamma 0.2", 0), ("gamma 0.2", 1)]
    assert [run for run in more["runs"] if run["seed"] == 0] == results["runs"], "finished runs are left alone"
    table = (tmp_path / "study" / "results.md").read_text()
    assert "| gamma 0.5 | 2 | 2 |" in table
    assert "6 of 6 runs are done" in table


def test_losses_all_train(cfg: Config) -> None:
    results = main(replace(cfg, what="losses", epochs=1))
    assert [run["label"] for run in results["runs"]] == ["CosFace 0.4", "ArcFace 0.25", "ArcFace 1.5", "triplet 1.5"]
    assert len({str(run["validation"]) for run in results["runs"]}) > 1
    settings = [(run["loss"], run["margin"]) for run in results["runs"]]
    assert settings == [("cosface", 0.4), ("arcface", 0.25), ("arcface", 1.5), ("triplet", 1.5)]


def test_minutes_become_epochs_at_the_measured_speed(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def speed(self: Training, setting: Any, people: int) -> float:
        asked.append(setting.name)
        return {"gamma_0.2": 0.5, "gamma_0.5": 1.0, "gamma_1": 2.0}[setting.name]

    monkeypatch.setattr(Training, "seconds_a_step", speed)
    for _ in range(2):  # a second process asks the file
        opened = Study.open(replace(cfg, epochs=0, minutes=1.0, seeds=(0, 1)))
        assert opened.steps_an_epoch == 2
        assert [opened.epochs_of(run) for run in opened.runs] == [60, 30, 15] * 2
    assert asked == ["gamma_0.2", "gamma_0.5", "gamma_1"]


@pytest.mark.parametrize("setting", [SETTINGS["losses"][0], SETTINGS["losses"][3], SETTINGS["gamma"][0]])
def test_the_speed_is_measured(setting: Any, tmp_path: Path) -> None:
    training = Training(tmp_path, tmp_path, "edgeface_tiny", 4, 1e-3, (), "cpu")
    assert 0.0 < training.seconds_a_step(setting, people=5) < 60.0


def test_seeds_come_one_after_the_other() -> None:
    runs = runs_of("losses", (3, 4))
    assert [run.name for run in runs[:2]] == ["cosface_0.4_seed3", "arcface_0.25_seed3"]
    assert [run.seed for run in runs] == [3] * 4 + [4] * 4
    assert len({run.name for run in runs}) == 8


def made_run(accuracy: float | None, seed: int = 0, few: bool = False) -> dict[str, Any]:
    part = {"figures": {"accuracy": accuracy, "eer": 0.1, "tar@fmr=1e-2": 0.5}, "withheld": {}}
    part["few_errors"] = {"accuracy": 7.0} if few else {}
    cost = {"parameters": 1_244_744, "multiply_adds": 47_297_978, "bytes": 5_000_000}
    return {"label": "A", "seed": seed, "steps": 500, "seconds": 90.0, **cost, "validation": {"hr": part, "lr": part}}


def test_the_spread_is_the_lowest_and_the_highest_seed() -> None:
    assert spread([made_run(0.9), made_run(0.94)], "hr", "accuracy") == "92.00 [90.00, 94.00]"
    assert spread([made_run(0.9, few=True)], "hr", "accuracy") == "90.00*"
    assert spread([made_run(0.9), made_run(None)], "hr", "accuracy") == "-", "a mean over some would flatter"


def test_the_table_says_what_it_was_made_with() -> None:
    data = {"variant": "edgeface_xxs", "batch_size": 64, "train_faces": 17584, "train_people": 2181}
    results = {
        "vlr_size": 16,
        "runs": [made_run(0.9), {**made_run(0.94, 1), "seconds": None, "steps": 600}],
        "data": data,
        "pairs": {"genuine": 500, "impostor": 400, "people": 60},
        "planned_runs": 8,
        "budget": "20 minutes of training a run",
        "run": {"command": "python -m pipeline.study --what losses"},
    }
    table = markdown(results)
    assert "| A | 2 | 500 to 600 | 1.5 | 1,244,744 | 47.3 M | 5.00 MB | 92.00 [90.00, 94.00] |" in table
    assert "17,584 faces of 2,181 people" in table
    assert "2 of 8 runs are done" in table
    assert "`python -m pipeline.study --what losses`" in table


def test_another_process_is_kept_out(cfg: Config) -> None:
    opened = Study.open(cfg)
    with opened.alone(), pytest.raises(UserError, match="in use by another study"), opened.alone():
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "another epochs"),
        ({"epochs": 0, "minutes": 2.0}, "another epochs, minutes"),
        ({"learning_rate": 0.5}, "another learning_rate"),
        ({"what": "losses"}, "another what"),
        ({"vlr_size": 24}, "another vlr_size"),
    ],
)
def test_a_folder_holds_one_study(cfg: Config, change: dict[str, Any], message: str) -> None:
    Study.open(cfg)
    with pytest.raises(UserError, match=message):
        Study.open(replace(cfg, **change))


@pytest.mark.parametrize("split", ["train", "val"])
def test_faces_that_changed_under_their_names_are_another_study(
    cfg: Config, tmp_path: Path, face: Callable[..., RgbImage], split: str
) -> None:
    Study.open(cfg)
    write_png(tmp_path / split / ("p0" if split == "train" else "p4") / "0.png", face(9, 9))
    with pytest.raises(UserError, match=f"another {split}_images_sha256"):
        Study.open(cfg)
    with pytest.raises(UserError, match=f"was made with another {split}_images_sha256"):
        main(replace(cfg, what="losses", out=tmp_path / "losses", same_runs=tmp_path / "study"))


def test_images_are_the_same_in_a_zip(cfg: Config, tmp_path: Path) -> None:
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "val")
    assert images_sha256(StoreSource(ImageStore(zipped))) == images_sha256(StoreSource(ImageStore(tmp_path / "val")))


def test_faces_without_identity_are_in_no_pair(cfg: Config, tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    before = Study.open(cfg)
    for photo in range(4):
        write_png(tmp_path / "val" / "unlabelled" / f"{photo}.png", face(photo, 0))
    assert Study.open(cfg).pairs == before.pairs
    with pytest.raises(UserError, match="another val_images_sha256, val_names_sha256"):
        Study.open(replace(cfg, unlabelled=()))


def test_a_study_from_before_images_were_noted_goes_on(cfg: Config, tmp_path: Path) -> None:
    small = replace(cfg, epochs=1, only=("gamma_0.2",))
    first, file = main(small), tmp_path / "study" / "study.json"
    whole = read_json(file)
    older = {name: value for name, value in whole.items() if name not in LATER}
    write_json(file, older)
    with pytest.raises(UserError, match="another vlr_size"):  # which its results.json says
        main(replace(small, vlr_size=24))
    write_json(file, older)
    losses = replace(cfg, what="losses", epochs=1, only=("cosface_0.4",), same_runs=tmp_path / "study")
    with pytest.raises(UserError, match="another vlr_size"):
        main(replace(losses, out=tmp_path / "other", vlr_size=24))
    Study.open(replace(losses, out=tmp_path / "losses")).take_over(tmp_path / "study")
    assert main(small)["runs"] == first["runs"]
    assert read_json(file) == whole, "from now on they are noted"


@pytest.mark.parametrize("what", ["gamma", "losses"])
def test_the_results_kept_in_git_are_readable(what: str) -> None:
    kept = Path(__file__).parents[2] / "notebooks" / "results"
    assert markdown(read_json(kept / f"{what}.json")) == (kept / f"{what}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0, "minutes": 0.0}, "--minutes 0.0"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"variant": "edgeface_huge"}, "not an EdgeFace variant"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "not negative"),
        ({"train_root": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_refusals(cfg: Config, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(replace(cfg, **change))


def test_nobody_is_trained_on_and_validated_on(cfg: Config, tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    write_png(tmp_path / "train" / "p5" / "9.png", face(5, 9))
    with pytest.raises(UserError, match=r"1 people are in both .* \(p5\)"):
        main(cfg)


@pytest.mark.parametrize("which", ["train_root", "val_root"])
def test_the_test_set_is_refused(cfg: Config, tmp_path: Path, which: str) -> None:
    renamed = tmp_path / "lfw_112"
    (tmp_path / ("train" if which == "train_root" else "val")).rename(renamed)
    with pytest.raises(UserError, match=f"looks like LFW.*Give --{which.replace('_', '-')} other people"):
        study.main(replace(cfg, **{which: renamed}))


def test_a_run_of_both_studies_is_trained_once(cfg: Config, tmp_path: Path) -> None:
    gamma = main(replace(cfg, epochs=1, only=("gamma_1",)))
    assert [run["name"] for run in gamma["runs"]] == ["gamma_1"]
    losses = replace(cfg, what="losses", epochs=1, out=tmp_path / "losses")
    main(replace(losses, only=("triplet_1.5",)))
    taken = main(replace(losses, only=("triplet_1.5",), same_runs=tmp_path / "study"))
    cosface, triplet = taken["runs"]
    assert (cosface["label"], triplet["label"]) == ("CosFace 0.4", "triplet 1.5")
    assert cosface["validation"] == gamma["runs"][0]["validation"]
    assert "CosFace 0.4 is gamma 1, study of gamma" in (tmp_path / "losses" / "results.md").read_text()

    trained = main(replace(losses, only=("cosface_0.4",), out=tmp_path / "alone"))
    assert trained["runs"][0]["validation"] == cosface["validation"], "it is the same training"


def test_other_studies_runs_are_refused(cfg: Config, tmp_path: Path) -> None:
    Study.open(cfg)
    with pytest.raises(UserError, match="another epochs"):
        main(replace(cfg, what="losses", epochs=1, out=tmp_path / "losses", same_runs=tmp_path / "study"))


def test_unknown_settings_are_named() -> None:
    with pytest.raises(UserError, match=r"--only gamma_1: expected some of cosface_0\.4"):
        Config(what="losses", only=("gamma_1",))
