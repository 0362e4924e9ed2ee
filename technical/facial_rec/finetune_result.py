"""What a fine-tuning leaves: the chosen mixture with the original as state dict, readable metadata and TorchScript."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import sha256_of, write_json, write_with
from facial_rec.edgeface import EMBEDDING_DIM, EdgeFace, count_parameters
from facial_rec.export import save_torchscript
from facial_rec.finetune_validation import Guard, Report, Verification, score, summary
from facial_rec.weight_average import interpolate

NAME = "edgeface_finetuned"


@dataclass(frozen=True)
class Mixture:
    """`(1 - alpha) original + alpha tuned`, and how it does on the validation people."""

    alpha: float
    state: dict[str, Tensor]
    report: Report


def choose_mixture(
    original: EdgeFace,
    tuned: Mapping[str, Tensor],
    alphas: Sequence[float],
    verification: Verification,
    guard: Guard,
) -> tuple[Mixture | None, list[Mixture]]:
    """The best mixture that the guard admits (of equal ones the closest to the original), and all that were tried."""
    tried: list[Mixture] = []
    best: Mixture | None = None
    before = {key: value.detach().cpu() for key, value in original.state_dict().items()}
    for alpha in sorted(alphas):
        state = interpolate(before, tuned, alpha)
        tried.append(Mixture(alpha, state, verification.run(on_device(original, state, verification.device))))
        if guard.better(tried[-1].report, best.report if best else None):
            best = tried[-1]
    return best, tried


def save_mixture(
    out: Path,
    original: EdgeFace,
    tuned: Mapping[str, Tensor],
    alphas: Sequence[float],
    verification: Verification,
    guard: Guard,
    metadata: Callable[[float, Report], dict[str, Any]],
) -> tuple[Path, Mixture]:
    """Try the mixtures, print them, and write the best in all its forms; return its state dict's path, and itself.

    `metadata(alpha, report)` is what its files say of the run. Raises UserError when the guard admits none.
    """
    best, tried = choose_mixture(original, tuned, alphas, verification, guard)
    for mixture in tried:
        print(f"    alpha {mixture.alpha:.2f}: {summary(mixture.report)}")
    if best is None:
        raise UserError(
            f"every mixture loses more than {guard.most} of HR-HR on the validation people: nothing is kept. "
            "Train again in another --out, with a lower --learning-rate, a higher --hr-weight, smaller --alphas or a "
            "larger --hr-drop."
        )
    tries = [
        {"alpha": m.alpha, "score": score(m.report), "hr_loss": guard.loss(m.report), "validation": m.report}
        for m in tried
    ]
    described = {**metadata(best.alpha, best.report), "mixtures": tries}
    path = save_result(out, original, best.state, described)
    save_script(out, original, best.state, described)
    return path, best


def on_device(like: EdgeFace, state: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """A network like `like` with the weights `state`, in evaluation mode, on `device`."""
    network = copy.deepcopy(like)
    network.load_state_dict(dict(state), strict=True)
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def save_result(out: Path, like: EdgeFace, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write `edgeface_finetuned.pth`, a plain state dict, and beside it `.json` with `metadata`; return the first."""
    path = out / f"{NAME}.pth"
    plain = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    if broken := [key for key, value in plain.items() if not bool(value.isfinite().all())]:
        raise UserError(f"the fine-tuned weights are NaN or infinite in {', '.join(broken[:4])}: not written.")

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # by name, torch would write that name inside: another sha256 every time
            torch.save(plain, file)

    write_with(path, write)
    described = {"file": path.name, "sha256": sha256_of(path), **describe(like), **metadata}
    write_json(path.with_suffix(".json"), described)
    return path


def save_script(out: Path, like: EdgeFace, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write the same weights as TorchScript, `edgeface_finetuned.pt`, compared with the network before it is kept."""
    path = out / f"{NAME}.pt"
    network = copy.deepcopy(like)
    network.load_state_dict(dict(state), strict=True)
    save_torchscript(network.eval().requires_grad_(False), path, {**describe(like), **metadata})
    return path


def describe(network: EdgeFace) -> dict[str, Any]:
    """What every file says of the network."""
    return {
        "parameters": count_parameters(network),
        "input": "RGB (B, 3, 112, 112), x * 2 - 1 for x in [0, 1]",
        "output": f"(B, {EMBEDDING_DIM}), compare with cosine similarity",
        "licence": "derived from the weights of EdgeFace's authors: CC BY-NC-SA 4.0, research use",
    }
