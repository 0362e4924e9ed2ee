"""Exported models on onnxruntime, for `pipeline.benchmark`. No torch, and nothing that reads photos."""

from __future__ import annotations

from typing import cast

from pipeline.benchmark_contenders import Call, Contender, Setting, as_input
from pipeline.model_metadata import Kind
from pipeline.onnx_models import OnnxModel


def opened(contender: Contender, setting: Setting) -> Call:
    """The model on its batch, as `pipeline.onnx_models` runs it. Raises UserError as `OnnxModel`."""
    kind = cast(Kind, contender.part)
    model = OnnxModel(setting.files.model(kind), kind, setting.threads, batch_size=contender.batch)
    images = as_input(contender)
    return lambda: model(images)
