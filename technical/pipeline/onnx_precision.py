"""A float32 ONNX graph in fewer bits: 16-bit weights, static int8 calibrated on faces, dynamic int8.

Static int8 writes QuantizeLinear and DequantizeLinear around products with weights and around the DSR's convolutions
(QDQ). EdgeFace's convolutions, norms, GELU, softmax and the products inside attention stay in float.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from common.errors import UserError
from dsr.degradation import bicubic_enlarge
from pipeline.export_check import inputs_of
from pipeline.model_metadata import Kind, Precision
from pipeline.onnx_build import IR_VERSION, store_fp16
from pipeline.onnx_models import INPUT
from pipeline.sample_faces import Faces

QUANTISED = ("Conv", "MatMul", "Gemm")
LOW_SIZES = (8, 12, 16, 24, 32, 64)
CALIBRATION_BATCH = 8


@dataclass(frozen=True)
class StaticRecipe:
    """How static int8 is made; the defaults lost the least of what was tried on EdgeFace-XXS, see README.md."""

    method: str = "MinMax"
    """How a range is taken from what was seen: MinMax, Percentile or Entropy."""
    float_first: bool = True
    """Leave the first convolution in float: it sees the image's full range."""
    float_head: bool = True
    """Leave the last product, which makes the embedding, in float."""
    float_after_gelu: bool = True
    """Leave products of GELU's output in float: its few large values take up the range of all the small ones."""
    quantised: tuple[str, ...] = ("Conv", "MatMul", "Gemm")
    """Kinds of nodes to quantise."""
    convolutions: str = "dsr.body."
    """Of the convolutions, those with this in their weights' name: EdgeFace's, mostly of one channel, lose most."""


def converted(model: ModelProto, kind: Kind, precision: Precision, faces: Faces) -> ModelProto:
    """A float32 `model` in another precision; static int8 takes its ranges from `faces` `(N, 112, 112, 3)`."""
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    match precision:
        case "fp16":
            return store_fp16(model)
        case "int8":
            return static_int8(model, kind, faces)
        case "int8-dynamic":
            return dynamic_int8(model)
    return model


def static_int8(model: ModelProto, kind: Kind, faces: Faces, recipe: StaticRecipe = StaticRecipe()) -> ModelProto:
    """`model` with int8 weights per channel and 8-bit activations, whose ranges are those seen on `faces`.

    Weights use 7 of their 8 bits: processors without VNNI add two products in 16 bit, which 8 bits would overflow.
    Raises UserError where there is no face to calibrate on.
    """
    if not len(faces):
        raise UserError("Static int8 is calibrated on faces, and there is none: give --faces a folder or zip.")
    return _written(
        model,
        lambda work, target: quantize_static(
            work,
            target,
            FaceReader(kind, faces),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.quantised),
            nodes_to_exclude=float_nodes(model, recipe),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[recipe.method],
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": list(recipe.quantised),  # what follows them computes in float
            },
        ),
    )


def dynamic_int8(model: ModelProto) -> ModelProto:
    """`model` with int8 weights in its products; the activations' ranges are found at every call. No faces needed."""
    options = {"MatMulConstBOnly": True}
    return _written(
        model,
        lambda work, target: quantize_dynamic(
            *(work, target, ["MatMul", "Gemm"]),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options=options,
        ),
    )


def float_nodes(model: ModelProto, recipe: StaticRecipe) -> list[str]:
    """Names of the nodes that stay in float: products of two activations, and the ends that the recipe names."""
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in QUANTISED]
    kept = [node.name for node in nodes if not weights.intersection(node.input)]
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    kept += [node.name for node in convolutions if recipe.convolutions not in node.input[1]]
    if recipe.float_first and convolutions:
        kept.append(convolutions[0].name)
    products = [node for node in nodes if node.op_type != "Conv"]
    if recipe.float_head and products:  # a DSR has none
        kept.append(products[-1].name)
    if recipe.float_after_gelu:
        activated = {name for node in model.graph.node if node.op_type == "Gelu" for name in node.output}
        kept += [node.name for node in nodes if activated.intersection(node.input)]
    return kept


class FaceReader(CalibrationDataReader):
    """Faces as a model of `kind` takes them, small batches of each size: of high resolution, and of what is enlarged.

    EdgeFace sees each face as it is and after a reduction to 8 to 64 pixels and back, since both will come.
    """

    def __init__(self, kind: Kind, faces: Faces) -> None:
        self.batches = self._batches(kind, faces)

    @staticmethod
    def _batches(kind: Kind, faces: Faces) -> Iterator[NDArray[Any]]:
        for number, start in enumerate(range(0, len(faces), CALIBRATION_BATCH)):
            some = faces[start : start + CALIBRATION_BATCH]
            size = LOW_SIZES[number % len(LOW_SIZES)]
            if kind == "edgeface":
                yield inputs_of(kind, some, 112).numpy()
                yield enlarged(some, size)
            else:
                yield inputs_of(kind, some, size).numpy()

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        """The next batch by the input's name; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


def enlarged(faces: Faces, size: int) -> NDArray[np.float32]:
    """Faces reduced to `size` pixels and enlarged with bicubic, in [-1, 1]: `(N, 3, 112, 112)`."""
    found: NDArray[np.float32] = bicubic_enlarge(inputs_of("dsr", faces, size)).numpy() * 2 - 1
    return found


def _written(model: ModelProto, quantise: Callable[[ModelProto, Path], object]) -> ModelProto:
    """What `quantise(model, path)` writes, read again; onnxruntime's advice on the way is left out.

    It is given a copy: onnxruntime moves the weights of what it is given to a file of its own.
    """
    work = ModelProto()
    work.CopyFrom(model)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "quantised.onnx"
            quantise(work, target)
            found = onnx.load(target)
    finally:
        root.setLevel(level)
    found.ir_version = max(found.ir_version, IR_VERSION)
    return found
