"""`python -m dsr.train_dsr` end to end: files, seeds, kill -9 and resume, two processes, and every refusal."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import cli, paths
from common.errors import UserError
from common.images import decode_image, write_png
from common.runlog import read_records
from dsr import train_dsr, training
from dsr.checkpoint import load_dsr
from dsr.model import PRESETS, Dsr
from dsr.train_dsr import Config, load_data, main
from dsr.training import augment, average_of, learning_rate, make_optimizer, selection_loss, steps_per_epoch
from facial_rec.distributed import Place

TIMES = {"seconds"}


@pytest.fixture
def config(people: Path, edgeface: Path, tmp_path: Path) -> Config:
    """Two epochs of two steps."""
    return Config(
        epochs=2,
        edgeface=str(edgeface),
        train_root=people,
        vlr_size=("16", "12-20"),
        batch_size=8,
        out=tmp_path / "run",
        preset="tiny",
        warmup_steps=1,
        learning_rate=3e-3,
    )


@pytest.fixture(scope="module")
def finished(people: Path, edgeface: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The run of `config`, never interrupted. Nobody writes into it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    config = Config(
        epochs=2,
        edgeface=str(edgeface),
        train_root=people,
        vlr_size=("16", "12-20"),
        batch_size=8,
        out=out,
        preset="tiny",
        warmup_steps=1,
        learning_rate=3e-3,
    )
    main(config)
    return config


def records(config: Config) -> list[dict[str, Any]]:
    """What was logged, without the clock's part."""
    return [
        {key: value for key, value in record.items() if key not in TIMES}
        for record in read_records(config.out / "metrics.jsonl")
    ]


def weights(config: Config) -> dict[str, torch.Tensor]:
    return load_dsr(config.out / "dsr.pt")[0].state_dict()


def assert_same_run(one: Config, other: Config) -> None:
    assert records(one) == records(other)
    assert len(records(one)) == one.epochs
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_files_left_behind(finished: Config) -> None:
    left = sorted(str(path.relative_to(finished.out)) for path in finished.out.rglob("*") if path.is_file())
    assert left == [
        *("config.json", "curves.png", "dsr.pt", "last.pt", "metrics.jsonl"),
        *("samples/epoch_001.png", "samples/epoch_002.png"),
    ]
    saved = json.loads((finished.out / "config.json").read_text())
    assert saved.items() >= {"seed": 0, "preset": "tiny", "vlr_size": ["16", "12-20"], "training_faces": 20}.items()
    assert saved["command"].startswith("python -m dsr.train_dsr")
    assert decode_image((finished.out / "curves.png").read_bytes(), "curves").std() > 0


def test_samples_show_lr_bicubic_dsr_and_hr(finished: Config) -> None:
    grid = decode_image((finished.out / "samples/epoch_002.png").read_bytes(), "grid")
    assert grid.shape == (4 * 112, 4 * 112, 3)  # four faces, one validation size
    low, bicubic, dsr, high = np.split(grid[:112].astype(int), 4, axis=1)
    errors = [np.abs(image - high).mean() for image in (low, bicubic, dsr)]
    assert all(error > 0 for error in errors)
    assert len(np.unique(low.reshape(-1, 3), axis=0)) <= 16 * 16


def test_metrics_have_both_methods_and_every_term(finished: Config) -> None:
    first, second = records(finished)
    assert [(record["epoch"], record["step"]) for record in (first, second)] == [(1, 2), (2, 4)]
    for record in (first, second):
        assert record["train"].keys() == {"loss", "pixel", "identity"}
        weights = finished.pixel_weight, finished.identity_weight
        expected = weights[0] * record["train"]["pixel"] + weights[1] * record["train"]["identity"]
        assert record["train"]["loss"] == pytest.approx(expected, 1e-5)
        assert record["validation"].keys() == {"16"}
        for method in ("dsr", "bicubic"):
            assert record["validation"]["16"][method].keys() == {"psnr", "ssim", "identity_loss"}
        assert record["validation"]["16"]["bicubic"] == first["validation"]["16"]["bicubic"]


def test_weights_say_how_they_were_made(finished: Config) -> None:
    model, info = load_dsr(finished.out / "dsr.pt")
    assert info.config == PRESETS["tiny"]
    assert info.metadata["settings"]["identity_weight"] == 0.6
    assert info.metadata["validation"] == records(finished)[info.metadata["epoch"] - 1]["validation"]
    assert model(torch.rand(1, 3, 20, 20)).shape == (1, 3, 112, 112)


