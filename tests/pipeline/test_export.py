"""Exports of the tiny networks against PyTorch, what is refused, and running them without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from common.errors import UserError
from common.files import sha256_of
from common.images import RgbImage, write_png
from dsr import mirror
from dsr.checkpoint import load_dsr
from dsr.degradation import round_to_8bit
from facial_rec.embedder import load_embedder
from facial_rec.thresholds import DevelopmentSet, MadeFor, SizeThresholds, Thresholds
from pipeline import export, export_check, onnx_models, quantise
from pipeline.export_graphs import open_torchscript
from pipeline.model_metadata import Kind
from pipeline.onnx_build import COARSENESS, ENLARGE, ENLARGED, LOW, graph_of
from pipeline.onnx_models import OnnxModel, load_chain_onnx, load_dsr_onnx, load_edgeface_onnx
from pipeline.onnx_session import session_of
from pipeline.sample_faces import made_up_faces, refuse_noise, sample_faces

KINDS: tuple[Kind, ...] = ("edgeface", "dsr", "chain")
LOADERS = {"edgeface": load_edgeface_onnx, "dsr": load_dsr_onnx, "chain": load_chain_onnx}


@pytest.fixture
def weights(active_weights: dict[str, Path]) -> dict[str, Path]:
    return active_weights


@pytest.fixture
def faces(face: Callable[..., RgbImage]) -> NDArray[np.uint8]:
    return np.stack([face(person, 1) for person in range(8)])


@pytest.fixture(scope="module")
def exported(active_weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """One export of each kind in each format, made when first asked for."""
    folder = tmp_path_factory.mktemp("exported")
    rng = np.random.default_rng(0)
    for person in range(4):  # smooth: a small pattern, enlarged
        pattern = rng.integers(30, 220, (7, 7, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        write_png(folder / "faces" / f"P{person}_1.png", pattern)
    names = {name: str(path) for name, path in active_weights.items()}

    def find(what: Kind, to: str = "onnx") -> Path:
        out = folder / f"{what}.{to}"
        if not out.is_file():
            export.main(export.Config(what=what, to=to, out=out, faces=folder / "faces", **names))  # type: ignore[arg-type]
        return out

    return find


@pytest.fixture
def run(weights: dict[str, Path], people: Path, tmp_path: Path) -> Callable[..., Path]:
    """Export with the tiny networks, compared on the made-up people; returns the file."""

    def export_one(what: Kind, to: str = "onnx", **more: object) -> Path:
        given = {"edgeface": str(weights["edgeface"]), "dsr": str(weights["dsr"]), "faces": people, "val_root": people}
        out = tmp_path / f"{what}.{to}"
        return export.main(export.Config(**{"what": what, "to": to, "out": out} | given | more))  # type: ignore[arg-type]

    return export_one


def original(what: Kind, weights: dict[str, Path]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same networks as the evaluation loads and calls them."""
    embedder, (dsr, _) = load_embedder(weights["edgeface"]), load_dsr(weights["dsr"])
    return {
        "edgeface": embedder.network,
        "dsr": dsr,
        "chain": lambda low: F.normalize(embedder(round_to_8bit(dsr(low.float() / 255)))),
    }[what]


