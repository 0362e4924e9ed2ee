"""What `checkpoints/SHA256SUMS` lists: there, whole, in git, loadable, described by a card, and of one family."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.files import read_json, sha256_of
from common.shipped import LIST, shipped_files
from dsr.checkpoint import load_dsr
from facial_rec.embedder import load_embedder
from facial_rec.landmark_refiner import LandmarkRefiner
from facial_rec.thresholds import Thresholds
from pipeline.api_examples import example
from pipeline.model_metadata import Kind
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE
from pipeline.onnx_models import OnnxModel
from pipeline.train_reference import HISTORY

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"
MOST_BYTES = 25_000_000
LISTED = shipped_files()
LOADERS: dict[str, Callable[[Path], object]] = {
    "landmarks.onnx": LandmarkRefiner,
    "edgeface.onnx": lambda path: OnnxModel(path, "edgeface"),
    "chain.onnx": lambda path: OnnxModel(path, "chain"),
    "dsr.onnx": lambda path: OnnxModel(path, "dsr"),
    "thresholds.json": Thresholds.load,
    HISTORY: read_json,
    "dsr.pt": load_dsr,
    "dsr_large.pt": load_dsr,
    "dsr_mirrored.pt": load_dsr,
    "edgeface_xxs_dsr.pth": load_embedder,
}
every_file = pytest.mark.parametrize("name", sorted(LISTED))


def tracked() -> list[str]:
    """Names in checkpoints/ that git holds."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "."]
    listed = subprocess.run(command, cwd=FOLDER, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name]


def test_the_list_holds_all_the_weights_in_git_and_no_others() -> None:
    weights = [name for name in tracked() if name != LIST and Path(name).suffix != ".md" and name != "results.json"]
    assert sorted(weights) == sorted(LISTED)


def test_git_holds_little_of_them() -> None:
    assert sum((FOLDER / name).stat().st_size for name in tracked()) <= MOST_BYTES


@every_file
def test_it_is_the_file_that_is_listed(name: str) -> None:
    assert sha256_of(FOLDER / name) == LISTED[name]


@pytest.mark.parametrize("name", sorted(name for name in LISTED if name != HISTORY))
def test_it_has_a_card(name: str) -> None:
    """A card names its files in its first line, and says on what terms they may be used."""
    texts = [path.read_text() for path in FOLDER.glob("*.md")]
    cards = [text for text in texts if name in text.partition("\n")[0].removeprefix("# ").split(", ")]
    assert len(cards) == 1
    assert "CC BY-NC-SA 4.0" in cards[0]


@every_file
def test_it_loads(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    LOADERS[name](FOLDER / name)  # every loader is strict
    assert "warning" not in capsys.readouterr().err


def test_exports_and_thresholds_are_of_the_default_pair() -> None:
    weights = {"edgeface": LISTED.get(DEFAULT_EDGEFACE), "dsr": LISTED.get(DEFAULT_DSR)}
    parts: dict[Kind, tuple[str, ...]] = {"edgeface": ("edgeface",), "dsr": ("dsr",), "chain": ("edgeface", "dsr")}
    for kind, names in parts.items():
        if f"{kind}.onnx" in LISTED:
            found = OnnxModel(FOLDER / f"{kind}.onnx", kind).metadata.source_sha256
            assert dict(found) == {name: weights[name] for name in names}, kind
    if "thresholds.json" in LISTED:
        Thresholds.load(FOLDER / "thresholds.json").check_made_for(LISTED[DEFAULT_EDGEFACE], LISTED[DEFAULT_DSR])


def test_the_apis_examples_are_answers_of_these_files() -> None:
    models, listed = example("healthz")["models"], shipped_files()
    assert [models[name]["sha256"] for name in ("edgeface", "chain")] == [
        listed[f"{name}.onnx"] for name in ("edgeface", "chain")
    ]