def test_same_seed_same_losses_another_seed_others(config: Config, finished: Config) -> None:
    main(config)
    assert_same_run(config, finished)
    other = replace(config, seed=1, epochs=1, out=config.out.with_name("other"))
    main(other)
    assert records(other)[0]["train"] != records(finished)[0]["train"]


def test_a_run_can_start_from_trained_weights(config: Config, finished: Config) -> None:
    started = replace(config, epochs=1, start_from=str(finished.out / "dsr.pt"), learning_rate=1e-9)
    main(started)
    ours, theirs = weights(started), weights(finished)
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs)
    with pytest.raises(UserError, match="start_sha256 was '"):
        main(replace(started, start_from=None, resume=True))


def test_the_end_can_be_a_mixture_with_the_start(config: Config, finished: Config) -> None:
    started = replace(config, start_from=str(finished.out / "dsr.pt"), alphas=(0.25, 1.0))
    main(replace(started, stop_after=1))
    assert not (config.out / "mixtures.json").exists(), "not before the last epoch"
    main(replace(started, alphas=(), resume=True))
    trained, before = weights(config), weights(finished)
    main(replace(started, alphas=(0.25,), resume=True))
    for key, value in weights(config).items():
        torch.testing.assert_close(value, 0.75 * before[key] + 0.25 * trained[key])
    mixed, told = ((config.out / name).read_bytes() for name in ("dsr.pt", "mixtures.json"))
    (config.out / "mixtures.json").unlink()  # as if killed between the two
    main(replace(started, alphas=(0.25,), resume=True))
    assert (config.out / "mixtures.json").read_bytes() == told
    assert (config.out / "dsr.pt").read_bytes() == mixed, "mixed once"
    assert load_dsr(config.out / "dsr.pt")[1].metadata["alpha"] == 0.25
    with pytest.raises(UserError, match=r"is mixed already \(--alphas 0\.25\), so the trained weights are gone"):
        main(replace(started, resume=True))


def test_of_several_mixtures_the_best_on_validation_is_kept(config: Config, finished: Config) -> None:
    main(replace(config, start_from=str(finished.out / "dsr.pt"), alphas=(1.0, 0.5)))
    tried = json.loads((config.out / "mixtures.json").read_text())
    assert [mixture["alpha"] for mixture in tried["mixtures"]] == [0.5, 1.0]
    best = min(tried["mixtures"], key=lambda mixture: mixture["selection_loss"])
    assert (tried["alpha"], tried["validation"]) == (best["alpha"], best["validation"])
    whole = tried["mixtures"][1]
    kept = min(records(config), key=lambda record: record["selection_loss"])
    assert whole["selection_loss"] == pytest.approx(kept["selection_loss"], 1e-6), "alpha 1 is the best epoch"


def test_a_second_recogniser_has_a_say(config: Config, finished: Config, other_edgeface: Path, tmp_path: Path) -> None:
    main(replace(config, second_edgeface=str(other_edgeface)))
    assert records(config)[0]["train"]["identity"] != records(finished)[0]["train"]["identity"]
    again = replace(config, second_edgeface=config.edgeface, out=tmp_path / "twice")
    main(again)  # the same one twice is the run with it alone
    for ours, theirs in zip(records(again), records(finished), strict=True):
        assert ours["train"]["identity"] == pytest.approx(theirs["train"]["identity"], 1e-4)
    with pytest.raises(UserError, match="second_edgeface_sha256 was '"):
        main(replace(config, second_edgeface=None, resume=True))
    with pytest.raises(UserError, match=r"second_share was 0\.5"):
        main(replace(config, second_edgeface=str(other_edgeface), second_share=0.25, resume=True))


def test_identity_may_count_more_for_larger_faces(config: Config) -> None:
    main(replace(config, epochs=1, vlr_size=("32",), identity_weight=3.0, identity_size_power=1.0))
    parts = records(config)[0]["train"]
    assert parts["loss"] == pytest.approx(8 * parts["pixel"] + 6 * parts["identity"], 1e-4)


