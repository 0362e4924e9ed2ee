"""common.device: a device that is not there is refused, naming the one that is."""

from __future__ import annotations

import pytest
import torch

from common.device import Precision, in_bf16, select_device
from common.errors import UserError


def test_cpu() -> None:
    assert select_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("bf16", "cpu", True), ("fp32", "cuda", False)],
)
def test_precision(precision: Precision, device: str, expected: bool) -> None:
    assert in_bf16(precision, torch.device(device)) is expected


def test_cuda_without_cuda_names_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device cuda was asked for.*--device cpu"):
        select_device("cuda")


def test_a_cuda_number_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert select_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(UserError, match=r"--device cuda:1: this machine has 1 CUDA"):
        select_device("cuda:1")


def test_mps_without_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="no Metal device"):
        select_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_an_unknown_device(name: str) -> None:
    with pytest.raises(UserError, match="not a device torch knows"):
        select_device(name)


def test_a_device_torch_knows_and_we_do_not() -> None:
    with pytest.raises(UserError, match="not supported"):
        select_device("meta")


def test_cuda_computes(cuda: str) -> None:
    assert torch.ones(2, device=select_device(cuda)).sum().item() == 2
