"""A frozen EdgeFace from any file: the network the identity loss looks through, and the one that recognises.

Frozen means that its weights never change, not that gradients stop at it: the gradient with respect to the input is
what trains the super-resolution network, so no `no_grad` stands here.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.shipped import weights_sha256
from facial_rec.download import edgeface_file
from facial_rec.edgeface import EMBEDDING_DIM, INPUT_SIZE, normalise
from facial_rec.weights import first_sentence, load_strictly, read_state, recognise


@dataclass(frozen=True)
class Source:
    """Where an embedder's weights came from."""

    path: Path
    sha256: str
    kind: str
    """`torchscript` or `state_dict`."""
    variant: str
    """The published name where the keys tell it, else `unknown`."""


class Embedder(nn.Module):
    """A frozen recogniser: `(B, 3, 112, 112)` RGB in [0, 1] -> `(B, 512)` embeddings, differentiable in the images.

    Always in evaluation mode; its parameters take no gradient. Raises UserError for a batch of another shape.
    """

    def __init__(self, network: nn.Module, source: Source) -> None:
        super().__init__()
        self.network = network
        self.source = source
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Embedder:
        """Stay in evaluation mode whatever the model around it does."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, INPUT_SIZE, INPUT_SIZE):
            raise UserError(
                f"EdgeFace takes images of shape (B, 3, {INPUT_SIZE}, {INPUT_SIZE}), found {tuple(images.shape)}."
            )
        return self.network(normalise(images))


def load_embedder(weights: str | Path, device: torch.device | str = "cpu", allow_download: bool = True) -> Embedder:
    """A frozen EdgeFace from a TorchScript file, a float or dynamic-int8 state dict, or a fine-tuned `.pth`.

    A name without a folder is looked up in `checkpoints/`; a published name that is not there is downloaded from the
    authors. TorchScript is tried first. Raises UserError when the file is missing, damaged, holds code, or when any key
    differs from the architecture that its keys name.
    """
    path = edgeface_file(weights, allow_download)
    sha256 = weights_sha256(path)  # before the reading: of a damaged file it says more
    print(f"[EdgeFace] Attempting TorchScript load from {weights}")
    try:
        network, variant = _load_torchscript(path), "unknown"
    except RuntimeError as error:
        print(f"[EdgeFace] TorchScript load failed: {first_sentence(error)}")
        print("[EdgeFace] Falling back to EdgeFace architecture loading")
        state = read_state(path)
        variant, network = recognise(state, path)
        load_strictly(network, state, path)
        print(f"[EdgeFace] Loaded fine-tuned backbone weights ({variant}, all {len(state)} keys match)")
        kind = "state_dict"
    else:
        variant = _variant_of_script(network)
        print("[EdgeFace] Successfully loaded as TorchScript model")
        kind = "torchscript"
    embedder = Embedder(network, Source(path, sha256, kind, variant))
    return embedder.to(device)


def _load_torchscript(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; the files users have are TorchScript
        return torch.jit.load(str(path), map_location="cpu")


def _variant_of_script(network: nn.Module) -> str:
    try:
        state = {key if key.startswith("model.") else f"model.{key}": v for key, v in network.state_dict().items()}
        return recognise(state, Path("TorchScript"))[0]
    except (UserError, RuntimeError):
        return "unknown"  # a traced or fused file may have lost its names; it still computes


def check_gradient(embedder: Embedder, device: torch.device | str = "cpu") -> None:
    """Send one batch backwards through the embedder; refuse it when the images get no gradient.

    A dynamic-int8 TorchScript module computes embeddings and silently gives a zero or absent input gradient: an
    identity loss on it trains nothing. Raises UserError naming the command that makes a usable file.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, INPUT_SIZE, INPUT_SIZE, generator=generator).to(device).requires_grad_(True)
    path = embedder.source.path
    cure = f"Make a float one: python -m facial_rec.export --edgeface {path} --out {path.stem}_float.pt"
    try:
        embeddings = embedder(images)
    except RuntimeError as error:
        raise UserError(f"{path} does not run on {device} ({first_sentence(error)}). {cure}") from error
    shape = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
    if shape != (len(images), EMBEDDING_DIM):
        raise UserError(f"{path} gives for {len(images)} images {shape}, expected ({len(images)}, {EMBEDDING_DIM}).")
    gradient = None
    if embeddings.requires_grad:
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the int8 layers that are refused below
            gradient = torch.autograd.grad(embeddings.square().sum(), images, allow_unused=True)[0]
    if gradient is not None and not bool(gradient.isfinite().all()):
        raise UserError(f"{path} gives a NaN or infinite gradient for an ordinary image. Use another weights file.")
    if gradient is None or not bool(gradient.abs().max() > 0):
        found = "none" if gradient is None else "zero"
        raise UserError(
            f"{path} gives its input no gradient (found: {found}), so an identity loss through it would train nothing. "
            f"It is probably quantised to int8 or exported under no_grad. {cure}"
        )
