"""The parts of the chain in PyTorch, for `pipeline.benchmark`: eagerly and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor

from common.device import select_device
from dsr.degradation import bicubic_enlarge
from pipeline.benchmark_contenders import Call, Contender, Setting
from pipeline.benchmark_script import ready
from pipeline.export_graphs import Sources, load_sources, reference
from pipeline.model_metadata import Kind

Network = Callable[[Tensor], Tensor]


def opened(contender: Contender, setting: Setting) -> Call:
    """The network on its batch, without gradients. What compiling or running it raises, its first call raises."""
    device = select_device(setting.device)
    return ready(_network(contender, setting, device), contender, setting.threads, device)


def _network(contender: Contender, setting: Setting, device: torch.device) -> Network:
    if contender.part == "bicubic":
        return bicubic_enlarge
    kind = cast(Kind, contender.part)
    network = reference(kind, _sources(setting.files.edgeface, setting.files.dsr, device))
    return torch.compile(network, dynamic=False) if contender.runtime == "compile" else network


@cache
def _sources(edgeface: str, dsr: str, device: torch.device) -> Sources:
    """One copy of the weights for all contenders."""
    sources = load_sources("chain", edgeface, dsr)
    sources.recogniser().to(device)
    sources.upscaler().to(device)
    return sources