@pytest.mark.parametrize("what", KINDS)
def test_onnx_gives_what_pytorch_gives(
    what: Kind, exported: Callable[..., Path], weights: dict[str, Path], faces: NDArray[np.uint8]
) -> None:
    model, torch_model = LOADERS[what](exported(what), batch_size=3), original(what, weights)
    for size in (112,) if what == "edgeface" else (8, 31, 64):
        images = export_check.inputs_of(what, faces, size)  # eight: two chunks of three and one of two
        with torch.no_grad():
            expected = torch_model(images).numpy()
        np.testing.assert_allclose(model(images.numpy()), expected, atol=1e-4)
        assert model(images.numpy()[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("what", ["dsr", "chain"])
def test_a_mirrored_dsr_is_exported_as_one(
    what: Kind, run: Callable[..., Path], weights: dict[str, Path], faces: NDArray[np.uint8], tmp_path: Path
) -> None:
    twice = mirror.main(mirror.Config(str(weights["dsr"]), tmp_path / "mirrored.pt"))
    model, torch_model = LOADERS[what](run(what, dsr=str(twice))), original(what, {**weights, "dsr": twice})
    images = export_check.inputs_of(what, faces, 16)
    with torch.no_grad():
        expected, plain = torch_model(images).numpy(), original(what, weights)(images).numpy()
    np.testing.assert_allclose(model(images.numpy()), expected, atol=1e-4)
    assert np.abs(expected - plain).max() > 1e-3, "they were to differ"


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_kind_in_fewer_bits(
    what: Kind,
    precision: str,
    exported: Callable[..., Path],
    run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    full, found = exported(what), run(what, precision=precision)
    graph = onnx.load(found)
    assert LOADERS[what](found).metadata.precision == precision
    assert [one.domain for one in graph.opset_import].count("") == 1, "onnxruntime's quantisation refuses two"
    assert found.stat().st_size < full.stat().st_size
    printed = capsys.readouterr().out
    assert "a DSR embeds nothing" in printed if what == "dsr" else "accuracy" in printed
    made = {name: node for node in graph.graph.node for name in node.output}
    inputs = [
        made[node.input[1]].op_type for node in graph.graph.node if node.op_type == "Conv" if node.input[1] in made
    ]
    if precision == "int8":
        assert inputs.count("DequantizeLinear") == (0 if what == "edgeface" else 2), "the DSR's two inner convolutions"


@pytest.mark.parametrize("what", KINDS)
def test_torchscript_gives_what_pytorch_gives(
    what: Kind, exported: Callable[..., Path], weights: dict[str, Path], faces: NDArray[np.uint8]
) -> None:
    script, torch_model = open_torchscript(exported(what, "torchscript")), original(what, weights)
    images = export_check.inputs_of(what, faces[:5], 31)
    with torch.no_grad():
        np.testing.assert_allclose(script(images).numpy(), torch_model(images).numpy(), atol=1e-4)


def test_the_enlargement_is_torchs_bicubic() -> None:
    model = graph_of(ENLARGE)
    wanted = {one.name for one in model.graph.output}
    assert wanted == {ENLARGED, COARSENESS}
    model.graph.input[0].name = "input"
    for node in model.graph.node:
        node.input[:] = ["input" if name == LOW else name for name in node.input]
    model.graph.node.add(op_type="Identity", input=[ENLARGED], output=["output"])
    del model.graph.output[:]
    model.graph.output.add().CopyFrom(
        onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["batch", 3, 112, 112])
    )
    enlarge = session_of(model)
    for size in range(8, 65):
        low = torch.rand(2, 3, size, size)
        expected = F.interpolate(low, size=(112, 112), mode="bicubic", align_corners=False)
        np.testing.assert_allclose(enlarge(low.numpy()), expected.numpy(), atol=1e-5)


def test_the_chain_gives_unit_vectors_and_edgeface_is_normalised_outside(
    exported: Callable[..., Path], faces: NDArray[np.uint8]
) -> None:
    chain = load_chain_onnx(exported("chain"))
    low = export_check.inputs_of("chain", faces, 16).numpy()
    assert low.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(chain(low), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "torchscript"])
@pytest.mark.parametrize("break_it", ["tolerance", "graph"])
def test_a_mismatch_is_refused_and_leaves_no_file(
    to: str, break_it: str, run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "kept" / "face"
    if break_it == "tolerance":
        monkeypatch.setattr(export_check, "TOLERANCE", -1.0)
    else:
        wrong = {"onnx": "onnx_graph", "torchscript": "torchscript"}[to]
        make = getattr(export, wrong)

        def make_wrong(kind: Kind, sources: export.Sources) -> object:
            with torch.no_grad():
                sources.recogniser().model.head.fc.bias.add_(1)  # type: ignore[union-attr,operator]
            made = make(kind, sources)
            with torch.no_grad():
                sources.recogniser().model.head.fc.bias.sub_(1)  # type: ignore[union-attr,operator]
            if to == "torchscript":  # it shares its weights with the original
                made.model.head.fc.bias = torch.nn.Parameter(made.model.head.fc.bias + 1)
            return made

        monkeypatch.setattr(export, wrong, make_wrong)
    with pytest.raises(UserError, match=r"differs from PyTorch.*Nothing was written"):
        run("edgeface", to, out=out)
    assert not list(out.parent.iterdir())


def test_metadata_is_inside(
    run: Callable[..., Path], exported: Callable[..., Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    sums = {name: sha256_of(path) for name, path in weights.items()}
    thresholds = Thresholds(
        made_for=MadeFor("face", sums["edgeface"], sums["dsr"]),
        protocol="lr-hr",
        degradation="canonical",
        wanted_fmr=0.001,
        wanted_fnmr=0.05,
        development_set=DevelopmentSet("people", "0" * 64, 6, 18),
        date="2026-01-01",
        command="python -m pipeline.calibrate",
        sizes=(SizeThresholds(16, "dsr", 0.3, 0.1), SizeThresholds(None, "hr", 0.29, 0.2)),
    )
    thresholds.save(tmp_path / "thresholds.json")
    chain = load_chain_onnx(run("chain", calibration=tmp_path / "thresholds.json"))
    found = chain.metadata
    assert (found.kind, found.precision, found.variant) == ("chain", "float32", "dsr + edgeface_tiny")
    assert found.source_sha256 == sums
    assert found.thresholds == thresholds
    assert "CC BY-NC-SA 4.0" in found.licence
    assert {"torch", "onnx", "onnxruntime"} <= found.versions.keys()
    assert chain.sha256 == sha256_of(chain.path)
    extra = {"metadata.json": ""}
    torch.jit.load(str(exported("edgeface", "torchscript")), _extra_files=extra)
    assert json.loads(extra["metadata.json"])["kind"] == "edgeface"

    (tmp_path / "other.json").write_text((tmp_path / "thresholds.json").read_text().replace(sums["dsr"], "f" * 64))
    with pytest.raises(UserError, match="made with another DSR"):
        run("chain", calibration=tmp_path / "other.json")


@pytest.mark.parametrize("folder", [".", "checkpoints"])
def test_thresholds_at_hand_are_taken_if_they_fit(
    run: Callable[..., Path],
    weights: dict[str, Path],
    tmp_path: Path,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(exist_ok=True)

    def thresholds_of(recogniser: str) -> Thresholds:
        made = Thresholds(
            *(MadeFor("one", recogniser, None), "lr-hr", "canonical", 0.001, 0.05),
            *(DevelopmentSet("people", "0" * 64, 6, 18), "2026-01-01", "python -m pipeline.calibrate"),
            (SizeThresholds(None, "hr", 0.29, 0.2),),
        )
        made.save(Path(folder, "thresholds.json"))
        return made

    thresholds_of("a" * 64)
    assert load_edgeface_onnx(run("edgeface")).metadata.thresholds is None
    assert "thresholds.json was left out" in capsys.readouterr().out
    fitting = thresholds_of(sha256_of(weights["edgeface"]))
    assert load_edgeface_onnx(run("edgeface")).metadata.thresholds == fitting
    if folder == "checkpoints":  # one of other weights here does not hide it, nor does a damaged one
        for content in (
            fitting.values() | {"made_for": {**fitting.values()["made_for"], "recogniser_sha256": "b" * 64}},
            {},
        ):
            Path("thresholds.json").write_text(json.dumps(content))
            assert load_edgeface_onnx(run("edgeface")).metadata.thresholds == fitting


def test_fp16_halves_the_file(
    run: Callable[..., Path], exported: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    full, half = exported("edgeface"), run("edgeface", precision="fp16")
    assert half.stat().st_size < 0.65 * full.stat().st_size
    assert load_edgeface_onnx(half).metadata.precision == "fp16"
    assert "cosine to float32 1.0000" in capsys.readouterr().out
    with pytest.raises(UserError, match="a TorchScript is float32"):
        run("edgeface", "torchscript", precision="fp16")


@pytest.mark.parametrize("damage", ["absent", "empty", "half", "foreign", "text", "other kind"])
def test_a_file_that_is_none_is_refused(damage: str, exported: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    expected = "no ONNX model that onnxruntime .* can run"
    if damage == "absent":
        expected = "is missing: expected an ONNX model"
    elif damage == "foreign":
        foreign = graph_of("g (float[n] input) => (float[n] output) { output = Identity(input) }")
        onnx.save(foreign, path)
        expected = "was not written by pipeline.export"
    elif damage == "other kind":
        path = exported("dsr")
        expected = "is a model of kind 'dsr', expected 'edgeface'"
    else:
        content = exported("edgeface").read_bytes()
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"no model"}[damage])
    with pytest.raises(UserError, match=expected):
        load_edgeface_onnx(path)


@pytest.mark.parametrize("cut", [0.9, 0.99, 0.999])
def test_a_file_without_its_end_is_refused(cut: float, exported: Callable[..., Path], tmp_path: Path) -> None:
    content = exported("edgeface").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(UserError, match=r"Copy it again|make it again|Make it again"):
        load_edgeface_onnx(path)


def test_wrong_arrays_are_refused(exported: Callable[..., Path]) -> None:
    face, chain = load_edgeface_onnx(exported("edgeface")), load_chain_onnx(exported("chain"))
    good = np.zeros((1, 3, 112, 112), np.float32)
    for images, expected in (
        (good[0], "found shape"),
        (good[:, :, :100], "found shape"),
        (good.transpose(0, 2, 3, 1), "found shape"),
        (good.astype(np.uint8), "found uint8"),
        (good + np.nan, "NaN or infinite"),
        (good + 255, "found values from 255 to 255"),
    ):
        with pytest.raises(UserError, match=expected):
            face(images)
    low = np.zeros((1, 3, 16, 16), np.uint8)
    for images, expected in (
        (low.astype(np.float32), "found float32"),
        (low.astype(np.int64), "found int64"),
        (low[:, :, :7, :7], "found shape"),
        (np.zeros((1, 3, 65, 65), np.uint8), "found shape"),
        (low[:, :, :8], "found shape"),
    ):
        with pytest.raises(UserError, match=expected):
            chain(images)
    for threads, batch in ((-1, 1), (1, 0)):
        with pytest.raises(UserError, match="expected 0"):
            OnnxModel(face.path, "edgeface", threads, batch)


def test_faces_are_drawn_evenly_over_the_people(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    for photo in range(20):
        write_png(tmp_path / f"Ann_{photo}.png", face(0, photo))
    for person in range(1, 4):
        write_png(tmp_path / f"P{person}_0.png", face(person, 0))
    faces, _ = sample_faces(tmp_path, 8)
    others = sum(any(np.array_equal(one, face(person, 0)) for one in faces) for person in range(1, 4))
    assert (len(faces), others) == (8, 3)
    assert len(sample_faces(tmp_path, 100)[0]) == 23
    with pytest.raises(UserError, match="--seed must be at least 0, found -1"):
        sample_faces(tmp_path, 8, -1)


def test_nothing_is_chosen_by_lfw(tmp_path: Path, weights: dict[str, Path], face: Callable[..., RgbImage]) -> None:
    for person in range(4):
        write_png(tmp_path / "lfw" / f"P{person}_0.png", face(person, 0))
    names = {name: str(path) for name, path in weights.items()}
    with pytest.raises(UserError, match=r"looks like LFW.*Give --faces other people"):
        export.main(export.Config("edgeface", precision="int8", faces=tmp_path / "lfw", **names))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"looks like LFW.*Give --val-root other people"):
        quantise.main(quantise.Config(names["edgeface"], val_root=tmp_path / "lfw", out=tmp_path / "models"))


def test_int8_is_compared_on_faces_that_its_ranges_are_not_from(
    tmp_path: Path, weights: dict[str, Path], face: Callable[..., RgbImage], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: str(path) for name, path in weights.items()}
    for person in range(9):
        if person in (3, 8):
            continue
        write_png(tmp_path / "faces" / f"P{person}_0.png", face(person, 0))
    config = export.Config(
        "edgeface",
        precision="int8",
        faces=tmp_path / "faces",
        out=tmp_path / "a.onnx",
        **names,  # type: ignore[arg-type]
    )
    export.main(config)
    printed = capsys.readouterr().out
    assert "compared on 1 of" in printed
    assert "at batch 1, input sides 112" in printed
    assert "ranges of numbers from 6 others of them; no thresholds inside" in printed
    for path in sorted((tmp_path / "faces").iterdir())[:4]:
        path.unlink()
    with pytest.raises(UserError, match="has 3 faces: int8 needs 4 at least"):
        export.main(config)


def test_noise_is_no_face(tmp_path: Path, face: Callable[..., RgbImage]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3)).astype(np.uint8)
    with pytest.raises(UserError, match="4 of 4 images look like noise"):
        refuse_noise(noise, "noise")
    for number, image in enumerate(noise):
        write_png(tmp_path / f"P_{number}.png", image)
    with pytest.raises(UserError, match="look like noise"):
        sample_faces(tmp_path, 4)
    refuse_noise(made_up_faces(4), "made-up faces")
    refuse_noise(np.stack([face(0, 0)]), "patterns")


def test_running_an_export_needs_no_torch() -> None:
    code = "import sys; import pipeline.onnx_models; print('torch' in sys.modules, 'onnx' in sys.modules)"
    assert onnx_models.OUTPUT == "output"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_chain_may_round_edges_otherwise_and_nothing_else(faces: NDArray[np.uint8]) -> None:
    images = torch.from_numpy(faces[:2].transpose(0, 3, 1, 2).copy())
    levels = torch.full((2, 3, 112, 112), 100.0)

    def rounding(change: torch.Tensor) -> export_check.Rounding:
        return export_check.Rounding(
            exported=lambda _: (levels + change).numpy(),
            original=lambda _: levels,
            embed=lambda found: found.flatten(1)[:, :512],
        )

    one = torch.zeros_like(levels)
    one[0, 0, 0, 5] = 1
    expected, share = rounding(one).expected(images)
    assert share == pytest.approx(1 / levels.numel())
    assert expected[0, 5] == 101
    for change, found in ((2 * one, "up to 2 of 255 levels"), (torch.ones_like(levels), "in 100.00% of")):
        with pytest.raises(UserError, match=found):
            rounding(change).expected(images)
