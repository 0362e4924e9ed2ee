"""Made-up faces and a tiny recogniser with random weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from common.images import RgbImage, write_png
from facial_rec.edgeface import EdgeFace, get_model
from facial_rec.embedder import Embedder, load_embedder

PEOPLE, PHOTOS = 6, 4


def made_face(person: int, photo: int) -> RgbImage:
    """A coarse pattern that is the person's, with fine noise that is the photo's."""
    pattern = np.random.default_rng(person).integers(30, 220, (14, 14, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 15, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per identity: p0 to p5 with four photos each. Shared by all tests: nobody writes into it."""
    root = tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        for photo in range(PHOTOS):
            write_png(root / f"p{person}" / f"{photo}.png", made_face(person, photo))
    return root


@pytest.fixture
def faces() -> torch.Tensor:
    """Four faces `(4, 3, 112, 112)` in [0, 1]."""
    pixels = np.stack([made_face(person, 0) for person in range(4)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _tiny_edgeface(path: Path, seed: int) -> Path:
    """A tiny EdgeFace as state dict, its layer scales not near zero, so that every layer has a say."""
    torch.manual_seed(seed)
    model = get_model("edgeface_tiny").eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.1, 0.5)
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def edgeface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny EdgeFace, a state dict."""
    return _tiny_edgeface(tmp_path_factory.mktemp("weights") / "tiny.pt", 0)


@pytest.fixture(scope="session")
def other_edgeface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return _tiny_edgeface(tmp_path_factory.mktemp("weights") / "other.pt", 1)


@pytest.fixture(scope="session")
def edgeface_script(edgeface: Path) -> Path:
    """The same as TorchScript."""
    return _scripted(_network(edgeface), edgeface.with_name("script.pt"))


@pytest.fixture(scope="session")
def edgeface_int8_script(edgeface: Path) -> Path:
    """The same as dynamic-int8 TorchScript, which has no gradient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what users have
        quantised = torch.ao.quantization.quantize_dynamic(_network(edgeface), {torch.nn.Linear}, dtype=torch.qint8)
    return _scripted(quantised, edgeface.with_name("int8_script.pt"))


@pytest.fixture
def embedder(edgeface: Path) -> Embedder:
    return load_embedder(edgeface)


def _network(path: Path) -> EdgeFace:
    model = get_model("edgeface_tiny")
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def _scripted(model: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; the files users have are TorchScript
        torch.jit.save(torch.jit.script(model), path)
    return path


@pytest.fixture
def alexnet(tmp_path: Path) -> Path:
    """Torchvision's state dict of an AlexNet with random weights, under the names of its published file."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in torchvision.models.alexnet().state_dict().items()}
    features = {key: torch.randn(shape) * 0.05 for key, shape in shapes.items() if key.startswith("features.")}
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    torch.save(features, path)
    return path
