"""`python -m facial_rec.finetune_edgeface` end to end: files, seeds, kill -9 and resume, selection, every refusal."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import cli
from common.errors import UserError
from common.images import decode_image, write_png
from common.runlog import read_records
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec import finetune_edgeface, finetune_result, finetune_run
from facial_rec.edgeface import get_model
from facial_rec.embedder import load_embedder
from facial_rec.finetune_edgeface import Config, main
from facial_rec.weights import load_strictly, read_edgeface_state, recognise

TIMES = {"seconds"}


def made_face(person: int, photo: int) -> np.ndarray:
    """A coarse pattern that is the person's, with fine noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (14, 14, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 15, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


def write_people(root: Path, people: range, photos: int) -> Path:
    for person in people:
        for photo in range(photos):
            write_png(root / f"p{person}" / f"{photo}.png", made_face(person, photo))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.pt, dsr.pt, training and validation people. Nobody writes into it."""
    root = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    network = get_model("edgeface_tiny").requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.1, 0.5)
    torch.save(network.state_dict(), root / "tiny.pt")
    save_dsr(root / "dsr.pt", Dsr(preset("tiny")), {})
    write_people(root / "train", range(4), 4)
    write_people(root / "val", range(10, 13), 3)
    return root


def config_in(made: Path, out: Path) -> Config:
    """Two epochs of two steps, with every loss."""
    return Config(
        epochs=2,
        edgeface=str(made / "tiny.pt"),
        dsr=str(made / "dsr.pt"),
        train_root=made / "train",
        val_root=made / "val",
        vlr_size=("16", "12-20"),
        batch_size=8,
        out=out,
        warmup_steps=1,
        margin_weight=0.01,
        octuplet_weight=0.1,
        augmentation="strong",
        hr_drop=1.0,
        save_every=1,
        alphas=(0.5, 1.0),
    )


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return config_in(made, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The run of `config`, never interrupted. Nobody writes into it."""
    config = config_in(made, tmp_path_factory.mktemp("finished") / "run")
    main(config)
    return config


