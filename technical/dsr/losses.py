"""What the generator is trained on: pixels, identity, LPIPS, total variation, traces of its cells; weighted and logged.

Every term takes images `(B, 3, 112, 112)`, RGB in [0, 1], not clamped, and gives a scalar.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.paths import find_weights
from facial_rec.weights import read_pickle

CHARBONNIER_EPSILON = 1e-3


def charbonnier_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean of `sqrt(d^2 + eps^2)`, a differentiable L1 (Lai et al. 2018, https://arxiv.org/abs/1710.01992, eq. 5)."""
    return ((output - target).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def l1_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (output - target).abs().mean()


def psnr_loss(output: Tensor, target: Tensor) -> Tensor:
    """Minus the mean PSNR, in units of 10 dB: mean over images of `log10(MSE + 1e-8)`.

    So one unit is a factor of ten in squared error, and every image counts alike however hard it is.
    """
    error = (output - target).square().mean(dim=(1, 2, 3))
    return torch.log10(error + 1e-8).mean()


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "charbonnier": charbonnier_loss,
    "l1": l1_loss,
    "psnr": psnr_loss,
}


def total_variation_loss(output: Tensor) -> Tensor:
    """Anisotropic total variation: mean absolute difference of neighbours, down plus across (Rudin et al. 1992)."""
    down = (output[..., 1:, :] - output[..., :-1, :]).abs().mean()
    across = (output[..., :, 1:] - output[..., :, :-1]).abs().mean()
    return down + across


def lattice_texture_loss(output: Tensor, cell: int) -> Tensor:
    """How much stronger a texture that the cells of a grid repeat is than what lies beside it: 0 where none shows.

    Of the grey rows and columns of `output` `(B, 3, H, W)`, both sides multiples of `cell`: the mean power at every
    harmonic of the cell's period, over the power two and three frequencies beside it, less 1, at least 0; the mean of
    these. What lies beside is a constant, so only the texture is pushed down. `dsr.quality.cell_pattern` measures the
    second harmonic.
    """
    with torch.autocast(output.device.type, enabled=False):  # a faint texture is lost in eight bits
        grey = output.mean(1)
        return (_lattice_excess(grey, cell) + _lattice_excess(grey.transpose(1, 2), cell)) / 2


def seam_loss(output: Tensor, cell: int) -> Tensor:
    """How much larger steps between neighbouring pixels are across the borders of cells than inside: 0 where none show.

    Of `output` `(B, 3, H, W)`, both sides multiples of `cell`: the mean step across a border over the mean step inside,
    less 1, at least 0; the mean of both directions. The steps inside are a constant. `dsr.quality.border_steps` adds
    up both directions before it divides.
    """
    return (_seam_excess(output, cell) + _seam_excess(output.transpose(2, 3), cell)) / 2


