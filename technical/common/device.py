"""Choosing the device to compute on. The only plumbing that imports torch."""

from __future__ import annotations

from typing import Literal

import torch

from common.errors import UserError

Precision = Literal["auto", "bf16", "fp32"]


def in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether networks are to compute in bfloat16 while they train (`torch.autocast`): `auto` does on CUDA only.

    Processors with AVX512-BF16 or AMX are faster in it too; others are slower.
    """
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def select_device(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps` as a torch device. Raises UserError for one that is unknown or absent here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name} is not a device torch knows: use --device cpu or --device cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name} was asked for, but torch finds no CUDA here: use --device cpu.")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA device(s), counted from 0."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps was asked for, but torch finds no Metal device here: use --device cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name} is not supported: use --device cpu or --device cuda.")
    return device
