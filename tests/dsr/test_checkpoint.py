"""dsr.checkpoint: what is saved is what is loaded, and everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from common.files import sha256_of
from dsr.checkpoint import load_dsr, save_dsr
from dsr.grow import grow
from dsr.model import PRESETS, Dsr

METADATA = {"epoch": 3, "settings": {"vlr_size": ["16", "8-64"]}, "validation": {"16": {"psnr": 24.5}}}


@pytest.fixture
def model() -> Dsr:
    torch.manual_seed(0)
    model = Dsr(PRESETS["tiny"])
    torch.nn.init.normal_(model.last.weight, std=0.02)
    return model


@pytest.fixture
def path(model: Dsr, tmp_path: Path) -> Path:
    path = tmp_path / "dsr.pt"
    save_dsr(path, model, METADATA)
    return path


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_round_trip(model: Dsr, path: Path) -> None:
    loaded, info = load_dsr(path)
    assert info.config == model.config
    assert info.metadata == METADATA
    assert info.sha256 == sha256_of(path)
    low = torch.rand(2, 3, 16, 16)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    torch.testing.assert_close(loaded(low), model.eval()(low), atol=1e-5, rtol=0)  # another memory format, other sums
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_from_before_the_average_over_mirror_images_is_read(model: Dsr, path: Path) -> None:
    old = content(path)
    del old["config"]["mirrored"]
    torch.save(old, path)
    assert load_dsr(path)[1].config == model.config


def test_a_mirrored_network_is_read_as_one(model: Dsr, path: Path) -> None:
    save_dsr(path, grow(model, replace(model.config, mirrored=True)), METADATA)
    loaded, info = load_dsr(path)
    assert info.config.mirrored
    low = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(loaded(low.flip(3)), loaded(low).flip(3), atol=1e-5, rtol=0)


def test_a_file_from_before_cells_overlapped_is_read(path: Path) -> None:
    model = Dsr(replace(PRESETS["tiny"], overlap=0))
    save_dsr(path, model, METADATA)
    old = content(path)
    del old["config"]["overlap"]
    torch.save(old, path)
    loaded, info = load_dsr(path)
    assert info.config == model.config
    assert torch.equal(loaded.stem.weight, model.stem.weight)


def test_memory_format_does_not_reach_the_file(model: Dsr, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    save_dsr(other, model.to(memory_format=torch.channels_last), METADATA)
    assert sha256_of(other) == sha256_of(path), "the same weights are the same bytes, under whatever name"


def test_a_bare_name_is_looked_up_in_checkpoints(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    path.rename(tmp_path / "checkpoints" / "mine.pt")
    monkeypatch.chdir(tmp_path)
    assert load_dsr("mine.pt")[1].path == tmp_path / "checkpoints" / "mine.pt"


def test_an_interrupted_write_leaves_the_older_file(model: Dsr, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def half(content: object, target: Any) -> None:
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_dsr(path, model, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pt is missing: train one with `python -m dsr\.train_dsr`"):
        load_dsr(tmp_path / "no.pt")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_truncated_file_is_refused(path: Path, fraction: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(UserError, match=r"dsr\.pt is not a readable weights file"):
        load_dsr(path)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


def test_code_in_a_file_is_not_run(path: Path, tmp_path: Path) -> None:
    torch.save({**content(path), "metadata": Hostile(tmp_path / "marker")}, path)
    with pytest.raises(UserError, match=r"dsr\.pt holds something other than plain tensors .*It was not run"):
        load_dsr(path)
    assert not (tmp_path / "marker").exists()


def test_another_networks_weights_are_refused(edgeface: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.pt is not a DSR checkpoint of format dsr-2"):
        load_dsr(edgeface)


def drop(state: dict[str, Any]) -> None:
    del state["last.tile"]


def add(state: dict[str, Any]) -> None:
    state["more.weight"] = torch.zeros(1)


def reshape(state: dict[str, Any]) -> None:
    state["last.tile"] = torch.zeros(5)


def no_tensor(state: dict[str, Any]) -> None:
    state["last.tile"] = "text"


def nan(state: dict[str, Any]) -> None:
    state["last.tile"][0] = float("nan")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop, r"1 missing \(last\.tile\)"),
        (add, r"1 unexpected \(more\.weight\)"),
        (reshape, r"last\.tile \(5,\) instead of \(1, 3, 7, 7\)"),
        (no_tensor, r"last\.tile"),
        (nan, r"NaN or infinite weights in last\.tile"),
    ],
)
def test_spoilt_weights_are_named(path: Path, spoil: Callable[[dict[str, Any]], None], words: str) -> None:
    whole = content(path)
    spoil(whole["state_dict"])
    torch.save(whole, path)
    with pytest.raises(UserError, match=rf"dsr\.pt .*{words}"):
        load_dsr(path)


GOOD = asdict(PRESETS["tiny"])


@pytest.mark.parametrize(
    "part",
    [
        {"config": None},
        {"config": {"channels": 16}},
        {"config": {**GOOD, "more": 1}},
        {"config": {**GOOD, "channels": "16"}},
        {"config": {**GOOD, "channels": -1}},
        {"config": {**GOOD, "cell": 0}},
        {"config": {**GOOD, "cell": 9}},
        {"config": {**GOOD, "overlap": 4}},
        {"config": {**GOOD, "blocks": 10**9}},
        {"config": {**GOOD, "blocks": True}},
        {"config": {**GOOD, "mirrored": 1}},
        {"config": {**GOOD, "mirrored": None}},
        {"config": {**GOOD, "channels": 32}},
        {"state_dict": None},
        {"state_dict": {}},
        {"state_dict": [torch.zeros(1)]},
        {"state_dict": {3: torch.zeros(1)}},
        {"metadata": "text"},
        {"format": "dsr-0"},
    ],
    ids=repr,
)
def test_spoilt_parts_are_refused(path: Path, part: dict[str, Any]) -> None:
    torch.save({**content(path), **part}, path)
    with pytest.raises(UserError, match=r"dsr\.pt|grid cell|an overlap"):
        load_dsr(path)


def test_a_network_too_large_for_memory_is_refused_before_it_is_built(path: Path) -> None:
    whole = content(path)
    torch.save({**whole, "config": {**whole["config"], "channels": 4096, "blocks": 4096}}, path)
    with pytest.raises(UserError, match=r"dsr\.pt does not fit its own configuration"):
        load_dsr(path)


def test_a_configuration_that_cannot_be_is_named_by_file(path: Path) -> None:
    whole = content(path)
    torch.save({**whole, "config": {**whole["config"], "cell": 9}}, path)
    with pytest.raises(UserError, match=r"dsr\.pt: a grid cell of 9 pixels"):
        load_dsr(path)
