"""Exported TorchScripts, for `pipeline.benchmark`. Of PyTorch, only torch itself is imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from common.device import select_device
from pipeline.benchmark_contenders import Call, Contender, Setting, as_input


def opened(contender: Contender, setting: Setting) -> Call:
    """The TorchScript on its batch, without gradients. What a device lacks, its first call raises."""
    device = select_device(setting.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; it is one of the runtimes compared
        network = torch.jit.load(setting.files.script(contender.part), map_location=device)
    return ready(network, contender, setting.threads, device)


def ready(network: Callable[[Tensor], Tensor], contender: Contender, threads: int, device: torch.device) -> Call:
    """`network` on the contender's batch, on `device`."""
    torch.set_num_threads(threads)
    images = torch.from_numpy(as_input(contender)).to(device)

    def call() -> Tensor:
        with torch.no_grad():
            return network(images)

    return call
