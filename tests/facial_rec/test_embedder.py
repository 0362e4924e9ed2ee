"""facial_rec.embedder and .download: one frozen embedder from any file, with a gradient, or a refusal that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.files import sha256_of
from facial_rec import download, export
from facial_rec.download import download_weights, verify_download
from facial_rec.edgeface import EdgeFace, get_model
from facial_rec.embedder import Embedder, Source, check_gradient, load_embedder
from facial_rec.finetune_student import load_start, load_teacher

Script = Callable[[torch.nn.Module, Path], Path]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, so that no file of the repository is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.paths.REPOSITORY_ROOT", tmp_path / "repository")
    return tmp_path


def gradient(network: Embedder, images: torch.Tensor) -> torch.Tensor:
    """What an identity loss would send to the images."""
    images = images.clone().requires_grad_(True)
    return torch.autograd.grad(network(images)[:, 0].sum(), images)[0]


def test_torchscript_says_so(script_file: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script_file.rename(here / "edgeface_xxs.pt")
    network = load_embedder("edgeface_xxs.pt")
    assert capsys.readouterr().out == (
        "[EdgeFace] Attempting TorchScript load from edgeface_xxs.pt\n"
        "[EdgeFace] Successfully loaded as TorchScript model\n"
    )
    assert network.source.kind == "torchscript"
    assert network.source.variant == "edgeface_tiny"
    assert network.source.sha256 == sha256_of(here / "edgeface_xxs.pt")


@pytest.mark.parametrize("kind", ["float_file", "int8_file"])
def test_state_dict_says_so(kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    path = request.getfixturevalue(kind)
    network = load_embedder(path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"[EdgeFace] Attempting TorchScript load from {path}"
    assert lines[1].startswith("[EdgeFace] TorchScript load failed: ")
    assert len(lines[1]) > len("[EdgeFace] TorchScript load failed: ")
    assert lines[2] == "[EdgeFace] Falling back to EdgeFace architecture loading"
    assert lines[3].startswith("[EdgeFace] Loaded fine-tuned backbone weights (edgeface_tiny, all ")
    assert len(lines) == 4
    assert (network.source.kind, network.source.variant) == ("state_dict", "edgeface_tiny")


@pytest.mark.parametrize("kind", ["script_file", "float_file"])
def test_frozen_but_not_opaque(kind: str, request: pytest.FixtureRequest, images: torch.Tensor) -> None:
    network = load_embedder(request.getfixturevalue(kind))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images.requires_grad_(True)
    network.train()(images).square().sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0
    assert not any(module.training for module in network.modules())
    for parameter in network.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_both_routes_give_one_network(script_file: Path, float_file: Path, images: torch.Tensor) -> None:
    script, state = load_embedder(script_file), load_embedder(float_file)
    torch.testing.assert_close(script(images), state(images))
    for _ in range(3):  # TorchScript optimises on its second and third call
        torch.testing.assert_close(gradient(script, images), gradient(state, images))


def test_images_are_normalised_at_the_border(tiny: EdgeFace, float_file: Path, images: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(load_embedder(float_file)(images), tiny(images * 2 - 1))


@pytest.mark.parametrize("kind", ["script_file", "float_file", "int8_file"])
def test_a_usable_file_passes_the_gradient_check(kind: str, request: pytest.FixtureRequest) -> None:
    check_gradient(load_embedder(request.getfixturevalue(kind)))


def test_int8_torchscript_is_refused(int8_script_file: Path, images: torch.Tensor) -> None:
    network = load_embedder(int8_script_file)
    assert network(images).shape == (2, 512)  # it computes, and would train nothing
    with pytest.raises(UserError, match=r"gives its input no gradient .*int8.*python -m facial_rec\.export --edgeface"):
        check_gradient(network)


class WithoutGrad(torch.nn.Module):
    """An EdgeFace that somebody wrapped in no_grad before exporting it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.network(x)


