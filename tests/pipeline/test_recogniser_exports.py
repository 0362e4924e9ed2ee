"""pipeline.Recogniser on real exports of tiny networks: large and small faces are embedded as PyTorch does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.images import RgbImage, write_png
from dsr.checkpoint import save_dsr
from dsr.degradation import round_to_8bit
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from facial_rec.embedder import load_embedder
from pipeline import Recogniser, RecogniserSettings, export
from pipeline.export_graphs import load_sources
from pipeline.face_crops import FaceCrop, aligned_crop
from pipeline.model_metadata import Precision


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_both_ways_are_what_pytorch_computes(
    tmp_path: Path, blocks: Any, face: Callable[..., RgbImage], people: Path, precision: Precision
) -> None:
    torch.manual_seed(0)
    torch.save(get_model("edgeface_tiny").state_dict(), tmp_path / "face.pt")
    save_dsr(tmp_path / "dsr.pt", Dsr(preset("tiny")), {"note": "random"})
    for person in range(2):
        smooth = np.random.default_rng(person).integers(30, 220, (7, 7, 3)).astype(np.uint8)
        write_png(tmp_path / "faces" / f"P{person}_1.png", smooth.repeat(16, 0).repeat(16, 1))
    names = {"edgeface": str(tmp_path / "face.pt"), "dsr": str(tmp_path / "dsr.pt"), "faces": tmp_path / "faces"}
    for what in ("edgeface", "chain"):
        how: dict[str, Any] = {"precision": precision, "val_root": people, "out": tmp_path / f"{what}.onnx"}
        export.main(export.Config(what=what, **how, **names))  # type: ignore[arg-type]
    exported = {what: str(tmp_path / f"{what}.onnx") for what in ("edgeface", "chain")}
    chosen = Recogniser(RecogniserSettings(**exported, threads=1), blocks)  # type: ignore[arg-type]
    crops = [aligned_crop("a", face(0, 0)), aligned_crop("b", face(1, 0, 16)), aligned_crop("c", face(2, 0))]
    found = np.stack([one.embedding for one in chosen.embed(crops)])
    sources, embedder = load_sources("chain", names["edgeface"], names["dsr"]), load_embedder(tmp_path / "face.pt")

    def tensor(crop: FaceCrop) -> torch.Tensor:
        return torch.from_numpy(crop.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)

    with torch.no_grad():
        images = [tensor(crops[0]), round_to_8bit(sources.upscaler()(tensor(crops[1]))), tensor(crops[2])]
        expected = torch.nn.functional.normalize(embedder(torch.cat(images))).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4 if precision == "float32" else 2e-3)
    assert chosen.models[1].metadata.precision == precision
