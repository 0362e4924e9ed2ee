"""facial_rec.run_state: what a resumed training refuses. Each command's own tests run it end to end."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from facial_rec.distributed import joined_processes
from facial_rec.run_state import (
    check_run_folder,
    load_same_network,
    read_run_state,
    require_finite,
    require_same_settings,
    write_state,
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "last.pt"
    path.parent.mkdir()
    torch.save({"settings": {"seed": 0}, "model": nn.Linear(2, 3).state_dict()}, path)
    return path


def test_a_state_is_read_with_exactly_its_keys(state: Path) -> None:
    assert read_run_state(state, ("model", "settings"), "train_x")["settings"] == {"seed": 0}
    for keys in (("settings",), ("settings", "model", "step")):
        with pytest.raises(UserError, match=r"last\.pt is not a training state of train_x: give another --out"):
            read_run_state(state, keys, "train_x")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"last\.pt is not a readable weights file"):
        read_run_state(state, ("model", "settings"), "train_x")
    state.unlink()
    with pytest.raises(UserError, match=r"last\.pt is missing, so there is nothing to resume"):
        read_run_state(state, ("model", "settings"), "train_x")


def test_a_folder_is_fit_for_a_new_run_or_for_resuming(state: Path, tmp_path: Path) -> None:
    check_run_folder(tmp_path / "new", resume=False)
    check_run_folder(state.parent, resume=True)
    with pytest.raises(UserError, match="run already holds a run: add --resume"):
        check_run_folder(state.parent, resume=False)
    with pytest.raises(UserError, match=r"new/last\.json is missing, so there is nothing to resume"):
        check_run_folder(tmp_path / "new", resume=True, state="last.json")
    with pytest.raises(UserError, match=r"--out .*last\.pt is a file"):
        check_run_folder(state, resume=False)


def test_every_setting_that_differs_is_named(state: Path) -> None:
    require_same_settings(state, {"seed": 0, "gone": 1}, {"seed": 0})
    with pytest.raises(UserError, match=r"\(seed was 0, is now 1, new was None, is now 2\)"):
        require_same_settings(state, {"seed": 0, "same": 3}, {"seed": 1, "same": 3, "new": 2})


def test_only_the_same_network_is_loaded(state: Path) -> None:
    weights = read_run_state(state, ("model", "settings"), "train_x")["model"]
    network = nn.Linear(2, 3)
    load_same_network(state, network, weights)
    assert torch.equal(network.weight, weights["weight"])
    for other in (nn.Linear(2, 4), nn.Linear(2, 3, bias=False)):
        with pytest.raises(UserError, match=r"last\.pt holds another network: .* Use the code it was made with"):
            load_same_network(state, other, weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("-inf"))])
def test_what_is_not_finite_is_refused(value: float | torch.Tensor) -> None:
    require_finite("loss", torch.tensor(1.0), 0)
    with pytest.raises(UserError, match=r"the gradient became .* at step 7\. The last checkpoint is whole"):
        require_finite("gradient", value, 7)


@pytest.mark.parametrize(("name", "set_to"), [("cuda", []), ("cuda:1", [torch.device("cuda:1")])])
def test_alone_on_a_gpu_only_a_numbered_one_is_set(
    name: str, set_to: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.cuda.set_device raises for plain `cuda`, which is the current one anyway."""
    for variable in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    seen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    with joined_processes(torch.device(name)) as place:
        assert place.device == torch.device(name)
    assert seen == set_to


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(UserError, match="more processes than the 1 GPUs of this machine: torchrun --nproc_per_node=1"),
        joined_processes(torch.device("cuda")),
    ):
        pass


def test_a_run_from_before_validation_faces_were_saved_goes_on() -> None:
    require_same_settings(Path("last.pt"), {"seed": 0}, {"seed": 0, "validation_names_sha256": "a"})
    with pytest.raises(UserError, match="validation_names_sha256 was 'b', is now 'a'"):
        require_same_settings(Path("last.pt"), {"validation_names_sha256": "b"}, {"validation_names_sha256": "a"})


def test_a_state_that_finds_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"last\.pt cannot be written \(No space left on device\)"):
        write_state(tmp_path / "last.pt", {})
    assert list(tmp_path.iterdir()) == []