class Flat(torch.nn.Module):
    """Depends on its input, with a gradient of zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 0).mean((1, 2, 3), keepdim=False).unsqueeze(1).expand(-1, 512) + 1


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_no_grad_torchscript_is_refused(tiny: EdgeFace, script: Script, tmp_path: Path) -> None:
    path = script(WithoutGrad(tiny), tmp_path / "nograd.pt")
    with pytest.raises(
        UserError, match=r"no gradient \(found: none\).*no_grad\. Make a float one: .*facial_rec\.export"
    ):
        check_gradient(load_embedder(path))


def test_zero_gradient_is_refused(script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no gradient \(found: zero\).*facial_rec\.export"):
        check_gradient(load_embedder(script(Flat(), tmp_path / "flat.pt")))


def test_nan_torchscript_is_refused(tiny: EdgeFace, script: Script, tmp_path: Path) -> None:
    tiny.model.stem[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"nan\.pt gives a NaN or infinite gradient"):
        check_gradient(load_embedder(script(tiny, tmp_path / "nan.pt")))


@pytest.mark.parametrize(
    ("network", "found"), [(torch.nn.Flatten(), r"\(2, 37632\)"), (Pair(), "tuple")], ids=["shape", "tuple"]
)
def test_another_torchscript_is_refused(network: torch.nn.Module, found: str, script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"other\.pt gives for 2 images {found}, expected \(2, 512\)"):
        check_gradient(load_embedder(script(network, tmp_path / "other.pt")))


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (3, 112, 112), (1, 1, 112, 112), (1, 112, 112, 3)])
def test_wrong_shapes_are_refused(tiny: EdgeFace, shape: tuple[int, ...]) -> None:
    network = Embedder(tiny, Source(Path("x"), "", "state_dict", ""))
    with pytest.raises(UserError, match=r"\(B, 3, 112, 112\), found \(" + ", ".join(map(str, shape))):
        network(torch.zeros(shape))


def test_a_bare_name_is_looked_up_in_checkpoints(float_file: Path, here: Path) -> None:
    (here / "checkpoints").mkdir()
    target = float_file.rename(here / "checkpoints" / "edgeface_xxs.pt")
    assert load_embedder("edgeface_xxs.pt").source.path == target
    assert load_embedder("edgeface_xxs").source.path == target, "a published name needs no ending"


@pytest.mark.parametrize("name", ["mine.pt", "folder/edgeface_xxs.pt"])
def test_unknown_file_is_named(here: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=rf"{name} is missing: expected an EdgeFace weights file here or in checkpoints"
    ):
        load_embedder(name)


def test_a_shipped_file_that_is_absent_or_another(
    float_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "repository" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  edgeface_xxs_dsr.pth\n")
    with pytest.raises(UserError, match=r"`git checkout checkpoints/edgeface_xxs_dsr\.pth` brings it back"):
        load_embedder("edgeface_xxs_dsr.pth")
    mine = float_file.rename(folder / "edgeface_xxs_dsr.pth")
    assert load_embedder("edgeface_xxs_dsr.pth").source.sha256 == sha256_of(mine), "used all the same"
    assert "edgeface_xxs_dsr.pth is not the file that SHA256SUMS lists" in capsys.readouterr().err


def test_training_and_export_download_a_published_name_too(
    float_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def downloaded(name: str) -> Path:
        asked.append(name)
        return float_file

    monkeypatch.setattr(download, "download_weights", downloaded)
    cpu = torch.device("cpu")
    original = load_teacher("edgeface_xxs.pt", cpu)[1]
    load_start("edgeface_xxs", original)
    export.main(export.Config(edgeface="edgeface_xs_q.pt", out=here / "script.pt"))
    assert asked == ["edgeface_xxs.pt", "edgeface_xxs", "edgeface_xs_q.pt"]


def test_download_can_be_ruled_out(here: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        load_embedder("edgeface_xxs", allow_download=False)


@pytest.mark.parametrize("name", ["edgeface_base", "edgeface_xxs.pt"])
def test_offline_says_where_to_get_it_and_where_to_put_it(
    here: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "target"
    monkeypatch.setattr(download, "download_weights", lambda name: download_weights(name, folder))
    with pytest.raises(UserError) as caught:
        load_embedder(name)
    stem = name.removesuffix(".pt")
    assert download.ADDRESS.format(name=stem) in str(caught.value)
    assert f"put it at {folder / stem}.pt" in str(caught.value)
    assert not list(folder.iterdir())


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the authors' address."""
    folder = tmp_path / "authors"
    folder.mkdir()
    monkeypatch.setattr(download, "ADDRESS", folder.as_uri() + "/{name}.pt")
    return folder


