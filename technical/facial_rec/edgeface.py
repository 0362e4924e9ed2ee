"""EdgeFace: EdgeNeXt backbones that embed a face in 512 dimensions, optionally with low-rank linear layers.

A. George, C. Ecabert, H. Otroshi Shahreza, K. Kotwal, S. Marcel, "EdgeFace: Efficient Face Recognition Model for Edge
Devices", IEEE T-BIOM 2024, https://arxiv.org/abs/2307.01838. The backbone is timm's EdgeNeXt
(https://arxiv.org/abs/2206.10589); state-dict keys are timm's under `model.`, as in the authors' files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import timm.models.edgenext as timm_edgenext
import torch
from torch import Tensor, nn

from common.errors import UserError

EMBEDDING_DIM = 512
INPUT_SIZE = 112


@dataclass(frozen=True)
class Variant:
    """One EdgeNeXt size with its rank ratio."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    gamma: float = 1.0
    """Rank ratio of every linear layer; 1.0 keeps plain ones."""
    quantised: bool = False
    """Whether the authors publish this name as a dynamic-int8 state dict."""


_XXS = Variant(dims=(24, 48, 88, 168), depths=(2, 2, 6, 2), heads=(4, 4, 4, 4))
_XS = Variant(dims=(32, 64, 100, 192), depths=(3, 3, 9, 3), heads=(4, 4, 4, 4))
_S = Variant(dims=(48, 96, 160, 304), depths=(3, 3, 9, 3), heads=(8, 8, 8, 8))
_BASE = Variant(dims=(80, 160, 288, 584), depths=(3, 3, 9, 3), heads=(8, 8, 8, 8))


def _with(size: Variant, gamma: float = 1.0, quantised: bool = False) -> Variant:
    return Variant(size.dims, size.depths, size.heads, gamma, quantised)


VARIANTS: dict[str, Variant] = {
    "edgeface_base": _BASE,
    "edgeface_s_gamma_05": _with(_S, gamma=0.5),
    "edgeface_xs_gamma_06": _with(_XS, gamma=0.6),
    "edgeface_xs_q": _with(_XS, quantised=True),
    "edgeface_xxs": _XXS,
    "edgeface_xxs_q": _with(_XXS, quantised=True),
    # Not published: small enough to train in a minute, for the demo and the tests.
    "edgeface_tiny": Variant(dims=(16, 32, 48, 64), depths=(1, 2, 2, 2), heads=(4, 4, 4, 4)),
}


# The sizes by themselves: any of them can be trained with any rank ratio.
SIZES: dict[str, Variant] = {"edgeface_xxs": _XXS, "edgeface_xs": _XS, "edgeface_s": _S, "edgeface_base": _BASE}


def variant_named(name: str, gamma: float | None = None) -> Variant:
    """A published variant or a size by its name, with the rank ratio `gamma` if one is given.

    >>> variant_named("edgeface_s", gamma=0.5) == VARIANTS["edgeface_s_gamma_05"]
    True

    Raises UserError for an unknown name and a ratio outside (0, 1].
    """
    variant = VARIANTS.get(name) or SIZES.get(name)
    if variant is None:
        raise UserError(f"'{name}' is not an EdgeFace variant: expected one of {', '.join({**VARIANTS, **SIZES})}.")
    if gamma is None:
        return variant
    if not 0.0 < gamma <= 1.0:
        raise UserError(f"--gamma {gamma:g}: expected a rank ratio above 0, up to 1 (plain linear layers).")
    return replace(variant, gamma=gamma)