@pytest.fixture(autouse=True)
def _quick(finished: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves and TorchScript, half the time of so short a run, are made in `finished` only."""

    def touch_curves(path: Path, *_: Any) -> None:
        path.touch()

    def touch_script(out: Path, *_: Any) -> None:
        (out / "edgeface_finetuned.pt").touch()

    monkeypatch.setattr(finetune_run, "save_curves", touch_curves)
    monkeypatch.setattr(finetune_result, "save_script", touch_script)


def records(config: Config) -> list[dict[str, Any]]:
    """What was logged, without the clock's part."""
    return [
        {key: value for key, value in record.items() if key not in TIMES}
        for record in read_records(config.out / "metrics.jsonl")
    ]


def weights(config: Config) -> dict[str, torch.Tensor]:
    return torch.load(config.out / "edgeface_finetuned.pth", weights_only=True)


def described(config: Config) -> dict[str, Any]:
    found = json.loads((config.out / "edgeface_finetuned.json").read_text())
    assert isinstance(found, dict)
    return found


def assert_same_run(one: Config, other: Config) -> None:
    assert records(one) == records(other)
    assert len(records(one)) == one.epochs
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert described(one)["mixtures"] == described(other)["mixtures"]


def test_files_left_behind(finished: Config) -> None:
    left = sorted(path.name for path in finished.out.iterdir())
    ours = [f"edgeface_finetuned.{end}" for end in ("json", "pt", "pth")]
    assert left == ["config.json", "curves.png", *ours, "last.pt", "metrics.jsonl"]
    saved = json.loads((finished.out / "config.json").read_text())
    assert saved.items() >= {"seed": 0, "variant": "edgeface_tiny", "vlr_size": ["16", "12-20"]}.items()
    assert saved["command"].startswith("python -m facial_rec.finetune_edgeface")
    assert decode_image((finished.out / "curves.png").read_bytes(), "curves").std() > 0


def test_metrics_have_every_term_and_every_protocol(finished: Config) -> None:
    first, second = records(finished)
    assert [(record["epoch"], record["step"]) for record in (first, second)] == [(1, 2), (2, 4)]
    for record in (first, second):
        assert record["train"].keys() == {"loss", "sr", "hr", "margin", "octuplet"}
        assert record["validation"].keys() == {"hr-hr", "lr-hr@16", "lr-lr@16"}
        parts = record["train"]
        always = parts["sr"] + parts["hr"] + 0.01 * parts["margin"]
        assert always < parts["loss"] <= 1.00001 * (always + 0.1 * parts["octuplet"])  # not every batch has triplets


def test_result_loads_everywhere(finished: Config, images: torch.Tensor) -> None:
    path = finished.out / "edgeface_finetuned.pth"
    network = get_model("edgeface_tiny").eval()
    network.load_state_dict(weights(finished), strict=True)
    state = read_edgeface_state(path)
    name, recognised = recognise(state, path)
    load_strictly(recognised, state, path)
    assert name == "edgeface_tiny"
    expected = network(images * 2 - 1).detach()
    for file in (path, path.with_suffix(".pt")):
        torch.testing.assert_close(load_embedder(file)(images), expected, atol=1e-5, rtol=1e-5)


def test_the_network_that_it_starts_from_is_not_written_over(config: Config, finished: Config) -> None:
    config.out.mkdir()
    start = shutil.copy(finished.out / "edgeface_finetuned.pth", config.out)
    with pytest.raises(UserError, match=r"--start-from .* would be overwritten by the run's own edgeface_finetuned"):
        main(replace(config, start_from=str(start)))


def test_a_run_can_start_from_a_fine_tuned_network(config: Config, finished: Config) -> None:
    start = str(finished.out / "edgeface_finetuned.pth")
    started = replace(config, epochs=1, start_from=start, learning_rate=1e-9, alphas=(1.0,))
    main(started)
    ours, theirs = weights(started), weights(finished)
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs)
    assert described(started)["validation_original"] == described(finished)["validation_original"], "kept to as before"
    with pytest.raises(UserError, match="start_sha256 was '"):
        main(replace(started, start_from=None, resume=True))


def test_another_kind_of_network_is_no_start(config: Config, tmp_path: Path) -> None:
    other = tmp_path / "xxs.pt"
    torch.save(get_model("edgeface_xxs").state_dict(), other)
    with pytest.raises(UserError, match=r"--start-from .*xxs\.pt is another network than --edgeface's: .*Give one"):
        main(replace(config, start_from=str(other)))


def test_result_says_how_it_was_made(finished: Config) -> None:
    found = described(finished)
    assert found["alpha"] in finished.alphas
    assert [mixture["alpha"] for mixture in found["mixtures"]] == [0.5, 1.0]
    assert found["validation_original"]["hr-hr"]["cosine"] == pytest.approx(1.0)
    assert found["settings"]["octuplet_weight"] == 0.1
    assert found["variant"] == "edgeface_tiny"
    best = max(mixture["score"] for mixture in found["mixtures"])
    assert best == next(m["score"] for m in found["mixtures"] if m["alpha"] == found["alpha"])


def test_chosen_mixture_lies_between_original_and_best_epoch(finished: Config, made: Path) -> None:
    original = torch.load(made / "tiny.pt", weights_only=True)
    kept = torch.load(finished.out / "last.pt", weights_only=True)["kept"]["state"]
    alpha = described(finished)["alpha"]
    for key, value in weights(finished).items():
        torch.testing.assert_close(value, torch.lerp(original[key], kept[key], alpha))


def test_same_seed_same_run_another_seed_another(config: Config, finished: Config) -> None:
    main(config)
    assert_same_run(config, finished)
    other = replace(config, seed=1, epochs=1, out=config.out.with_name("other"))
    main(other)
    assert records(other)[0]["train"] != records(finished)[0]["train"]


