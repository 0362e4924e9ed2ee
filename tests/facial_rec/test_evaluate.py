"""`python -m facial_rec.evaluate`: costs, latency, accuracy on `.bin` sets, and refusals."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from common import cli
from common.errors import UserError
from common.images import RgbImage
from facial_rec import evaluate, reliability
from facial_rec.bin_sets import write_bin
from facial_rec.edgeface import EdgeFace
from facial_rec.evaluate import Config, load_subject, main, state_bytes


@pytest.fixture
def bin_set(tmp_path: Path, face: Callable[..., RgbImage]) -> Path:
    """Twenty genuine and twenty impostor pairs."""
    people = [(n, n) if n % 2 else (n, n + 100) for n in range(40)]
    images = [
        cv2.imencode(".png", face(person, photo))[1].tobytes() for pair in people for photo, person in enumerate(pair)
    ]
    write_bin(tmp_path / "made.bin", images, [first == second for first, second in people])
    return tmp_path / "made.bin"


def test_costs_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(Config(("edgeface_tiny", "edgeface_xxs"), rounds=0))
    made = result["models"]["edgeface_xxs"]
    assert made["parameters"] == 1_244_744
    assert made["flops"] == 2 * made["macs"] == 2 * sum(made["macs_by_kind"].values())
    assert made["authors_flops"] == 94_720_000
    assert made["bytes"] == pytest.approx(4 * 1_244_744, rel=0.04)
    assert result["models"]["edgeface_tiny"]["authors_flops"] is None
    out = capsys.readouterr().out
    assert "edgeface_xxs" in out
    assert "94.60" in out
    assert "FLOPs: two for each" in out
    assert "Latency" not in out


def test_any_rank_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(Config(("edgeface_tiny",), gamma=0.5, rounds=0))
    (name,) = result["models"]
    assert name == "edgeface_tiny, gamma 0.5"
    assert (
        result["models"][name]["macs"] < main(Config(("edgeface_tiny",), rounds=0))["models"]["edgeface_tiny"]["macs"]
    )


def test_latency(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(Config(("edgeface_tiny",), rounds=2))
    times = result["models"]["edgeface_tiny"]["milliseconds"]
    assert times.keys() == {"eager", "torchscript"}
    assert all(0 < value < 10_000 for value in times.values())
    assert "Latency: median of 2 turns, one face, cpu, 1 thread(s)" in capsys.readouterr().out


def test_accuracy_on_every_set(
    float_file: Path, int8_file: Path, bin_set: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(float_file), str(int8_file), "--sets", str(bin_set), str(people), "--rounds", "0"]
    cli.run(main, Config, [*words, "--json", str(tmp_path / "out.json"), "--bootstrap", "20"])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [(one["recogniser"], one["set"]) for one in result["verification"]] == [
        *((str(file), "made.bin") for file in (float_file, int8_file)),
        *((str(file), "people") for file in (float_file, int8_file)),
    ]
    made = result["verification"][0]
    assert made["pairs"] == {"genuine": 20, "impostor": 20}
    assert made["figures"].keys() >= {"accuracy", "accuracy_ci95", "tar@fmr=1e-3", "auc", "eer"}
    sizes = [result["models"][str(file)]["bytes"] for file in (float_file, int8_file)]
    assert sizes == [float_file.stat().st_size, int8_file.stat().st_size]
    assert {model["variant"] for model in result["models"].values()} == {"edgeface_tiny"}
    out = capsys.readouterr().out
    assert "accuracy, %" in out
    assert "TAR at FMR 1e-3, %" in out
    assert "made.bin" in out


def test_a_kill_loses_no_set_that_was_measured(
    float_file: Path, bin_set: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL: nothing catches it."""

    read = evaluate.read_pixels

    def killed(source: Any, names: list[str]) -> torch.Tensor:
        if source.label == str(people):
            raise Killed
        return read(source, names)

    monkeypatch.setattr(evaluate, "read_pixels", killed)
    out = tmp_path / "out.json"
    with pytest.raises(Killed):
        main(Config((str(float_file),), sets=(bin_set, people), rounds=0, bootstrap=0, json=out))
    assert [one["set"] for one in json.loads(out.read_text())["verification"]] == ["made.bin"]


