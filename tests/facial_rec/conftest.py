"""A tiny EdgeFace with random weights, in every kind of file that the loaders read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facial_rec.edgeface import EdgeFace, get_model


@pytest.fixture
def tiny() -> EdgeFace:
    """Layer scales start near zero, which would hide most of the network from a comparison: here they are not."""
    torch.manual_seed(0)
    model = get_model("edgeface_tiny").eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.1, 0.5)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    """Two images in [0, 1]."""
    return torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def quantise() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """A copy with dynamically quantised linear layers, as the authors make their `_q` files."""

    def quantised(model: torch.nn.Module) -> torch.nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, and still how the authors publish
            return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    return quantised


@pytest.fixture
def script() -> Callable[[torch.nn.Module, Path], Path]:
    """Writes a module as TorchScript."""

    def scripted(model: torch.nn.Module, path: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; the files users have are TorchScript
            torch.jit.save(torch.jit.script(model), path)
        return path

    return scripted


@pytest.fixture
def int8(tiny: EdgeFace, quantise: Callable[[torch.nn.Module], torch.nn.Module]) -> torch.nn.Module:
    return quantise(tiny)


@pytest.fixture
def float_file(tiny: EdgeFace, tmp_path: Path) -> Path:
    path = tmp_path / "float.pt"
    torch.save(tiny.state_dict(), path)
    return path


@pytest.fixture
def int8_file(int8: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "int8.pt"
    torch.save(int8.state_dict(), path)
    return path


@pytest.fixture
def script_file(tiny: EdgeFace, tmp_path: Path, script: Callable[[torch.nn.Module, Path], Path]) -> Path:
    return script(tiny, tmp_path / "script.pt")


@pytest.fixture
def int8_script_file(int8: torch.nn.Module, tmp_path: Path, script: Callable[[torch.nn.Module, Path], Path]) -> Path:
    return script(int8, tmp_path / "int8_script.pt")
