"""The files that `pipeline.benchmark` needs: models as they are exported, and a made-up photo."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from common.files import replacing
from common.images import RgbImage
from common.paths import find_weights
from dsr.synthetic import SCENE_SIZE, render_scene
from facial_rec.detector_yunet import FILE as YUNET
from pipeline.benchmark_contenders import Files, Group
from pipeline.export import metadata_of
from pipeline.export_graphs import load_sources, onnx_graph, torchscript
from pipeline.model_metadata import Kind
from pipeline.onnx_build import finished
from pipeline.onnx_models import OnnxModel

PHOTO_SIDES = (480, 640)
CORNER = (100, 200)


def prepare(
    edgeface: str, dsr: str, models: Path | None, yunet: Path | None, groups: Sequence[Group], folder: Path
) -> Files:
    """Write into `folder` what `groups` need, but for the ONNX files where `models` has them.

    Raises UserError for weights and models that are missing, unreadable or do not belong together.
    """
    found = yunet or find_weights(YUNET)
    files = Files(str(models or folder), str(folder), edgeface, dsr, None if found is None else str(found))
    kinds: list[Kind] = ["edgeface"]
    kinds += ["dsr"] if "dsr" in groups else []
    kinds += ["chain"] if {"chain", "recogniser"} & set(groups) else []
    for kind in kinds:
        _export(kind, files, given=models is not None)
    np.save(files.photo, made_up_photo())
    return files


def made_up_photo() -> RgbImage:
    """A grey photo, 640 x 480, with one made-up face of about 75 x 100 pixels."""
    photo = np.full((*PHOTO_SIDES, 3), 128, np.uint8)
    top, left = CORNER
    photo[top : top + SCENE_SIZE, left : left + SCENE_SIZE] = render_scene(seed=0, identity=3, image=1)[0]
    return photo


def _export(kind: Kind, files: Files, given: bool) -> None:
    """The TorchScript of `kind`, and its ONNX file unless it is given."""
    sources = load_sources(kind, files.edgeface, files.dsr)
    model = files.model(kind)
    if given:
        _require_same(model, kind, sources.sha256)
    else:
        graph = finished(onnx_graph(kind, sources), metadata_of(kind, "float32", sources, None))
        with replacing(model) as temporary:
            temporary.write_bytes(graph.SerializeToString(deterministic=True))
    with replacing(Path(files.script(kind))) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; it is one of the runtimes compared
        torch.jit.save(torchscript(kind, sources), str(temporary))


def _require_same(path: Path, kind: Kind, sha256: dict[str, str]) -> None:
    """UserError unless the file given is a float32 export of these weights."""
    metadata = OnnxModel(path, kind).metadata
    if metadata.precision != "float32" or dict(metadata.source_sha256) != sha256:
        raise UserError(
            f"{path} is in {metadata.precision}, made from {dict(metadata.source_sha256)}; expected float32, made from "
            f"{sha256}. Runtimes are compared on the same weights: give --edgeface and --dsr of these models, or leave "
            "--models out."
        )