def test_bf16_gives_nearly_the_losses_of_fp32(config: Config, finished: Config) -> None:
    main(replace(config, precision="bf16"))
    ours, theirs = records(config)[-1]["train"], records(finished)[-1]["train"]
    assert ours != theirs
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=0.03)
    assert all(value.dtype == torch.float32 for value in weights(config).values())
    with pytest.raises(UserError, match="precision was 'bf16', is now 'auto'"):
        main(replace(config, resume=True))


def test_scenes_change_the_true_images_and_mirroring_alone_does_not_move_them(faces: torch.Tensor) -> None:
    many = faces[:1].repeat(16, 1, 1, 1)
    mirrored = augment(many, torch.Generator().manual_seed(3))
    assert all(torch.equal(one, many[0]) or torch.equal(one, many[0].flip(2)) for one in mirrored)
    scenes = augment(many, torch.Generator().manual_seed(3), "scene")
    assert scenes.shape == many.shape
    assert 0.0 <= float(scenes.min()) < float(scenes.max()) <= 1.0
    changes = [min(float((s - m).abs().mean()) for m in (many[0], many[0].flip(2))) for s in scenes]
    assert min(changes) > 0.0
    assert max(changes) < 0.25, "still the same face"
    assert torch.equal(scenes, augment(many, torch.Generator().manual_seed(3), "scene"))
    assert not torch.equal(scenes, augment(many, torch.Generator().manual_seed(4), "scene"))


def test_strangers_are_scenes_of_faces_made_of_two() -> None:
    """Half of the batch light, half dark: a stranger has its own half's colours, and another's face in it."""
    ramp = torch.linspace(-0.1, 0.1, 112)
    light, dark = ramp.expand(8, 3, 112, 112) + 0.7, -ramp.expand(8, 3, 112, 112) + 0.3
    both = torch.cat([light, dark])
    scenes, strangers = (augment(both, torch.Generator().manual_seed(3), name) for name in ("scene", "strangers"))
    assert strangers.shape == both.shape
    assert torch.equal(strangers, augment(both, torch.Generator().manual_seed(3), "strangers"))

    def straight(images: torch.Tensor) -> int:
        """Whose columns still hold one value each: moved, resized, relit and softened at most."""
        inner = images[:, :, 20:-20, 20:-20]
        return int((inner.std(dim=2).amax(dim=(1, 2)) < 0.004).sum())

    assert straight(scenes) == 16
    assert 2 <= straight(strangers) <= 12, "about three of five are nobody's"


@pytest.mark.parametrize("augmentation", ["scene", "strangers"])
def test_a_run_on_changed_faces_is_another_run_and_resumes_as_one(
    augmentation: Any, config: Config, finished: Config
) -> None:
    scenes = replace(config, augmentation=augmentation)
    main(replace(scenes, stop_after=1))
    main(replace(scenes, resume=True))
    through = replace(scenes, out=config.out.with_name("through"))
    main(through)
    assert_same_run(scenes, through)
    assert records(scenes)[0]["train"] != records(finished)[0]["train"]


def test_a_run_with_muon_is_another_run_and_resumes_as_one(config: Config, finished: Config) -> None:
    muon = replace(config, optimizer="muon")
    main(replace(muon, stop_after=1))
    with pytest.raises(UserError, match="optimizer"):
        main(replace(config, resume=True))
    main(replace(muon, resume=True))
    through = replace(muon, out=config.out.with_name("through"))
    main(through)
    assert_same_run(muon, through)
    assert records(muon)[0]["train"] != records(finished)[0]["train"]


def test_muon_moves_kernels_further_than_the_rest() -> None:
    torch.manual_seed(0)
    model = Dsr(PRESETS["tiny"])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, "muon", 1e-3, 0.0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group["scale"]
    optimizer.step()
    steps = {
        name: float((parameter.detach() - before[name]).square().mean().sqrt())
        for name, parameter in model.named_parameters()
    }
    assert steps["position"] == pytest.approx(1e-3, rel=0.01)  # AdamW's first step has every element move the rate
    assert 0.4e-3 < steps["body.0.conv1.weight"] < 0.8e-3  # 3 x 0.2 x the rate, for wide and square matrices


