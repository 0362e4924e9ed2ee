"""pipeline.train_reference: the recipe, the order of its commands, what is left, and the comparison of epochs."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import UserError
from common.recipes import read_recipe
from common.runlog import append_record
from dsr import train_dsr
from facial_rec import finetune_edgeface
from pipeline import calibrate, normalise_head, train_chain, train_reference
from pipeline.train_reference import Config, compared, main, processes_of

RECIPE = Path(__file__).resolve().parents[2] / "recipes/reference.toml"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return Config(
        recipe=RECIPE, out=Path("made"), edgeface="face.pt", train_root=Path("train"), val_root=Path("val"), threads=1
    )


CHAIN = [*["pipeline.train_chain"] * 3, *["pipeline.normalise_head", "dsr.train_dsr"] * 2]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


class Commands:
    """In place of the programs: keeps each command, and leaves what it would leave."""

    def __init__(self, fail: str = "") -> None:
        self.words: list[list[str]] = []
        self.shared: list[str] = []
        self.fail = fail

    def __call__(self, words: list[str], check: bool) -> Any:
        assert not check
        shared = words[1 : 1 + len(LAUNCHER)] == LAUNCHER
        words = words[1 + len(LAUNCHER) if shared else 1 :]
        self.words.append(words[1:])
        module = words[1]
        given = {flag: value for flag, value in itertools.pairwise(words) if flag.startswith("--")}
        if shared:
            self.shared.append(given["--out"])
        if module == self.fail:
            return subprocess.CompletedProcess(words, 3)
        out = Path(given["--out"])
        (out if out.suffix == "" else out.parent).mkdir(parents=True, exist_ok=True)
        tuned = ["edgeface_finetuned.pth", "edgeface_finetuned.pt"]
        if module == "pipeline.normalise_head":
            for name in tuned:
                (out / name).write_bytes(f"{out}".encode())
            (out / "edgeface_finetuned.json").write_text(json.dumps({"alpha": 0.7, "command": "x"}))
        elif module in ("dsr.train_dsr", "facial_rec.finetune_edgeface", "pipeline.train_chain"):
            for epoch in range(1, int(given.get("--stop-after", given.get("--epochs", 2))) + 1):
                append_record(out / "metrics.jsonl", epoch_of(epoch))
            usual = (finetune_edgeface if module.startswith("facial") else train_dsr).Config().batch_size
            about = {"command": "x", "out": str(out), "seed": 0, "batch_size": int(given.get("--batch-size", usual))}
            (out / "config.json").write_text(json.dumps({**about, "processes": 1 + shared}))
            names = {"dsr.train_dsr": ["dsr.pt"], "pipeline.train_chain": ["dsr.pt", *tuned]}.get(module, tuned)
            for name in names:
                (out / name).write_bytes(f"{out}".encode())
            if module == "dsr.train_dsr" and "--alphas" in given:
                (out / "mixtures.json").write_text(json.dumps({"alpha": 0.75}))
            (out / "edgeface_finetuned.json").write_text(json.dumps({"alpha": 0.7, "command": "x"}))
        else:
            out.write_bytes(module.encode())
        return subprocess.CompletedProcess(words, 0)

    def modules(self) -> list[str]:
        return [words[0] for words in self.words]


def install(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> None:
    monkeypatch.setattr(train_reference, "subprocess", SimpleNamespace(run=commands))
    monkeypatch.setattr(train_reference, "edgeface_file", Path)


def epoch_of(number: int, psnr: float = 24.0) -> dict[str, Any]:
    validation = {"16": {"dsr": {"psnr": psnr}, "bicubic": {"psnr": 22.0}}}
    return {"epoch": number, "step": number, "train": {"loss": 0.5}, "seconds": 10.0, "validation": validation}


def test_the_recipe_fits_the_commands() -> None:
    for stage, wanted in (
        ("dsr", train_dsr.Config),
        ("finetune", finetune_edgeface.Config),
        ("dsr_second", train_dsr.Config),
        ("finetune_second", finetune_edgeface.Config),
        ("dsr_third", train_dsr.Config),
        ("finetune_third", finetune_edgeface.Config),
        ("finetune_fourth", finetune_edgeface.Config),
        ("dsr_fourth", train_dsr.Config),
        ("finetune_fifth", finetune_edgeface.Config),
        ("chain", train_chain.Config),
        ("chain_second", train_chain.Config),
        ("chain_third", train_chain.Config),
        ("normalise", normalise_head.Config),
        ("dsr_fifth", train_dsr.Config),
        ("normalise_second", normalise_head.Config),
        ("large", train_dsr.Config),
        ("calibrate", calibrate.Config),
    ):
        read_recipe(wanted, RECIPE, stage)
    assert read_recipe(train_dsr.Config, RECIPE, "large").preset == "large"
    assert [processes_of(RECIPE, stage) for stage in ("dsr", "dsr_third", "chain", "large")] == [1, 2, 2, 2]


def test_every_stage_runs_once_and_everything_is_collected(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()
    install(monkeypatch, commands)
    folder = main(config)
    turn = ["dsr.train_dsr", "facial_rec.finetune_edgeface"]
    trainings = [*(turn * 3), "facial_rec.finetune_edgeface", *turn, *CHAIN]
    assert commands.modules() == [*trainings, "dsr.mirror", "pipeline.calibrate", *(["pipeline.export"] * 3)]
    stages = [" ".join(words) for words in commands.words[: len(trainings)]]
    (
        first,
        tuned,
        second,
        tuned_again,
        third,
        tuned_third,
        tuned_fourth,
        fourth,
        tuned_last,
        chain,
        second_chain,
        third_chain,
        normalised,
        fifth,
        normalised_again,
        large,
    ) = stages
    assert "--start-from" not in first + tuned
    assert "--preset separate" in first
    assert "--dsr made/dsr/dsr.pt" in tuned
    assert "--start-from made/dsr/dsr.pt" in second
    assert "--second-edgeface made/finetune/edgeface_finetuned.pt " in f"{second} "
    assert "--dsr made/dsr_second/dsr.pt" in tuned_again
    assert "--start-from made/finetune/edgeface_finetuned.pth" in tuned_again
    assert "--start-from made/dsr_second/dsr.pt" in third
    assert "--second-edgeface edgeface_xs_gamma_06.pt" in third, "the recipe names it"
    assert "--dsr made/dsr_third/dsr.pt" in tuned_third
    assert "--start-from made/finetune_second/edgeface_finetuned.pth" in tuned_third
    assert "--dsr made/dsr_third/dsr.pt" in tuned_fourth
    assert "--start-from made/finetune_third/edgeface_finetuned.pth" in tuned_fourth
    assert "--teachers edgeface_xs_gamma_06.pt edgeface_xs_q.pt" in tuned_fourth
    assert "--start-from made/dsr_third/dsr.pt" in fourth
    assert "--second-edgeface made/finetune_third/edgeface_finetuned.pt" in fourth
    assert "--dsr made/dsr_fourth/dsr.pt" in tuned_last
    assert "--start-from made/finetune_fourth/edgeface_finetuned.pth" in tuned_last
    assert "--dsr made/dsr_fourth/dsr.pt" in chain
    assert "--start-from made/finetune_fifth/edgeface_finetuned.pth" in chain
    assert "--dsr made/chain/dsr.pt" in second_chain
    assert "--start-from made/chain/edgeface_finetuned.pth" in second_chain
    assert "--cuda-graph" not in second_chain, "there is no GPU"
    assert "--dsr made/chain_second/dsr.pt" in third_chain
    assert "--start-from made/chain_second/edgeface_finetuned.pth" in third_chain
    assert "--edgeface made/chain_third/edgeface_finetuned.pth" in normalised
    assert "--original face.pt" in normalised
    assert "--dsr made/chain_third/dsr.pt" in normalised
    assert "--start-from made/chain_third/dsr.pt" in fifth
    assert "--second-edgeface made/normalise/edgeface_finetuned.pt" in fifth
    assert "--optimizer muon" in fifth
    assert "--edgeface made/chain_third/edgeface_finetuned.pth" in normalised_again, "not the normalised one"
    assert "--dsr made/dsr_fifth/dsr.pt" in normalised_again
    assert all("--edgeface face.pt" in words for words in stages if words not in (normalised, normalised_again))
    assert "--preset large" in large
    assert "--start-from made/dsr_fifth/dsr.pt" in large
    assert "--second-edgeface made/normalise_second/edgeface_finetuned.pt" in large
    shared = ["dsr_second", "dsr_third", "chain", "chain_third", "dsr_fifth", "large"]
    assert commands.shared == [f"made/{stage}" for stage in shared]
    assert {path.name for path in folder.iterdir()} == {
        *("dsr.pt", "dsr_large.pt", "dsr_mirrored.pt", "edgeface_xxs_dsr.pth", "thresholds.json"),
        *("edgeface.onnx", "dsr.onnx", "chain.onnx", "reference.json", "SHA256SUMS"),
    }
    assert (folder / "dsr_large.pt").read_text() == "made/large"
    assert (folder / "dsr.pt").read_text() == "made/dsr_fifth"
    assert (folder / "edgeface_xxs_dsr.pth").read_text() == "made/normalise_second"
    checked = subprocess.run(
        shlex.split("sha256sum -c SHA256SUMS"), cwd=folder, capture_output=True, text=True, check=True
    )
    assert checked.stdout.count(": OK") == 9
    history = json.loads((folder / "reference.json").read_text())
    assert history["stages"]["dsr"]["seconds"] == 160.0
    assert len(history["stages"]["dsr"]["epochs"]) == 16
    assert history["stages"]["finetune"]["config"].keys() == {"seed", "batch_size", "processes"}  # no command, no path
    assert history["finetuned"] == {"alpha": 0.7}
    assert history["stages"]["dsr_third"]["mixture"] == {"alpha": 0.75}
    assert "mixture" not in history["stages"]["dsr_second"]
    again = Commands()
    install(monkeypatch, again)
    main(config)
    assert again.modules() == ["dsr.mirror", "pipeline.calibrate", *(["pipeline.export"] * 3)], "what is trained stays"
    (config.out / "dsr_third" / "mixtures.json").unlink()
    install(monkeypatch, killed := Commands())
    main(config)
    assert killed.modules()[0] == "dsr.train_dsr", "killed before the mixture: it is made up for"
    (config.out / "finetune" / "edgeface_finetuned.pt").unlink()  # the .pth is there from the first good epoch on
    install(monkeypatch, killed := Commands())
    main(config)
    assert killed.modules()[0] == "facial_rec.finetune_edgeface", "killed before its end: it goes on"


def test_a_changed_recipe_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Commands())
    main(config)
    path = config.out / "chain" / "config.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps({**made, "batch_size": 32, "processes": 1, "device": "cuda", "threads": 8}))
    main(config)  # as many faces a step, on another machine
    path.write_text(json.dumps({**made, "batch_size": 32, "processes": 2, "margin_weight": 0.7}))
    with pytest.raises(
        UserError, match=r"made/chain was trained by another recipe \(batch_size was 64, is 32; margin_"
    ):
        main(config)


def test_what_no_config_says_is_compared_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Commands())
    main(config)
    recipe = Path("changed.toml")
    text = RECIPE.read_text()
    for old, new, words in (
        ("within = [0.0, 0.5, 1.0, 1.5]", "within = [0.0]", r"made/normalise was .*within was .*, is \[0.0\]"),
        ('teachers = ["edgeface_xs_gamma_06.pt", "edgeface_xs_q.pt"]', 'teachers = ["other.pt"]', "teachers was "),
        ("alphas = [0.75, 1.0]", "alphas = [0.5]", r"made/dsr_third was .* \(alphas was \[0.75, 1.0\]"),
    ):
        assert old in text
        recipe.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=words):
            main(replace(config, recipe=recipe))
    (config.out / "finetune" / "edgeface_finetuned.pt").write_bytes(b"trained again")
    with pytest.raises(UserError, match=r"made/dsr_second was .* \(second_edgeface_file_sha256 was"):
        main(config)


def test_a_missing_teacher_is_named_before_anything_is_trained(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()
    install(monkeypatch, commands)

    def missing(name: str) -> Path:
        raise UserError(f"{name} is missing")

    monkeypatch.setattr(train_reference, "edgeface_file", missing)
    with pytest.raises(UserError, match=r"edgeface_xs_gamma_06\.pt is missing"):
        main(config)
    assert commands.words == []


def test_what_is_made_can_be_installed(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkpoints = tmp_path / "repository" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("landmarks.onnx", "mine.pt", "dsr.pt"):
        (checkpoints / name).write_text("there before")
    monkeypatch.setattr(train_reference, "REPOSITORY_ROOT", checkpoints.parent)
    install(monkeypatch, Commands())
    main(replace(config, install=True))
    assert (checkpoints / "dsr.pt").read_text() == "made/dsr_fifth"
    assert (checkpoints / "mine.pt").read_text() == "there before"
    listed = {line.split()[1] for line in (checkpoints / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(train_reference.SHIPPED)


def test_on_a_gpu_one_process_takes_the_faces_of_all(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()
    install(monkeypatch, commands)
    main(replace(config, device="cuda"))
    assert commands.shared == []
    assert "--batch-size 32" in " ".join(commands.words[2])
    assert "--batch-size 32" in " ".join(commands.words[9])
    assert commands.words[9][0] == commands.words[10][0] == "pipeline.train_chain"
    assert "--cuda-graph" in " ".join(commands.words[10])
    assert "--batch-size" not in " ".join(commands.words[0])


@pytest.mark.parametrize("count", ["0", "1.5", "true", "'two'"])
def test_a_number_of_processes_that_is_none_is_named(tmp_path: Path, count: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[processes]\ndsr = {count}\n")
    with pytest.raises(UserError, match=r"recipe\.toml, \[processes\] key 'dsr': expected a whole number from 1 on"):
        processes_of(recipe, "dsr")


def test_a_stage_that_fails_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Commands(fail="facial_rec.finetune_edgeface"))
    with pytest.raises(UserError, match=r"finetune_edgeface .* ended with 3: see above"):
        main(config)
    assert (config.out / "dsr" / "dsr.pt").is_file()


def test_first_epochs_are_compared_with_the_shipped_ones(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands()
    install(monkeypatch, commands)
    monkeypatch.setattr(train_reference, "find_weights", lambda name: None)
    with pytest.raises(UserError, match=r"reference\.json is missing"):
        main(replace(config, stop_after=2))
    for psnr, words in ((24.0, "difference 0.0e+00: reproduced."), (24.1, "4.1e-03: other machines")):
        shipped = Path(f"shipped_{psnr}.json")
        epochs = [epoch_of(number, psnr) for number in range(1, 17)]
        shipped.write_text(json.dumps({"stages": {"dsr": {"epochs": epochs}}}))
        monkeypatch.setattr(train_reference, "find_weights", {"reference.json": shipped}.get)
        main(replace(config, stop_after=2))
        assert words in capsys.readouterr().out
    with pytest.raises(UserError, match="--stop-after 17: the shipped DSR's first stage had 16 epochs"):
        main(replace(config, stop_after=17))
    assert commands.modules() == ["dsr.train_dsr"], "trained once"
    assert "--stop-after 2" in " ".join(commands.words[0])
    assert "--epochs 16" in " ".join(commands.words[0]), "the schedule is the whole run's"


def test_comparison_names_every_figure() -> None:
    rows, largest = compared([epoch_of(1, 12.0)], [epoch_of(1, 24.0)])
    assert rows == [
        ["1", "training loss", "0.500000", "0.500000", "+0.0e+00"],
        ["1", "psnr at 16", "24.000000", "12.000000", "-1.2e+01"],
    ]
    assert largest == 0.5
    other = epoch_of(1) | {"train": {"loss": 0.5, "seam": 0.1}}
    with pytest.raises(UserError, match="another recipe: one of both has no training seam, epoch 1"):
        compared([other], [epoch_of(1)])


def test_missing_data_and_bad_numbers_are_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_reference, "default_dataset", lambda split: None)
    with pytest.raises(UserError, match=r"--val-root: there is no default data set"):
        main(replace(config, val_root=None))
    with pytest.raises(UserError, match="--stop-after -1: expected 0 or more"):
        main(replace(config, stop_after=-1))
