"""A tiny EdgeFace with random weights, in every kind of file that the loaders read; and made-up faces."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.images import RgbImage, write_png
from facial_rec.edgeface import EdgeFace, get_model


def made_face(person: int, photo: int, size: int = 112) -> RgbImage:
    """A coarse pattern that is the person's, with noise that is the photo's; smaller ones are cut out of it."""
    pattern = np.random.default_rng(person).integers(30, 220, (7, 7, 3)).repeat(16, 0).repeat(16, 1)
    noise = np.random.default_rng(1000 * person + photo).normal(0, 12, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)[:size, :size]


@pytest.fixture(scope="session")
def face() -> Callable[..., RgbImage]:
    return made_face


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder per identity: P0 to P5 with three photos each, `P0/P0_0001.png`."""
    root = tmp_path / "people"
    for person in range(6):
        for photo in (1, 2, 3):
            write_png(root / f"P{person}" / f"P{person}_{photo:04d}.png", made_face(person, photo))
    return root


@pytest.fixture(scope="session")
def training_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train`: p0 to p3 with four photos each; `val`: p4 to p6 with two. Shared by all tests: nobody writes into it."""
    root = tmp_path_factory.mktemp("faces")
    for person in range(7):
        folder, photos = ("train", 4) if person < 4 else ("val", 2)
        for photo in range(photos):
            write_png(root / folder / f"p{person}" / f"{photo}.png", made_face(person, photo))
    return root


def _worker(rank: int, world: int, port: int, work: Callable[[], Any], answer: Connection) -> None:
    place = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({**{name: str(value) for name, value in place.items()}, "GLOO_SOCKET_IFNAME": "lo"})
    torch.set_num_threads(1)  # those of the process that was forked are not here: waiting for them may never end
    answer.send(work())


@pytest.fixture
def in_processes() -> Callable[[Callable[[], Any], int], list[Any]]:
    """Runs a function in several processes, in an environment as torchrun's; gives what each returned, by rank.

    Forked, so that they start at once.
    """

    def run(work: Callable[[], Any], world: int) -> list[Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("fork")
        processes, answers = [], []
        for rank in range(world):
            receiver, sender = context.Pipe(duplex=False)
            processes.append(context.Process(target=_worker, args=(rank, world, port, work, sender)))
            processes[-1].start()
            sender.close()
            answers.append(receiver)
        found = []
        for rank, receiver in enumerate(answers):
            with contextlib.suppress(EOFError):
                found.append(receiver.recv())
            processes[rank].join()
        assert len(found) == world, "a process failed: its error stands above"
        return found

    return run


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