def test_a_run_can_grow_smaller_weights(config: Config, finished: Config) -> None:
    start = str(finished.out / "dsr.pt")
    grown = replace(config, epochs=1, preset="default", start_from=start, learning_rate=1e-9, warmup_steps=0)
    main(grown)
    assert load_dsr(grown.out / "dsr.pt")[1].config == PRESETS["default"]
    best = min(records(finished), key=lambda record: record["selection_loss"])
    for name, figure in best["validation"]["16"]["dsr"].items():
        assert records(grown)[0]["validation"]["16"]["dsr"][name] == pytest.approx(figure, 1e-3)


def test_a_run_that_stops_early_goes_on_to_the_same_end(config: Config, finished: Config) -> None:
    main(replace(config, stop_after=1))
    assert [record["epoch"] for record in records(config)] == [1]
    main(replace(config, resume=True))
    assert_same_run(config, finished)


def test_reading_from_disk_changes_nothing(config: Config, finished: Config) -> None:
    main(replace(config, cache_gb=0.0))
    assert_same_run(config, finished)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the run at this optimiser step."""
    whole = training.train_step

    def step_or_stop(state: training.RunState, *args: Any, **kwargs: Any) -> dict[str, float]:
        if state.step == step:
            raise KeyboardInterrupt
        return whole(state, *args, **kwargs)

    monkeypatch.setattr(train_dsr, "train_step", step_or_stop)


def test_resume_gives_the_losses_of_an_uninterrupted_run(
    config: Config, finished: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    assert len(records(config)) == 1
    main(replace(config, resume=True))
    assert_same_run(config, finished)


@pytest.mark.parametrize("write", ["save_dsr", "append_record", "save_picture", "save_curves", "save_state"])
def test_a_stop_between_any_two_files_of_an_epoch_is_mended(
    config: Config, finished: Config, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = getattr(train_dsr, write), []

    def stop_the_second_time(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_dsr, write, stop_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    main(replace(config, resume=True))
    assert_same_run(config, finished)


KILL_IN_EPOCH_2 = """
import os, signal, sys
from common import cli
from dsr import train_dsr
whole = train_dsr.train_step
def step(state, *args, **kwargs):
    if state.step == 3:  # the second of the two steps of epoch 2
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(state, *args, **kwargs)
train_dsr.train_step = step
cli.run(train_dsr.main, train_dsr.Config, sys.argv[1:])
"""


def arguments(config: Config) -> list[str]:
    """The command line of `config`."""
    sizes = ["--vlr-size", *config.vlr_size]
    names = ("epochs", "edgeface", "train_root", "batch_size", "out", "preset", "warmup_steps", "learning_rate")
    return sizes + [word for name in names for word in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]


def test_kill_9_in_the_middle_of_an_epoch_costs_that_epoch_only(config: Config, finished: Config) -> None:
    command = [sys.executable, "-c", KILL_IN_EPOCH_2, *arguments(config)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(records(config)) == 1
    cli.run(main, Config, [*arguments(config), "--resume"])
    assert_same_run(config, finished)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_train_one_network(config: Config) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    launch += [f"--master_port={free_port()}", "-m", "dsr.train_dsr"]
    two = replace(config, batch_size=5)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    result = subprocess.run([*launch, *arguments(two)], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("[train] DSR 'tiny'") == 1
    assert [(record["epoch"], record["step"]) for record in records(two)] == [(1, 2), (2, 4)]
    assert len(list((two.out / "samples").iterdir())) == 2
    assert not list(two.out.rglob("*.tmp"))
    assert load_dsr(two.out / "dsr.pt")[1].metadata["settings"]["processes"] == 2


def test_epochs_are_shared_out_between_processes(people: Path) -> None:
    reader = training.FaceReader(train_dsr.FaceSet(people))
    places = [training.Place(torch.device("cpu"), rank, 3) for rank in range(3)]
    shares = [torch.cat([b for b, _ in training.epoch_batches(reader, 0, 0, 4, place)]) for place in places]
    assert [len(share) for share in shares] == [8, 8, 8]
    assert len({face.numpy().tobytes() for face in torch.cat(shares)}) == 24


@pytest.mark.parametrize("degradation", ["realistic", "mixed"])
def test_other_degradations_run(config: Config, degradation: Any, finished: Config) -> None:
    main(replace(config, degradation=degradation, epochs=1))
    assert records(config)[0]["train"] != records(finished)[0]["train"]
    bicubic = [records(run)[0]["validation"]["16"]["bicubic"] for run in (config, finished)]
    assert bicubic[0] == bicubic[1], "validation is always canonical"


def test_the_share_of_realistic_batches(faces: torch.Tensor) -> None:
    reduced = training.canonical_reduce(faces, 16)

    def equal(share: float) -> list[bool]:
        mixed = training.reduction_named("mixed", share)
        draws = [mixed(faces, 16, torch.Generator().manual_seed(seed)) for seed in range(12)]
        return [torch.equal(draw, reduced) for draw in draws]

    assert all(equal(0.0))
    assert not any(equal(1.0))
    assert 0 < sum(equal(0.5)) < 12


def test_every_option_of_the_loss_runs(config: Config, edgeface_script: Path) -> None:
    weighted = replace(config, pixel_loss="psnr", tv_weight=0.1, texture_weight=0.1)
    main(replace(weighted, epochs=1, edgeface=str(edgeface_script), batch_size=100))
    assert records(config)[0]["train"].keys() == {"loss", "pixel", "identity", "tv", "texture", "seam"}
    assert records(config)[0]["step"] == 1, "a batch larger than the set is the whole set"


def test_flat_faces_which_bicubic_restores_exactly_can_be_validated(config: Config, tmp_path: Path) -> None:
    for person in range(2):
        for photo in range(2):
            write_png(tmp_path / f"flat/p{person}_{photo}.png", np.full((112, 112, 3), 50 * person, np.uint8))
    main(replace(config, epochs=1, train_root=tmp_path / "flat"))
    assert records(config)[0]["validation"]["16"]["bicubic"]["psnr"] == 100.0


def test_wandb_offline_needs_no_network(config: Config) -> None:
    main(replace(config, epochs=1, wandb="offline"))
    assert list((config.out / "wandb").glob("offline-run-*/*.wandb"))
    assert len(records(config)) == 1


def test_a_run_is_not_overwritten(finished: Config) -> None:
    before = (finished.out / "dsr.pt").read_bytes()
    with pytest.raises(UserError, match=r"run already holds a run: add --resume to go on with it, or choose another"):
        main(finished)
    assert (finished.out / "dsr.pt").read_bytes() == before


def test_nothing_to_resume(config: Config) -> None:
    with pytest.raises(UserError, match=r"last\.pt is missing, so there is nothing to resume"):
        main(replace(config, resume=True))


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
        ({"seed": 1}, "seed was 0, is now 1, training_names_sha256 was .*"),  # other people are held out
        ({"vlr_size": ("16",)}, r"vlr_size was \['16', '12-20'\], is now \['16'\]"),
        ({"identity_weight": 0.1}, "identity_weight was 0.6, is now 0.1"),
        ({"epochs": 3}, "epochs was 2, is now 3"),
        ({"preset": "default"}, "preset was 'tiny', is now 'default'"),
    ],
)
def test_changed_settings_are_refused_on_resume(copied: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"last\.pt belongs to a run with other settings \({words}\)"):
        main(replace(copied, **change))


def test_changed_recogniser_is_refused_on_resume(copied: Config, edgeface_script: Path) -> None:
    with pytest.raises(UserError, match=r"other settings \(edgeface_sha256 was"):
        main(replace(copied, edgeface=str(edgeface_script)))


def test_other_faces_are_refused_on_resume_even_as_many(copied: Config, people: Path, tmp_path: Path) -> None:
    others = shutil.copytree(people, tmp_path / "others")
    for person in others.iterdir():
        (person / "0.png").rename(person / "9.png")
    with pytest.raises(UserError, match=r"other settings \(training_names_sha256 was"):
        main(replace(copied, train_root=others))


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_truncated_state_is_refused(copied: Config, fraction: float) -> None:
    last = copied.out / "last.pt"
    last.write_bytes(last.read_bytes()[: int(fraction * last.stat().st_size)])
    with pytest.raises(UserError, match=r"last\.pt is not a readable weights file"):
        main(copied)


def test_another_file_in_place_of_the_state_is_refused(copied: Config) -> None:
    shutil.copy(copied.out / "dsr.pt", copied.out / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt is not a training state of train_dsr"):
        main(copied)


def test_state_of_another_network_is_refused(copied: Config) -> None:
    last = copied.out / "last.pt"
    content = torch.load(last, weights_only=True)
    del content["model"]["position"]
    torch.save(content, last)
    with pytest.raises(UserError, match=r"last\.pt holds another network: 1 missing \(position\)"):
        main(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, found 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"seed": -1}, "--seed must be at least 0, found -1"),
        ({"warmup_steps": -1}, "--warmup-steps must be at least 0"),
        ({"threads": -1}, "--threads must be at least 0"),
        ({"learning_rate": 0.0}, "--learning-rate must lie between 0 and 1"),
        ({"learning_rate": float("nan")}, "--learning-rate must lie between 0 and 1"),
        ({"realistic_share": 1.5}, "--realistic-share must lie between 0 and 1, found 1.5"),
        ({"ema_decay": 1.0}, "--ema-decay must be at least 0 and below 1"),
        ({"second_share": 1.0}, "--second-share must lie between 0 and 1, found 1.0"),
        ({"second_share": 0.0}, "--second-share must lie between 0 and 1, found 0.0"),
        ({"second_edgeface": "x.pt", "batch_size": 1}, "--second-edgeface would see none"),
        ({"weight_decay": float("nan")}, "--weight-decay must be at least 0, found nan"),
        ({"weight_decay": -0.1}, "--weight-decay must be at least 0, found -0.1"),
        ({"identity_weight": float("nan")}, "loss weights must be 0 or more"),
        ({"identity_size_power": -0.5}, "--identity-size-power must be 0 or more, found -0.5"),
        ({"identity_size_power": float("nan")}, "--identity-size-power must be 0 or more, found nan"),
        ({"vlr_size": ("4",)}, "--vlr-size 4 is outside 8 to 64"),
        ({"preset": "huge"}, "preset 'huge' is unknown"),
        ({"pixel_weight": -1.0}, "loss weights must be 0 or more"),
        ({"pixel_weight": 0.0, "identity_weight": 0.0}, "at least one of them above 0"),
        ({"lpips_weight": 1.0}, r"Download https://download\.pytorch\.org"),
        ({"edgeface": "no.pt"}, r"no\.pt is missing"),
        ({"start_from": "no.pt"}, r"no\.pt is missing: .* or give --start-from another file\.$"),
        ({"train_root": Path("no")}, "no does not exist"),
        ({"device": "gpu"}, "--device gpu is not a device torch knows"),
        ({"alphas": (1.5,)}, "--alphas 1.5: expected numbers above 0 and at most 1"),
        ({"alphas": (0.5,)}, "--alphas mixes with the weights that a run starts from: give --start-from too"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_and_nothing_is_written(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))
    assert not config.out.exists()


def test_cuda_without_cuda_names_the_cpu(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda was asked for, but torch finds no CUDA here: use --device cpu"):
        main(replace(config, device="cuda"))


def test_refusals_reach_the_command_line(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Config, [*arguments(config), "--epochs", "0"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --epochs must be at least 1, found 0.\n"


def test_int8_torchscript_is_refused_before_training(config: Config, edgeface_int8_script: Path) -> None:
    with pytest.raises(UserError, match=r"gives its input no gradient .*python -m facial_rec\.export"):
        main(replace(config, edgeface=str(edgeface_int8_script)))
    assert not config.out.exists()


def test_people_on_both_sides_are_refused(config: Config, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "p3", tmp_path / "val" / "p3")
    with pytest.raises(UserError, match=r"1 people are in both .*people.* and .*val \(p3\): split by person"):
        main(replace(config, val_root=tmp_path / "val"))


def test_given_validation_people_are_used(config: Config, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "p3", tmp_path / "val" / "someone_else")
    main(replace(config, epochs=1, val_root=tmp_path / "val"))
    assert json.loads((config.out / "config.json").read_text())["training_faces"] == 24


def test_validation_set_beside_the_training_set_is_found(config: Config, people: Path, tmp_path: Path) -> None:
    for split, person in (("train", "p0"), ("val", "p1")):
        shutil.copytree(people / person, tmp_path / f"{split}_processed" / person)
    main(replace(config, epochs=1, train_root=tmp_path / "train_processed"))
    assert json.loads((config.out / "config.json").read_text())["training_faces"] == 4


def test_the_validation_set_is_found_from_a_subfolder_too(
    config: Config, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As README allows: from `technical/`, `dataset/train_processed` is that of the repository."""
    for split, person in (("train", "p0"), ("val", "p1")):
        shutil.copytree(people / person, tmp_path / "dataset" / f"{split}_processed" / person)
    (tmp_path / "technical").mkdir()
    monkeypatch.chdir(tmp_path / "technical")
    monkeypatch.setattr(paths, "REPOSITORY_ROOT", tmp_path)
    train, val = load_data(replace(config, train_root=Path("dataset/train_processed")), Place(torch.device("cpu")))
    assert ({face.subject for face in train.faces}, {face.subject for face in val.faces}) == ({"p0"}, {"p1"})


