"""EdgeFace by name, for `torch.hub.load("<repository or folder>", "edgeface_xxs", source=…)`.

Every entry point returns the network with the authors' convention: RGB `(B, 3, 112, 112)` normalised to [-1, 1]
(`x * 2 - 1`) -> embeddings `(B, 512)`, compared with cosine similarity. With `pretrained=True` (the default) it has the
authors' weights, from checkpoints/ or from their address; `edgeface_xxs_dsr` has those fine-tuned here. All are
CC BY-NC-SA 4.0, research use.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "technical"))

from common.errors import UserError
from common.paths import find_weights
from common.shipped import restoring
from facial_rec.download import download_weights
from facial_rec.edgeface import EdgeFace, get_model
from facial_rec.weights import load_strictly, read_edgeface_state

dependencies = ["torch", "timm"]


def edgeface_base(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-Base, 18.23 M parameters."""
    return _edgeface("edgeface_base", pretrained)


def edgeface_s_gamma_05(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-S, linear layers of rank ratio 0.5, 3.65 M parameters."""
    return _edgeface("edgeface_s_gamma_05", pretrained)


def edgeface_xs_gamma_06(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-XS, linear layers of rank ratio 0.6, 1.77 M parameters."""
    return _edgeface("edgeface_xs_gamma_06", pretrained)


def edgeface_xs_q(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-XS published in int8, here turned to float, 2.24 M parameters."""
    return _edgeface("edgeface_xs_q", pretrained)


def edgeface_xxs(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-XXS, 1.24 M parameters."""
    return _edgeface("edgeface_xxs", pretrained)


def edgeface_xxs_q(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-XXS published in int8, here turned to float, 1.24 M parameters."""
    return _edgeface("edgeface_xxs_q", pretrained)


def edgeface_xxs_dsr(pretrained: bool = True) -> EdgeFace:
    """EdgeFace-XXS fine-tuned on what the DSR makes of small faces, 1.24 M parameters."""
    return _edgeface("edgeface_xxs", pretrained, "edgeface_xxs_dsr.pth")


def _edgeface(name: str, pretrained: bool, file: str | None = None) -> EdgeFace:
    model = get_model(name)
    if pretrained:
        file = file or f"{name}.pt"
        path = find_weights(file) or download_weights(file)
        if path is None:
            raise UserError(f"{file} is missing from checkpoints/, and no address is known for it.{restoring(file)}")
        load_strictly(model, read_edgeface_state(path), path)
    return model.eval()