class LoRaLin(nn.Module):
    """A linear layer of rank r: `x -> linear2(linear1(x))`, the first without bias (EdgeFace, section III-B).

    Shapes: `(..., in_features)` -> `(..., out_features)`.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.linear1 = nn.Linear(in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x))


def low_rank(in_features: int, out_features: int, gamma: float) -> int:
    """Rank of the LoRaLin that replaces a linear layer: `max(2, int(min(in, out) * gamma))`."""
    return max(2, int(min(in_features, out_features) * gamma))


def replace_linears(module: nn.Module, ranks: dict[str, int]) -> None:
    """Replace the named linear layers by fresh LoRaLin ones of the given ranks, in place.

    `ranks` maps dotted names below `module` to ranks. Raises KeyError-free UserError for a name that is no Linear.
    """
    modules = dict(module.named_modules())
    for name, rank in ranks.items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            raise UserError(f"'{name}' is not a linear layer of this EdgeNeXt, so it cannot be of low rank.")
        parent, _, child = name.rpartition(".")
        lora = LoRaLin(linear.in_features, linear.out_features, rank, linear.bias is not None)
        setattr(modules[parent], child, lora)


def linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer of the backbone by dotted name, `head.fc` included."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}


class EdgeFace(nn.Module):
    """The recogniser with the authors' calling convention.

    `(B, 3, 112, 112)` RGB, normalised to [-1, 1] (see `normalise`) -> `(B, 512)` embeddings of any length; compare them
    with cosine similarity.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.model = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def normalise(images: Tensor) -> Tensor:
    """RGB in [0, 1] to EdgeFace's input range [-1, 1] (mean = std = 0.5)."""
    return images * 2.0 - 1.0


def build(variant: Variant, ranks: dict[str, int] | None = None) -> EdgeFace:
    """An EdgeFace with random weights; `ranks` (by layer name) overrules the variant's gamma."""
    backbone = timm_edgenext.EdgeNeXt(
        dims=variant.dims, depths=variant.depths, heads=variant.heads, num_classes=EMBEDDING_DIM
    )
    if ranks is None and variant.gamma < 1.0:
        layers = linear_layers(backbone).items()
        ranks = {name: low_rank(layer.in_features, layer.out_features, variant.gamma) for name, layer in layers}
    replace_linears(backbone, ranks or {})
    return EdgeFace(backbone)


def get_model(name: str) -> EdgeFace:
    """A published EdgeFace architecture, or a size, by name, with random weights, in float.

    >>> sum(p.numel() for p in get_model("edgeface_xxs").parameters())
    1244744

    Raises UserError for an unknown name.
    """
    return build(variant_named(name))


class FixedPositions(nn.Module):
    """timm's position encoding of a feature map, computed for one image and kept, instead of for every image anew.

    `(B, H, W)` -> `(B, C, H, W)`, with the parameters, the keys and the values of the module it stands in for. Once a
    size was seen it copies nothing from CPU, which a captured CUDA graph needs.
    """

    def __init__(self, positions: timm_edgenext.PositionalEncodingFourier) -> None:
        super().__init__()
        self.token_projection = positions.token_projection
        self._replaced = (positions,)  # in a tuple, so that it is no part of this module
        self._waves: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, shape: tuple[int, int, int]) -> Tensor:
        count, height, width = shape
        key = (height, width, self.token_projection.weight.device)
        if key not in self._waves:
            self._waves[key] = self._waves_of(height, width)
        encoding: Tensor = self.token_projection(self._waves[key])
        return encoding.expand(count, -1, -1, -1)

    def _waves_of(self, height: int, width: int) -> Tensor:
        """What timm's module hands to its projection, `(1, D, H, W)`."""
        seen: list[Tensor] = []
        hook = self.token_projection.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        self._replaced[0]((1, height, width))
        hook.remove()
        return seen[0].detach()


def fix_positions(network: nn.Module) -> None:
    """Let every position encoding in `network` be a `FixedPositions`, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, timm_edgenext.PositionalEncodingFourier):
                setattr(module, name, FixedPositions(child))


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def same_shapes(model: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether `state` has exactly the keys and shapes of `model`."""
    own = model.state_dict()
    return own.keys() == state.keys() and all(own[key].shape == torch.Size(state[key].shape) for key in own)
