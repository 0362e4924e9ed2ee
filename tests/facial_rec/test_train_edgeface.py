"""`python -m facial_rec.train_edgeface`: files, seeds, losses, data and refusals."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common import cli
from common.errors import UserError
from common.images import decode_image
from common.paths import REPOSITORY_ROOT
from common.recipes import read_recipe
from common.runlog import read_records
from facial_rec import pack_records, train_edgeface, train_run
from facial_rec.bin_sets import write_bin
from facial_rec.edgeface import build, get_model, variant_named
from facial_rec.embedder import load_embedder
from facial_rec.train_edgeface import Config, main
from facial_rec.train_state import learning_rate
from facial_rec.weights import read_state, recognise

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
    """Drawing takes longer than training a tiny network; `finished` draws its own."""
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


def test_files_left_behind(finished: Config) -> None:
    left = sorted(str(path.relative_to(finished.out)) for path in finished.out.rglob("*") if path.is_file())
    assert left == [
        *("config.json", "curves.png", "edgeface.json", "edgeface.pt", "last.json", "losses.jsonl", "metrics.jsonl"),
        "state/step_00000004/rank_0.pt",
    ]
    saved = json.loads((finished.out / "config.json").read_text())
    assert saved.items() >= {"seed": 0, "loss": "cosface", "margin": [0.4], "training_people": PEOPLE}.items()
    assert saved["command"].startswith("python -m facial_rec.train_edgeface")
    assert decode_image((finished.out / "curves.png").read_bytes(), "curves").std() > 0
    assert [record["step"] for record in read_records(finished.out / "losses.jsonl")] == list(range(1, 5))
    assert [(record["epoch"], record["step"]) for record in records(finished)] == [(1, 2), (2, 4)]


def test_the_weights_load_everywhere_and_say_what_they_are(finished: Config) -> None:
    path = finished.out / "edgeface.pt"
    embedder = load_embedder(path)
    assert embedder.source.variant == "edgeface_tiny"
    assert embedder(torch.rand(2, 3, 112, 112)).shape == (2, 512)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["sha256"] == embedder.source.sha256
    assert about["variant"] == "edgeface_tiny"
    assert about["settings"]["loss"] == "cosface"
    assert about["validation"] == records(finished)[round(about["epoch"]) - 1]["validation"]
    assert about["parameters"] == sum(parameter.numel() for parameter in embedder.parameters())


def test_the_best_validation_decides(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(0.8, 0.9), (0.8, 0.95), (0.7, 1.0), (0.8, 0.95)]
    figures = iter([{"accuracy": accuracy, "auc": auc} for accuracy, auc in made])
    monkeypatch.setattr(train_edgeface.PairValidation, "run", lambda *_: next(figures))
    main(replace(config, val_every=1))
    assert json.loads((config.out / "edgeface.json").read_text())["step"] == 2


def test_the_loss_falls(config: Config) -> None:
    main(replace(config, epochs=6, learning_rate=3e-3, augmentation="none"))
    made = losses(config)
    assert sum(made[-3:]) < 0.5 * sum(made[:3])


def test_same_seed_same_losses_another_seed_others(config: Config, finished: Config) -> None:
    main(replace(config, workers=1))
    assert_same_run(config, finished)
    other = replace(config, seed=1, epochs=1, out=config.out.with_name("other"))
    main(other)
    assert losses(other)[0] != losses(finished)[0]


@pytest.mark.parametrize(
    ("loss", "margin", "shown"),
    [
        ("arcface", (0.25,), "arcface 0.25;"),
        ("sphereface", (), "sphereface 1.35;"),
        ("combined", (1.0, 0.2, 0.1), "combined 1 0.2 0.1;"),
        ("triplet", (), "triplet 1.5;"),
    ],
)
def test_every_loss_trains(
    loss: Any, margin: tuple[float, ...], shown: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    main(replace(config, loss=loss, margin=margin, epochs=1))
    assert shown in capsys.readouterr().out
    assert all(math.isfinite(loss) for loss in losses(config))


@pytest.mark.parametrize(("gamma", "name"), [(0.5, "edgeface_tiny_rank_32"), (1.0, "edgeface_tiny")])
def test_gamma_sets_the_rank_of_any_size(gamma: float, name: str, config: Config) -> None:
    main(replace(config, gamma=gamma, epochs=1))
    state = read_state(config.out / "edgeface.pt")
    assert recognise(state, config.out)[0] == name
    expected = build(variant_named("edgeface_tiny", gamma)).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in expected.items()}
    assert load_embedder(config.out / "edgeface.pt")(torch.rand(1, 3, 112, 112)).shape == (1, 512)


def test_a_rec_and_a_bin_train_as_folders_do(
    config: Config, finished: Config, training_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_records.main(pack_records.Config(training_faces / "train", tmp_path / "train.rec"))
    names = ["p4/0.png", "p4/1.png", "p5/0.png", "p5/1.png", "p4/0.png", "p5/0.png", "p5/0.png", "p6/1.png"]
    write_bin(
        tmp_path / "val.bin",
        [(training_faces / "val" / name).read_bytes() for name in names],
        [True, True, False, False],
    )
    main(replace(config, train_root=tmp_path, val_root=tmp_path / "val.bin"))
    assert losses(config) == losses(finished)
    assert "16 faces of 4 people" in capsys.readouterr().out
    assert records(config)[0]["validation"]["accuracy"] >= 0.0


def test_without_validation_set_people_are_held_out(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    main(replace(config, val_root=None, epochs=1))
    out = capsys.readouterr().out
    assert "no validation set: people of" in out
    assert "8 faces of 2 people" in out


def test_restart_goes_on_from_the_weights_at_a_constant_rate(config: Config, finished: Config) -> None:
    weights = finished.out / "edgeface.pt"
    again = replace(config, restart_from=weights, schedule="constant", learning_rate=1e-5, warmup_epochs=0.0)
    main(again)
    rates = {record["learning_rate"] for record in read_records(again.out / "losses.jsonl")}
    assert rates == {1e-5}
    # Class centres at the people's means: the first loss is far below that of centres drawn at random.
    fresh = replace(again, restart_from=None, out=config.out.with_name("fresh"), epochs=1)
    main(fresh)
    assert losses(again)[0] < losses(fresh)[0] - 5
    before, after = read_state(weights), read_state(again.out / "edgeface.pt")
    distance = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert 0 < distance < 1e-3
    main(replace(again, resume=True))
    with pytest.raises(UserError, match=r"restart_from was '.*edgeface\.pt', is now None"):
        main(replace(again, restart_from=None, resume=True))


def test_restart_from_another_network_is_refused(config: Config, tmp_path: Path) -> None:
    torch.save(get_model("edgeface_xxs").state_dict(), tmp_path / "xxs.pt")
    with pytest.raises(UserError, match=r"xxs\.pt does not fit this EdgeFace: .*Every key must match"):
        main(replace(config, restart_from=tmp_path / "xxs.pt"))


@pytest.mark.parametrize("variant", ["edgeface_xs_gamma_06", "edgeface_s_gamma_05"])
def test_the_recipes_hold_the_authors_settings(variant: str) -> None:
    path = REPOSITORY_ROOT / "recipes" / f"{variant}.toml"
    first, second = (read_recipe(Config, path, stage) for stage in ("train", "restart"))
    for stage in (first, second):
        assert (stage.variant, stage.loss, stage.margin, stage.sampling) == (variant, "cosface", (0.4,), 0.3)
        assert stage.weight_decay == 0.05
    batch, rate = (512, 3e-3) if "xs" in variant else (1024, 6e-3)
    assert (first.batch_size, first.learning_rate, first.epochs, first.warmup_epochs) == (batch, rate, 100, 2.0)
    assert (second.learning_rate, second.schedule, second.warmup_epochs) == (1e-5, "constant", 0.0)
    assert second.restart_from == Path("runs") / variant / "edgeface.pt"


def test_a_recipe_from_the_command_line(config: Config, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(f'[train]\nvariant = "edgeface_tiny"\nepochs = 9\nbatch_size = 8\nout = "{config.out}"\n')
    words = ["--config", str(recipe), "--train-root", str(config.train_root), "--epochs", "1", "--log-every", "1"]
    cli.run(main, Config, [*words, "--val-root", str(config.val_root)], recipes=True)
    assert len(losses(config)) == 2
    assert json.loads((config.out / "config.json").read_text())["epochs"] == 1


def test_learning_rate() -> None:
    polynomial = [learning_rate(step, 10, 1.0, 2) for step in range(10)]
    assert polynomial[:3] == [0.5, 1.0, 1.0]
    assert polynomial[6] == pytest.approx(0.25)
    assert polynomial[9] == pytest.approx((1 / 8) ** 2)
    assert [learning_rate(step, 10, 0.1, 0, "constant") for step in (0, 9)] == [0.1, 0.1]


def test_wandb_offline_needs_no_network(config: Config) -> None:
    main(replace(config, epochs=1, wandb="offline"))
    assert list((config.out / "wandb").glob("offline-run-*/*.wandb"))


def test_a_run_is_not_overwritten_and_there_must_be_one_to_resume(finished: Config, config: Config) -> None:
    with pytest.raises(UserError, match="run already holds a run: add --resume to go on with it, or choose another"):
        main(finished)
    with pytest.raises(UserError, match=r"last\.json is missing, so there is nothing to resume"):
        main(replace(config, resume=True))


def test_the_best_of_other_validation_pairs_is_not_gone_on_from(
    finished: Config, training_faces: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished.out, tmp_path / "run")
    shutil.copytree(training_faces / "val", tmp_path / "val")
    again = replace(finished, out=tmp_path / "run", val_root=tmp_path / "val", resume=True)
    main(again)  # the same pictures in another place
    (tmp_path / "val" / "p4" / "0.png").write_bytes((tmp_path / "val" / "p4" / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"run belongs to a run with other validation pairs.* the --val-root it had"):
        main(again)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "edgeface_huge"}, "'edgeface_huge' is not an EdgeFace variant"),
        ({"gamma": 1.5}, r"--gamma 1\.5: expected a rank ratio above 0, up to 1"),
        ({"margin": (0.4, 0.5)}, r"--loss cosface takes 1 margin\(s\), found 2"),
        ({"loss": "triplet", "margin": (5.0,)}, r"expected one, above 0 and at most 4, for --loss triplet"),
        ({"loss": "triplet", "photos_per_person": 1}, "--photos-per-person must be at least 2 for triplets, found 1"),
        ({"sampling": 0.0}, "--sampling 0: expected a fraction above 0, up to 1"),
        ({"epochs": 0}, "--epochs must be at least 1, found 0"),
        ({"warmup_epochs": math.nan}, "--warmup-epochs must be at least 0, found nan"),
        ({"learning_rate": 2.0}, "--learning-rate must lie between 0 and 1"),
        ({"scale": 0.0}, "--scale must be above 0"),
        ({"device": "tpu"}, "--device tpu is not a device"),
        ({"train_root": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_bad_settings_are_refused(config: Config, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(config, **change))
    assert not config.out.exists()


def test_people_in_both_sets_are_refused(config: Config, training_faces: Path) -> None:
    with pytest.raises(UserError, match=r"4 people are in both \S+train and \S+train \(p0, p1, p2, p3\)"):
        main(replace(config, val_root=training_faces / "train"))


def test_a_batch_without_positive_is_refused(config: Config, training_faces: Path, tmp_path: Path) -> None:
    shutil.copytree(training_faces / "train", tmp_path / "few")
    for person in range(1, PEOPLE):
        for photo in range(1, PHOTOS):
            (tmp_path / "few" / f"p{person}" / f"{photo}.png").unlink()
    shutil.copytree(tmp_path / "few" / "p1", tmp_path / "few" / "p9")
    with pytest.raises(UserError, match=r"holds no triplet: .* is missing. Raise --batch-size or --photos-per-person"):
        main(replace(config, train_root=tmp_path / "few", loss="triplet", batch_size=2, photos_per_person=2))


def test_a_loss_that_is_not_finite_stops_the_run(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_edgeface.PartialFC, "forward", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(UserError, match="the loss became nan at step 0"):
        main(config)


def test_on_cuda_in_bfloat16(config: Config, cuda: str) -> None:
    main(replace(config, device=cuda, epochs=4, learning_rate=3e-3))
    assert losses(config)[-1] < losses(config)[0]