def _seam_excess(images: Tensor, cell: int) -> Tensor:
    steps = images.diff(dim=3).abs().mean((0, 1, 2))  # (W - 1,), step i from pixel i to i + 1
    across = steps[cell - 1 :: cell].mean()
    inside = (steps.sum() - steps[cell - 1 :: cell].sum()) / (len(steps) - len(steps) // cell)
    return F.relu(across / inside.detach().clamp(min=1e-6) - 1.0)


def _lattice_excess(lines: Tensor, cell: int) -> Tensor:
    side = lines.shape[-1]
    places = torch.arange(side, device=lines.device, dtype=lines.dtype)
    harmonics = torch.arange(side // cell, side // 2 - 3, side // cell, device=lines.device)  # cycles in a line

    def power(cycles: Tensor) -> Tensor:
        angles = (2 * math.pi / side) * torch.outer(places, cycles)
        return ((lines @ angles.cos()).square() + (lines @ angles.sin()).square()).mean((0, 1))

    beside = torch.stack([power(harmonics + step) for step in (-3, -2, 2, 3)]).mean(0).detach()
    return F.relu(power(harmonics) / beside.clamp(min=1e-12) - 1.0).mean()


def identity_distance(embeddings: Tensor, targets: Tensor) -> Tensor:
    """`1 - cos` of each pair of rows: two `(B, D)` -> `(B,)`, 0 for the same direction, 2 for the opposite one."""
    return 1.0 - F.cosine_similarity(embeddings, targets, dim=1, eps=1e-8)


def identity_loss(embedder: nn.Module, output: Tensor, target_embeddings: Tensor) -> Tensor:
    """Mean `1 - cos` between the frozen embedder's view of the output and of the true image.

    The embedder runs with gradients on, so they reach `output`; only `target_embeddings` `(B, D)`, those of the true
    images, are constants.
    """
    embeddings = embedder(output).to(output.dtype)  # in bfloat16 under autocast
    return identity_distance(embeddings, target_embeddings.detach().to(output.dtype)).mean()


@torch.no_grad()
def embed_targets(embedder: nn.Module, images: Tensor) -> Tensor:
    """Embeddings `(B, D)` of true images, as constants for `identity_loss`."""
    return embedder(images)


LPIPS_BACKBONE = {
    "alex": ("alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth"),
}


class LpipsLoss(nn.Module):
    """Learned perceptual distance (Zhang et al. 2018, https://arxiv.org/abs/1801.03924) by the `lpips` package.

    The package carries the linear heads; the ImageNet backbone is torchvision's file, which must be at hand: with a
    random backbone LPIPS measures nothing, so that is refused with a UserError saying where to get it.
    """

    def __init__(self, backbone_file: Path | None, net: str = "alex") -> None:
        super().__init__()
        name, address = LPIPS_BACKBONE[net]
        if backbone_file is None or not backbone_file.is_file():
            raise UserError(
                f"LPIPS needs torchvision's {net} weights, and {backbone_file or name} is not here. "
                f"Download {address}, put it in checkpoints/, and pass --lpips-backbone; or set --lpips-weight 0."
            )
        import lpips  # slow to import, and only needed when the term is on

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips still calls torchvision with `pretrained=`
            self.network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        _fill_lpips_backbone(self.network, backbone_file)
        self.requires_grad_(False)
        self.eval()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.distances(output, target).mean()

    def distances(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance of each image from its target, `(B,)`."""
        with torch.autocast(output.device.type, enabled=False):
            return self.network(output.float(), target.float(), normalize=True).flatten()


def find_lpips_backbone(given: Path | None = None, net: str = "alex") -> Path | None:
    """The backbone's file: the one given, else torchvision's name in `checkpoints/` or in torch's own download folder.

    None where there is none; UserError when the file given does not exist.
    """
    if given is not None and not given.is_file():
        raise UserError(f"{given} is missing: expected torchvision's {net} weights, from {LPIPS_BACKBONE[net][1]}.")
    name = LPIPS_BACKBONE[net][0]
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / name
    return given or find_weights(name) or (downloaded if downloaded.is_file() else None)


def _fill_lpips_backbone(network: nn.Module, path: Path) -> None:
    """Copy torchvision's `features.<i>.*` into lpips' slices, whose layers keep torchvision's index as their name."""
    state = read_pickle(path)
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, expected torchvision's state dict.")
    backbone = network.net
    assert isinstance(backbone, nn.Module)
    own = backbone.state_dict()
    wanted = {key: f"features.{key.split('.', 1)[1]}" for key in own}
    missing = [source for source in wanted.values() if source not in state]
    found = {key: state[source] for key, source in wanted.items() if source in state}
    misshapen = [wanted[key] for key, one in found.items() if getattr(one, "shape", None) != own[key].shape]
    if missing or misshapen:
        raise UserError(f"{path} is not the backbone LPIPS wants: missing {missing[:4]}, other shapes {misshapen[:4]}.")
    if broken := [wanted[key] for key, one in found.items() if not bool(one.isfinite().all())]:
        raise UserError(f"{path} holds NaN or infinite weights in {', '.join(broken[:4])}: download it again.")
    backbone.load_state_dict(found, strict=True)


class DsrLoss(nn.Module):
    """The weighted sum of the terms; those of weight 0 are not computed.

    Calling it gives `(total, parts)`, `parts` holding the unweighted terms by name as detached scalars. With a second
    embedder, each of the two sees every other face, or the second another share of them.
    """

    def __init__(
        self,
        embedder: nn.Module,
        pixel: str = "charbonnier",
        pixel_weight: float = 1.0,
        identity_weight: float = 0.60,
        lpips: LpipsLoss | None = None,
        lpips_weight: float = 0.0,
        tv_weight: float = 0.0,
        second_embedder: nn.Module | None = None,
        texture_weight: float = 0.0,
        cell: int = 7,
        second_share: float = 0.5,
        identity_size_power: float = 0.0,
    ) -> None:
        """`texture_weight` counts for the texture and the seams of cells of `cell` pixels, each a term of its own.

        `second_share`, above 0 and below 1, is the part of the faces that the second embedder sees, spread evenly over
        the batch. The identity loss of faces of n pixels counts (min(n, 32) / 16) to `identity_size_power`.
        """
        super().__init__()
        if pixel not in PIXEL_LOSSES:
            raise UserError(f"--pixel-loss {pixel} is unknown: expected one of {', '.join(PIXEL_LOSSES)}.")
        if lpips_weight > 0 and lpips is None:
            raise UserError("--lpips-weight is above 0 but no LPIPS backbone was loaded: pass --lpips-backbone.")
        self.embedders = nn.ModuleList([embedder] if second_embedder is None else [embedder, second_embedder])
        self.second_share = second_share
        self.identity_size_power = identity_size_power
        self.lpips = lpips
        self.pixel_name, self.pixel_loss = pixel, PIXEL_LOSSES[pixel]
        self.cell = cell
        self.weights = {"pixel": pixel_weight, "identity": identity_weight, "lpips": lpips_weight, "tv": tv_weight}
        self.weights |= {"texture": texture_weight, "seam": texture_weight}

    def forward(self, output: Tensor, target: Tensor, size: int = 16) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of restored faces `output` of `size` pixels and the true ones, both `(B, 3, 112, 112)`."""
        terms: dict[str, Tensor] = {}
        if self.weights["pixel"] > 0:
            terms["pixel"] = self.pixel_loss(output, target)
        if self.weights["identity"] > 0:
            terms["identity"] = self.identity(output, target)
        if self.weights["lpips"] > 0 and self.lpips is not None:
            terms["lpips"] = self.lpips(output, target)
        if self.weights["tv"] > 0:
            terms["tv"] = total_variation_loss(output)
        if self.weights["texture"] > 0:
            terms["texture"] = lattice_texture_loss(output, self.cell)
            terms["seam"] = seam_loss(output, self.cell)
        if not terms:
            raise UserError("Every loss weight is 0: nothing would be trained.")
        counts = self.weights | {
            "identity": self.weights["identity"] * (min(size, 32) / 16) ** self.identity_size_power
        }
        total = torch.stack([counts[name] * term for name, term in terms.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    def identity(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean identity loss of two batches `(B, 3, 112, 112)`, each face seen by one embedder."""
        if len(self.embedders) == 1:
            return identity_loss(self.embedders[0], output, embed_targets(self.embedders[0], target))
        places = torch.arange(len(output) + 1, dtype=torch.float64) * self.second_share
        by_second = (places + 1e-9).floor().diff() > 0  # of a half: the second, fourth, sixth ... face
        total = output.new_zeros(())
        for embedder, sees in zip(self.embedders, (~by_second, by_second), strict=True):
            seen, true = output[sees], target[sees]
            if len(seen):
                total = total + len(seen) * identity_loss(embedder, seen, embed_targets(embedder, true))
        return total / len(output)