def test_folders_of_nobody_are_no_shared_person(config: Config, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "train")
    for place in ("train", "val"):
        shutil.copytree(people / "p0", tmp_path / place / "unlabelled")
    given = replace(config, train_root=tmp_path / "train", val_root=tmp_path / "val")
    train, val = load_data(given, Place(torch.device("cpu")))
    assert len(train) == 28
    assert len(val) == 4


def test_other_validation_faces_are_refused_on_resume(copied: Config, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "p3", tmp_path / "val" / "someone_else")
    with pytest.raises(UserError, match="validation_names_sha256 was"):
        main(replace(copied, train_root=people, val_root=tmp_path / "val"))


def test_empty_folder_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image"):
        main(replace(config, train_root=tmp_path / "empty"))


def test_one_identity_is_refused(config: Config, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "p0", tmp_path / "one" / "p0")
    with pytest.raises(UserError, match="4 images of 1 identity: at least 2 are needed"):
        main(replace(config, train_root=tmp_path / "one"))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_and_leaves_the_last_checkpoint(
    config: Config, finished: Config, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.DsrLoss.forward
    calls: list[int] = []

    def spoilt(self: training.DsrLoss, output: torch.Tensor, target: torch.Tensor, size: int) -> Any:
        total, parts = whole(self, output, target, size)
        calls.append(1)
        if len(calls) == 4:  # the second step of epoch 2
            if what == "loss":
                return total * float("nan"), parts
            output.register_hook(lambda gradient: gradient * float("nan"))
        return total, parts

    with monkeypatch.context() as patch:
        patch.setattr(training.DsrLoss, "forward", spoilt)
        with pytest.raises(UserError, match=rf"the {what} became nan at step 3\. The last checkpoint is whole"):
            main(config)
    assert len(records(config)) == 1
    main(replace(config, resume=True))
    assert_same_run(config, finished)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, total=100, peak=1.0, warmup=10) for step in range(101)]
    assert rates[:11] == pytest.approx([*(step / 10 for step in range(1, 11)), 1.0])
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(0, total=10, peak=1.0, warmup=0) == 1.0