@pytest.mark.parametrize("step", [1, 2])
def test_resume_gives_the_losses_of_an_uninterrupted_run(
    config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = finetune_edgeface.train_step

    def step_or_stop(state: Any, *args: Any) -> dict[str, float]:
        if state.step == step:
            raise KeyboardInterrupt
        return whole(state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(finetune_edgeface, "train_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    main(replace(config, resume=True))
    assert_same_run(config, finished)


@pytest.mark.parametrize("write", ["save_result", "save_curves", "save_state", "save_script"])
def test_a_stop_between_any_two_files_is_mended(
    config: Config, finished: Config, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [module for module in (finetune_run, finetune_result) if hasattr(module, write)]
    whole, calls = getattr(users[0], write), []

    def stop_the_last_time(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == {"save_state": 6, "save_script": 1}.get(write, 2):
            raise KeyboardInterrupt
        return whole(*args)

    with monkeypatch.context() as patch:
        for module in users:
            patch.setattr(module, write, stop_the_last_time)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    main(replace(config, resume=True))
    assert_same_run(config, finished)


KILL = """
import os, signal, sys
from common import cli
from facial_rec import finetune_edgeface
whole = finetune_edgeface.train_step
def step(state, *args):
    if state.step == 3:  # the second of the two steps of epoch 2
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(state, *args)
finetune_edgeface.train_step = step
cli.run(finetune_edgeface.main, finetune_edgeface.Config, sys.argv[1:])
"""


def arguments(config: Config) -> list[str]:
    """The command line of `config`."""
    names = ("epochs", "edgeface", "dsr", "train_root", "val_root", "batch_size", "out")
    names += ("warmup_steps", "margin_weight", "octuplet_weight", "augmentation", "hr_drop", "save_every")
    words = [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]
    return ["--vlr-size", *config.vlr_size, "--alphas", *map(str, config.alphas), *words]


def test_kill_9_in_the_middle_of_an_epoch_costs_a_step(config: Config, finished: Config) -> None:
    killed = subprocess.run([sys.executable, "-c", KILL, *arguments(config)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(config.out / "last.pt", weights_only=True)["counters"] == {"epoch": 1, "step": 3}
    cli.run(main, Config, [*arguments(config), "--resume"])
    assert_same_run(config, finished)


def test_a_finished_run_stays_as_it_is(finished: Config, tmp_path: Path) -> None:
    copied = replace(finished, out=shutil.copytree(finished.out, tmp_path / "copied"), resume=True)
    main(copied)
    assert_same_run(copied, finished)


def test_an_epoch_can_be_cut_short(config: Config) -> None:
    main(replace(config, steps_per_epoch=1, alphas=(1.0,)))
    assert [record["step"] for record in records(config)] == [1, 2]


def test_every_restraint_runs(config: Config) -> None:
    main(replace(config, epochs=1, adapter_rank=2, layer_decay=0.8, augmentation="light", realistic=0.5, alphas=(0.5,)))
    assert described(config)["alpha"] == 0.5


def test_int8_and_torchscript_originals_are_read(config: Config, int8_file: Path, script_file: Path) -> None:
    for number, file in enumerate((int8_file, script_file)):
        out = config.out.with_name(f"run{number}")
        main(replace(config, edgeface=str(file), epochs=1, alphas=(1.0,), out=out))
        assert described(replace(config, out=out))["variant"] == "edgeface_tiny"


def flat(root: Path, people: range) -> Path:
    for person in people:
        write_png(root / f"{person}.png", made_face(person, 0))
    return root


def test_a_flat_folder_of_strangers(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = flat(tmp_path / "flat", range(20))
    main(replace(config, epochs=1, train_root=root, val_root=None, labels="none"))
    assert records(config)[0]["train"].keys() == {"loss", "sr", "hr"}
    assert records(config)[0]["validation"].keys() == {"hr-hr", "lr-hr@16"}
    printed = capsys.readouterr().out
    assert "nobody has two photos" in printed
    assert "of 0 known people" in printed


def test_unlabelled_faces_are_nobody(config: Config, made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made / "train", tmp_path / "train")
    flat(root / "unlabelled", range(50, 58))
    flat(shutil.copytree(made / "val", tmp_path / "val") / "unlabelled", range(60, 64))
    main(replace(config, epochs=1, train_root=root, val_root=tmp_path / "val"))
    state = torch.load(config.out / "last.pt", weights_only=True)
    assert len(state["head"]["head.centres"]) == 4


def test_people_are_held_out_where_no_validation_set_is(config: Config) -> None:
    main(replace(config, epochs=1, val_root=None))
    assert json.loads((config.out / "config.json").read_text())["training_faces"] == 8


def test_a_batch_without_a_positive_is_said_once(
    config: Config, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = flat(tmp_path / "train", range(100, 138))
    for photo in range(2):
        write_png(root / f"twin_{photo}.png", made_face(200, photo))
    main(replace(config, epochs=1, train_root=root, batch_size=4, margin_weight=0.0))
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("has no two photos of a person: it gives no octuplet term") == 1


def test_weights_that_lose_high_resolution_are_not_kept(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finetune_run.Guard, "loss", lambda self, report: 0.02)
    with pytest.raises(UserError, match=r"every mixture loses more than 0\.01 of HR-HR .* nothing is kept.*--hr-drop"):
        main(replace(config, hr_drop=0.01))
    assert not (config.out / "edgeface_finetuned.pth").exists()
    assert "not kept" in capsys.readouterr().out


def test_nan_stops_and_the_last_checkpoint_serves(
    config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finetune_edgeface.train_step

    def broken(state: Any, *args: Any) -> dict[str, float]:
        if state.step == 3:
            with torch.no_grad():
                next(state.student.parameters()).fill_(float("nan"))
        return whole(state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(finetune_edgeface, "train_step", broken)
        with pytest.raises(UserError, match=r"the loss became nan at step 3\. The last checkpoint is whole"):
            main(config)
    assert all(bool(value.isfinite().all()) for value in weights(config).values())
    main(replace(config, resume=True))
    assert_same_run(config, finished)


def test_wandb_offline_needs_no_network(config: Config) -> None:
    main(replace(config, epochs=1, wandb="offline", alphas=(1.0,)))
    assert list((config.out / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"octuplet_weight": 0.2}, r"octuplet_weight was 0\.1, is now 0\.2"),
        ({"alphas": (1.0,)}, r"alphas was \[0\.5, 1\.0\], is now \[1\.0\]"),
        ({"epochs": 3}, "epochs was 2, is now 3"),
    ],
    ids=str,
)
def test_changed_settings_are_refused_on_resume(finished: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"last\.pt belongs to a run with other settings \({words}\)"):
        main(replace(finished, resume=True, **change))


def test_truncated_and_foreign_states_are_refused(finished: Config, made: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished.out, tmp_path / "copied")
    last = out / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.pt is not a readable weights file"):
        main(replace(finished, out=out, resume=True))
    shutil.copy(made / "dsr.pt", last)
    with pytest.raises(UserError, match=r"last\.pt is not a training state of finetune_edgeface"):
        main(replace(finished, out=out, resume=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, found 0"),
        ({"batch_size": 1}, "--batch-size must be at least 2, found 1"),
        ({"save_every": 0}, "--save-every must be at least 1"),
        ({"adapter_rank": -1}, "--adapter-rank must be at least 0, found -1"),
        ({"learning_rate": 0.0}, "--learning-rate must lie between 0 and 1"),
        ({"layer_decay": float("nan")}, "--layer-decay must lie between 0 and 1"),
        ({"hr_share": 1.5}, r"--hr-share must lie from 0 to 1, found 1\.5"),
        (
            {"hr_share": 0.0, "agreement_weight": 0.5},
            "--agreement-weight compares a face with its HR view: set --hr-share",
        ),
        ({"hr_share": 0.0, "octuplet_weight": 0.1}, "--octuplet-weight compares photos across resolutions"),
        (
            {"hr_share": 0.0, "sr_weight": 0.0, "margin_weight": 0.0, "octuplet_weight": 0.0, "contrast_weight": 0.0},
            "--hr-share 0 leaves nothing to learn from",
        ),
        ({"ema_decay": -0.1}, "--ema-decay must lie from 0 to 1"),
        ({"vlr_size": ("4",)}, "--vlr-size 4 is outside 8 to 64"),
        ({"alphas": ()}, "--alphas : expected one or more"),
        ({"alphas": (0.0, 1.0)}, r"--alphas 0\.0 1\.0: expected one or more, above 0"),
        ({"sr_weight": -1.0}, "loss weights must be 0 or more"),
        ({"sr_weight": 0.0, "hr_weight": 0.0, "labels": "none"}, "--labels none leaves distillation only"),
        ({"edgeface": "no.pt"}, r"no\.pt is missing: expected an EdgeFace"),
        ({"dsr": "no.pt"}, r"no\.pt is missing: train one with `python -m dsr\.train_dsr`"),
        ({"train_root": Path("no")}, "no does not exist"),
        ({"device": "gpu"}, "--device gpu is not a device torch knows"),
        ({"resume": True}, "nothing to resume: run without --resume"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_and_nothing_is_written(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))
    assert not config.out.exists()


def test_a_run_is_not_overwritten(finished: Config) -> None:
    with pytest.raises(UserError, match="run already holds a run: add --resume to go on with it"):
        main(finished)


def test_a_network_that_is_no_edgeface_is_refused(config: Config, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt is not an EdgeFace: no known EdgeNeXt has its widths"):
        main(replace(config, edgeface=str(tmp_path / "other.pt")))


def test_one_identity_is_refused(config: Config, tmp_path: Path) -> None:
    write_people(tmp_path / "one", range(1), 4)
    with pytest.raises(UserError, match=r"--margin-weight 0\.01 needs people to tell apart, .* 1 identity"):
        main(replace(config, train_root=tmp_path / "one"))
    with pytest.raises(UserError, match=r"--octuplet-weight 0\.1 needs two people, one of them with two photos"):
        main(replace(config, train_root=tmp_path / "one", margin_weight=0.0))
    with pytest.raises(UserError, match="4 images of 1 identity: at least 2 people are needed"):
        main(replace(config, train_root=tmp_path / "one", val_root=None))


def test_two_images_in_all_are_refused(config: Config, tmp_path: Path) -> None:
    root = flat(tmp_path / "two", range(2))
    with pytest.raises(UserError, match=r"two leaves 1 face to train on: at least 2 are needed"):
        main(replace(config, train_root=root, val_root=None))


def test_validation_of_one_person_is_refused(config: Config, tmp_path: Path) -> None:
    write_people(tmp_path / "val", range(30, 31), 3)
    with pytest.raises(UserError, match="validation has 3 faces of 1 people: comparing needs two people"):
        main(replace(config, val_root=tmp_path / "val"))


def test_people_on_both_sides_are_refused(config: Config, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "train" / "p3", tmp_path / "val" / "p3")
    with pytest.raises(UserError, match=r"1 people are in both .* \(p3\): split by person"):
        main(replace(config, val_root=tmp_path / "val"))


def test_empty_folder_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image"):
        main(replace(config, train_root=tmp_path / "empty"))


def test_refusals_reach_the_command_line(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Config, [*arguments(config), "--epochs", "0"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --epochs must be at least 1, found 0.\n"


def test_gpu_run(config: Config, cuda: str) -> None:
    main(replace(config, device=cuda))
    assert len(records(config)) == 2


def test_other_teachers_change_the_targets_and_belong_to_the_run(
    config: Config, finished: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    other = config.out.with_name("other.pt")
    torch.save(get_model("edgeface_tiny").state_dict(), other)
    taught = replace(config, teachers=(str(other),), agreement_weight=0.5, augmentation="strangers")
    main(taught)
    assert "[teachers] together: hr-hr " in capsys.readouterr().out
    losses, plain = (records(run)[0]["train"] for run in (taught, finished))
    assert "agreement" in losses
    assert "agreement" not in plain
    assert losses["hr"] > plain["hr"] + 0.1, "the student starts as the original, and that is not the target any more"
    with pytest.raises(UserError, match=r"teachers_sha256 was \['[0-9a-f]{64}'\], is now \[\]"):
        main(replace(taught, teachers=(), resume=True))
    with pytest.raises(UserError, match="nothing_there"):
        main(replace(config, out=config.out.with_name("another"), teachers=("nothing_there.pt",)))
