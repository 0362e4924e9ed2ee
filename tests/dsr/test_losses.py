"""dsr.losses: every term against an independent formula, and the identity loss with a gradient that is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import lpips as lpips_package
import numpy as np
import pytest
import torch

from common.errors import UserError
from dsr.degradation import canonical_reduce
from dsr.losses import (
    PIXEL_LOSSES,
    DsrLoss,
    LpipsLoss,
    charbonnier_loss,
    embed_targets,
    identity_distance,
    identity_loss,
    l1_loss,
    lattice_texture_loss,
    psnr_loss,
    seam_loss,
    total_variation_loss,
)
from dsr.model import PRESETS, Dsr
from facial_rec.embedder import Embedder, load_embedder


@pytest.fixture
def output(faces: torch.Tensor) -> torch.Tensor:
    """Outputs of a network on `faces`: near them, and not clamped."""
    return faces + 0.1 * torch.randn(faces.shape)


def charbonnier(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.sqrt((x - y) ** 2 + 1e-6)))


def psnr_in_tens(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([np.log10(np.mean((a - b) ** 2) + 1e-8) for a, b in zip(x, y, strict=True)]))


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (charbonnier_loss, charbonnier),
        (l1_loss, lambda x, y: float(np.abs(x - y).mean())),
        (psnr_loss, psnr_in_tens),
    ],
)
def test_pixel_losses(
    output: torch.Tensor,
    faces: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    formula: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    assert float(loss(output, faces)) == pytest.approx(formula(output.double().numpy(), faces.double().numpy()), 1e-5)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_pixel_losses_have_a_gradient_where_images_are_equal(faces: torch.Tensor, name: str) -> None:
    output = faces.clone().requires_grad_(True)
    PIXEL_LOSSES[name](output, faces).backward()
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())


def test_total_variation(faces: torch.Tensor) -> None:
    x = faces.double().numpy()
    expected = np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()
    assert float(total_variation_loss(faces)) == pytest.approx(expected, 1e-5)
    assert float(total_variation_loss(torch.full_like(faces, 0.3))) == 0


def lattice_texture(images: np.ndarray, cell: int) -> float:
    """The same by numpy's FFT of every row and column."""
    grey, side = images.mean(1), images.shape[-1]
    excess = []
    for lines in (grey, grey.swapaxes(1, 2)):
        power = (np.abs(np.fft.rfft(lines, axis=-1)) ** 2).mean((0, 1))
        for k in range(side // cell, side // 2 - 3, side // cell):
            beside = (power[k - 3] + power[k - 2] + power[k + 2] + power[k + 3]) / 4
            excess.append(max(0.0, power[k] / beside - 1.0))
    return float(np.mean(excess))


def test_lattice_texture(output: torch.Tensor, faces: torch.Tensor) -> None:
    wave = torch.sin(torch.arange(112) * (2 * torch.pi / 3.5))
    for images in (output, faces, output + 0.1 * wave, output + 0.1 * wave[:, None]):
        expected = lattice_texture(images.double().numpy(), 7)
        assert float(lattice_texture_loss(images.double(), 7)) == pytest.approx(expected, rel=1e-9)
    assert float(lattice_texture_loss(output + 0.1 * wave, 7)) > 10 * float(lattice_texture_loss(output, 7))
    other = output + 0.1 * torch.sin(torch.arange(112) * (2 * torch.pi / 8.0))
    assert float(lattice_texture_loss(other, 7)) == pytest.approx(float(lattice_texture_loss(output, 7)), rel=0.2)


def test_lattice_texture_pushes_the_texture_down_and_nothing_else_up(output: torch.Tensor) -> None:
    wave = torch.sin(torch.arange(112) * (2 * torch.pi / 3.5))
    images = (output + 0.1 * wave).requires_grad_(True)
    lattice_texture_loss(images, 7).backward()
    assert images.grad is not None
    assert float((images.grad * wave).sum()) > 0  # descent takes the wave off
    spectrum = torch.fft.rfft(images.grad.mean(1), dim=-1).abs().mean((0, 1))
    assert float(spectrum[[28, 29, 30, 34, 35, 36]].max()) < 0.05 * float(spectrum[32])


def seam(images: np.ndarray, cell: int) -> float:
    """The same, border by border."""
    excess = []
    for axis in (2, 3):
        steps = np.abs(np.diff(images, axis=axis)).mean(tuple({0, 1, 2, 3} - {axis}))
        borders = [index for index in range(len(steps)) if (index + 1) % cell == 0]
        inside = np.delete(steps, borders)
        excess.append(max(0.0, steps[borders].mean() / inside.mean() - 1.0))
    return float(np.mean(excess))


def test_seams(output: torch.Tensor, faces: torch.Tensor) -> None:
    smooth = torch.nn.functional.avg_pool2d(faces, 5, 1, padding=2)
    across = (torch.arange(112) // 7 % 2) * 0.05
    for images in (output, smooth, smooth + across, smooth + across[:, None]):
        assert float(seam_loss(images, 7)) == pytest.approx(seam(images.double().numpy(), 7), rel=1e-4, abs=1e-6)
    assert float(seam_loss(smooth + across, 7)) > float(seam_loss(smooth, 7)) + 0.1
    images = (smooth + across).requires_grad_(True)
    seam_loss(images, 7).backward()
    assert images.grad is not None
    inside = torch.arange(112) % 7  # 0 and 6 are at a border
    assert float(images.grad.abs().sum((0, 1, 2))[(inside > 0) & (inside < 6)].max()) == 0.0
    assert float((images.grad * across).sum()) > 0


def test_identity_distance() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 8)), rng.normal(size=(5, 8))
    expected = [1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    found = identity_distance(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found.numpy(), expected)
    row = torch.randn(1, 8)
    torch.testing.assert_close(identity_distance(3 * row, row), torch.zeros(1))
    torch.testing.assert_close(identity_distance(-row, row), torch.full((1,), 2.0))


def test_identity_loss_is_the_mean_distance(embedder: Embedder, output: torch.Tensor, faces: torch.Tensor) -> None:
    a, b = (embedder(images).double().numpy() for images in (output, faces))
    expected = np.mean(1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    found = identity_loss(embedder, output, embed_targets(embedder, faces))
    assert float(found) == pytest.approx(expected, abs=1e-6)
    assert float(identity_loss(embedder, faces, embed_targets(embedder, faces))) == pytest.approx(0, abs=1e-6)


def test_identity_gradient_equals_finite_differences(
    embedder: Embedder, output: torch.Tensor, faces: torch.Tensor
) -> None:
    network, step = embedder.double(), 1e-5
    targets = embed_targets(network, faces[:1].double())
    images = output[:1].double().requires_grad_(True)
    analytic = torch.autograd.grad(identity_loss(network, images, targets), images)[0]
    for position in [(0, 0, 3, 5), (0, 1, 50, 60), (0, 2, 111, 0), (0, 0, 70, 70)]:
        nudge = torch.zeros_like(images)
        nudge[position] = step
        with torch.no_grad():
            ends = [float(identity_loss(network, images + sign * nudge, targets)) for sign in (1, -1)]
        assert float(analytic[position]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("kind", ["edgeface", "edgeface_script"])
def test_identity_loss_alone_trains_the_dsr_and_not_the_recogniser(
    kind: str, request: pytest.FixtureRequest, faces: torch.Tensor
) -> None:
    embedder = load_embedder(request.getfixturevalue(kind))
    frozen = {key: value.clone() for key, value in embedder.state_dict().items()}
    model = Dsr(PRESETS["tiny"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loss = DsrLoss(embedder, pixel_weight=0.0, identity_weight=1.0).train()
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1)
    low, losses = canonical_reduce(faces, 16), []
    for _ in range(4):
        total, parts = loss(model(low), faces)
        assert parts.keys() == {"identity"}
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    unchanged = [key for key, value in model.state_dict().items() if torch.equal(value, before[key])]
    assert unchanged == [], "every weight of the DSR moves"
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, frozen[key]) for key, value in embedder.state_dict().items())
    assert all(parameter.grad is None for parameter in embedder.parameters())


def test_both_kinds_of_embedder_give_the_dsr_one_gradient(
    edgeface: Path, edgeface_script: Path, faces: torch.Tensor
) -> None:
    gradients = []
    for path in (edgeface, edgeface_script):
        torch.manual_seed(0)
        model = Dsr(PRESETS["tiny"])
        total, _ = DsrLoss(load_embedder(path))(model(canonical_reduce(faces, 16)), faces)
        total.backward()
        gradients.append(model.last.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.filterwarnings("ignore::UserWarning")  # lpips calls torchvision in a deprecated way
def test_lpips_equals_the_package(alexnet: Path, output: torch.Tensor, faces: torch.Tensor) -> None:
    package = lpips_package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    weights = list(torch.load(alexnet, weights_only=True).values())
    convolutions = [layer for layer in package.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for index, layer in enumerate(convolutions):
            layer.weight.copy_(weights[2 * index])
            layer.bias.copy_(weights[2 * index + 1])
        expected = package(output * 2 - 1, faces * 2 - 1).mean()
    loss = LpipsLoss(alexnet)
    assert len(convolutions) == 5
    assert float(expected) > 0
    torch.testing.assert_close(loss(output, faces), expected)
    assert float(loss(faces, faces)) == 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_lpips_has_a_gradient_and_is_logged(
    alexnet: Path, embedder: Embedder, output: torch.Tensor, faces: torch.Tensor
) -> None:
    output.requires_grad_(True)
    total, parts = DsrLoss(embedder, pixel_weight=0, identity_weight=0, lpips=LpipsLoss(alexnet), lpips_weight=0.5)(
        output, faces
    )
    assert parts.keys() == {"lpips"}
    assert float(total.detach()) == pytest.approx(0.5 * float(parts["lpips"]))
    assert float(torch.autograd.grad(total, output)[0].abs().max()) > 0


@pytest.mark.parametrize("given", [None, Path("no.pth")])
def test_lpips_without_its_backbone_says_where_to_get_it(given: Path | None) -> None:
    with pytest.raises(UserError, match=r"is not here\. Download https://download\.pytorch\.org/models/alexnet-owt-"):
        LpipsLoss(given)


def test_lpips_refuses_another_file(alexnet: Path, edgeface: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.pt is not the backbone LPIPS wants: missing \['features\.0\.weight'"):
        LpipsLoss(edgeface)
    state = torch.load(alexnet, weights_only=True)
    torch.save({**state, "features.3.bias": torch.zeros(3)}, alexnet)
    with pytest.raises(UserError, match=r"other shapes \['features\.3\.bias'\]"):
        LpipsLoss(alexnet)
    torch.save({**state, "features.3.bias": "text"}, alexnet)
    with pytest.raises(UserError, match=r"other shapes \['features\.3\.bias'\]"):
        LpipsLoss(alexnet)
    torch.save({**state, "features.3.bias": state["features.3.bias"] * math.nan}, alexnet)
    with pytest.raises(UserError, match=r"NaN or infinite weights in features\.3\.bias: download it again"):
        LpipsLoss(alexnet)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth holds a list"):
        LpipsLoss(tmp_path / "list.pth")


class Untouchable(torch.nn.Module):
    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a term of weight 0 was computed")


def test_terms_of_weight_zero_are_not_computed(output: torch.Tensor, faces: torch.Tensor) -> None:
    total, parts = DsrLoss(Untouchable(), identity_weight=0.0)(output, faces)
    assert parts.keys() == {"pixel"}
    torch.testing.assert_close(total, charbonnier_loss(output, faces))


def test_total_is_the_weighted_sum(embedder: Embedder, output: torch.Tensor, faces: torch.Tensor) -> None:
    loss = DsrLoss(embedder, "l1", pixel_weight=2.0, identity_weight=0.5, tv_weight=0.1)
    total, parts = loss(output.requires_grad_(True), faces)
    assert list(parts) == ["pixel", "identity", "tv"]
    assert not any(part.requires_grad for part in parts.values())
    expected = 2 * l1_loss(output, faces) + 0.1 * total_variation_loss(output)
    expected = expected + 0.5 * identity_loss(embedder, output, embed_targets(embedder, faces))
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parts["pixel"], l1_loss(output, faces).detach())
    total, parts = DsrLoss(embedder, "l1", 2.0, 0.0, texture_weight=0.3, cell=14)(output, faces)
    assert list(parts) == ["pixel", "texture", "seam"]
    expected = 2 * l1_loss(output, faces) + 0.3 * (lattice_texture_loss(output, 14) + seam_loss(output, 14))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_two_embedders_see_every_other_face_each(
    embedder: Embedder, other_edgeface: Path, output: torch.Tensor, faces: torch.Tensor, count: int
) -> None:
    other = load_embedder(other_edgeface)
    shown, true = output[:count].requires_grad_(True), faces[:count]
    loss = DsrLoss(embedder, pixel_weight=0.0, identity_weight=1.0, second_embedder=other)
    total, _ = loss(shown, true)
    by_both = [identity_distance(network(shown), network(true)) for network in (embedder, other)]
    expected = [by_both[index % 2][index] for index in range(count)]
    torch.testing.assert_close(total, torch.stack(expected).mean())
    gradient = torch.autograd.grad(total, shown)[0]
    assert bool((gradient.flatten(1).abs().amax(dim=1) > 0).all()), "every face learns"


@pytest.mark.parametrize(
    ("share", "seen"), [(0.25, [3, 7]), (0.1, [9]), (0.75, [1, 2, 3, 5, 6, 7, 9]), (0.3, [3, 6, 9])]
)
def test_the_second_embedder_sees_its_share(
    embedder: Embedder, other_edgeface: Path, output: torch.Tensor, faces: torch.Tensor, share: float, seen: list[int]
) -> None:
    other = load_embedder(other_edgeface)
    shown, true = (images.repeat(10, 1, 1, 1)[:10] for images in (output, faces))
    loss = DsrLoss(embedder, pixel_weight=0.0, identity_weight=1.0, second_embedder=other, second_share=share)
    by_both = [identity_distance(network(shown), network(true)) for network in (embedder, other)]
    expected = torch.stack([by_both[index in seen][index] for index in range(10)]).mean()
    torch.testing.assert_close(loss(shown, true)[0], expected)


@pytest.mark.parametrize(("size", "factor"), [(8, 0.5**0.75), (16, 1.0), (32, 2**0.75), (64, 2**0.75)])
def test_identity_counts_more_for_larger_faces(
    embedder: Embedder, output: torch.Tensor, faces: torch.Tensor, size: int, factor: float
) -> None:
    loss = DsrLoss(embedder, "l1", 2.0, 0.5, identity_size_power=0.75)
    total, parts = loss(output, faces, size)
    torch.testing.assert_close(total, 2 * parts["pixel"] + 0.5 * factor * parts["identity"])
    torch.testing.assert_close(parts["identity"], DsrLoss(embedder)(output, faces)[1]["identity"])


def test_the_texture_is_measured_in_full_precision(output: torch.Tensor) -> None:
    exact = lattice_texture_loss(output, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lattice_texture_loss(output, 7), exact, rtol=1e-6, atol=0)


def test_nothing_to_train_is_refused(embedder: Embedder, faces: torch.Tensor) -> None:
    with pytest.raises(UserError, match="Every loss weight is 0"):
        DsrLoss(embedder, pixel_weight=0.0, identity_weight=0.0)(faces, faces)


def test_bad_settings_are_refused(embedder: Embedder) -> None:
    with pytest.raises(UserError, match="--pixel-loss l2 is unknown: expected one of charbonnier, l1, psnr"):
        DsrLoss(embedder, "l2")
    with pytest.raises(UserError, match="no LPIPS backbone was loaded: pass --lpips-backbone"):
        DsrLoss(embedder, lpips_weight=1.0)