def test_steps_per_epoch() -> None:
    assert [steps_per_epoch(count, 8, 2) for count in (160, 175, 15, 1)] == [10, 10, 1, 1]


def test_average_is_a_moving_one_that_starts_fast() -> None:
    model = Dsr(PRESETS["tiny"])
    average = average_of(model, decay=0.999)
    expected = None
    for step in range(5):
        with torch.no_grad():
            model.position.fill_(float(step))
        average.update_parameters(model)
        keep = min(0.999, (1 + step) / (10 + step))
        expected = float(step) if expected is None else keep * expected + (1 - keep) * step
    assert float(average.module.position.detach().mean()) == pytest.approx(expected, 1e-5)


def test_selection_counts_only_what_is_trained() -> None:
    figures = {
        "16": {"dsr": {"psnr": 25.0, "identity_loss": 0.3}, "bicubic": {"psnr": 24.0, "identity_loss": 0.6}},
        "32": {"dsr": {"psnr": 30.0, "identity_loss": 0.1}, "bicubic": {"psnr": 30.0, "identity_loss": 0.1}},
    }
    assert selection_loss(figures, 1.0, 0.0) == pytest.approx(-0.05)
    assert selection_loss(figures, 0.0, 1.0) == pytest.approx(0.75)
    assert selection_loss(figures, 1.0, 1.0) == pytest.approx(0.70)
    assert selection_loss(figures, 0.0, 0.0) == pytest.approx(0.70), "of a run on LPIPS alone, both tell"


def test_an_out_that_is_a_file_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="is a file"):
        main(replace(config, out=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"