def test_download_is_checked_and_its_checksum_printed(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(get_model("edgeface_xs_gamma_06").state_dict(), published / "edgeface_xs_gamma_06.pt")
    path = download_weights("edgeface_xs_gamma_06.pt", tmp_path / "target")
    assert path == tmp_path / "target" / "edgeface_xs_gamma_06.pt"
    assert path.read_bytes() == (published / path.name).read_bytes()
    assert sha256_of(path) in capsys.readouterr().out
    assert load_embedder(path).source.variant == "edgeface_xs_gamma_06"


@pytest.mark.parametrize("content", ["another network", "html", "nothing"])
def test_what_is_not_that_network_is_not_kept(published: Path, tmp_path: Path, content: str) -> None:
    served = published / "edgeface_xs_gamma_06.pt"
    if content == "another network":
        torch.save(get_model("edgeface_tiny").state_dict(), served)
    else:
        served.write_text("<html>please log in</html>" if content == "html" else "")
    with pytest.raises(UserError, match=r"What file://.*edgeface_xs_gamma_06\.pt sent was not kept: .*put the file at"):
        download_weights("edgeface_xs_gamma_06", tmp_path / "target")
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("name", ["edgeface_tiny", "mine", "edgeface_xxs.pth"])
def test_only_published_names_are_downloaded(tmp_path: Path, name: str) -> None:
    assert download_weights(name, tmp_path / "target") is None
    assert not (tmp_path / "target").exists()


def test_verify_download_checks_size_and_network(float_file: Path) -> None:
    size = float_file.stat().st_size
    with pytest.raises(UserError, match=rf"edgeface_xxs has {size:,} bytes, expected 5,030,619"):
        verify_download(float_file, "edgeface_xxs")
    with pytest.raises(UserError, match=r"edgeface_base has 220,700 parameters, expected 18,225,812"):
        verify_download(float_file, "edgeface_base")
    verify_download(float_file, "edgeface_tiny")


@pytest.mark.parametrize("name", ["edgeface_xxs_q", "edgeface_xs_q"])
def test_the_official_files_pass_the_check(shared: Path, name: str) -> None:
    verify_download(shared / "weights" / f"{name}.pt", name)


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("edgeface_xxs_q.pt", "edgeface_xxs"),
        ("edgeface_xs_q.pt", "edgeface_xs"),
        ("edgeface_xs_gamma_06.pt", "edgeface_xs_gamma_06"),
    ],
)
def test_real_files_give_gradients(shared: Path, file: str, variant: str) -> None:
    network = load_embedder(shared / "weights" / file)
    assert network.source.variant == variant
    check_gradient(network)


def test_a_real_network_as_int8_torchscript_is_refused(
    shared: Path, tmp_path: Path, quantise: Callable[[torch.nn.Module], torch.nn.Module], script: Script
) -> None:
    network = load_embedder(shared / "weights" / "edgeface_xxs_q.pt").network
    path = script(quantise(network), tmp_path / "edgeface_xxs_int8.pt")
    with pytest.raises(UserError, match=r"no gradient.*facial_rec\.export"):
        check_gradient(load_embedder(path))