def test_the_figures_are_those_of_the_scores(
    tiny: EdgeFace, float_file: Path, bin_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that the network tells apart entirely, of which the rule of 3 would withhold the AUC."""
    monkeypatch.setattr(reliability, "LEAST_ERRORS", 0)
    found = main(Config((str(float_file),), sets=(bin_set,), rounds=0, bootstrap=0))["verification"][0]
    source, pairs = evaluate.load_trials(bin_set)
    embed = lambda name: tiny(torch.from_numpy(source.read(name)).permute(2, 0, 1)[None] / 127.5 - 1)[0]  # noqa: E731
    scores = [float(torch.cosine_similarity(embed(p.first), embed(p.second), dim=0)) for p in pairs.pairs]
    genuine = [score for score, kind in zip(scores, pairs.genuine, strict=True) if kind]
    impostor = [score for score, kind in zip(scores, pairs.genuine, strict=True) if not kind]
    wins = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor) / (len(genuine) * len(impostor))
    assert found["figures"]["auc"] == pytest.approx(wins, abs=1e-6)
    assert (sum(found["histogram"]["genuine"]), sum(found["histogram"]["impostor"])) == (20, 20)


def test_int8_names_have_the_published_size() -> None:
    assert state_bytes(load_subject("edgeface_xxs_q")) == pytest.approx(1_734_661, rel=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edgeface": ()}, "expected one or more variants or weights files"),
        ({"edgeface": ("edgeface_xxs", "edgeface_xxs")}, "each once"),
        ({"edgeface": ("edgeface_huge",)}, "'edgeface_huge' is not an EdgeFace variant"),
        ({"edgeface": ("nowhere.pt",)}, r"nowhere\.pt is missing: expected an EdgeFace weights file"),
        ({"edgeface": ("nowhere.pt",), "gamma": 0.5}, r"--gamma 0\.5 is for names: the ranks of nowhere\.pt"),
        ({"gamma": 0.5, "sets": (Path("x.bin"),)}, "--sets needs weights, and a name with --gamma has none"),
        ({"rounds": -1}, "--rounds must be at least 0"),
        ({"seed": -1}, "--seed must be at least 0, found -1"),
        ({"threads": 0}, "--threads must be at least 1"),
        ({"sets": (Path("nowhere.bin"),)}, r"nowhere\.bin does not exist|edgeface_tiny is missing"),
    ],
)
def test_refusals(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        main(replace(Config(("edgeface_tiny",), rounds=0), **change))


def test_real_weights_on_a_few_real_pairs(shared: Path, tmp_path: Path) -> None:
    """The official XXS tells people of the validation set apart."""
    with open(shared / "data" / "train" / "faces.csv", encoding="utf-8") as file:
        held = [row for row in csv.DictReader(file) if row["split"].startswith("val") and row["zip"].endswith("_0.zip")]
    wanted: dict[str, list[str]] = {}
    for row in held:
        if len(wanted.setdefault(row["identity"], [])) < 4:
            wanted[row["identity"]].append(row["file"])
    with zipfile.ZipFile(shared / "data" / "train" / "faces_112_0.zip") as archive:
        for person, files in list(wanted.items())[:12]:
            for number, name in enumerate(files):
                (tmp_path / "held" / person).mkdir(parents=True, exist_ok=True)
                (tmp_path / "held" / person / f"{number}.jpg").write_bytes(archive.read(name))
    weights = str(shared / "weights" / "edgeface_xxs_q.pt")
    result = main(Config((weights,), sets=(tmp_path / "held",), rounds=0, bootstrap=0))
    assert result["models"][weights]["variant"] == "edgeface_xxs"
    figures = result["verification"][0]["figures"]
    assert figures["d_prime"] > 3
    assert figures["auc"] is None or figures["auc"] > 0.99  # None: fewer than three mistakes
