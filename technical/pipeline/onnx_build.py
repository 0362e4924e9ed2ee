"""Putting ONNX graphs together: free batch size, a head before a body, names, metadata. Works on onnx graphs alone.

A network is traced at batch 1, where every shape is a constant that folds away; then its batch is set free. That gives
about half the nodes of a graph that computes its shapes, and the comparison with PyTorch at several batch sizes shows
that it is right.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper, parser

from common.errors import UserError
from dsr.model import REFERENCE_SIZE
from facial_rec.faceset import HR_SIZE
from pipeline.model_metadata import BORDERS, ModelMetadata
from pipeline.onnx_models import INPUT, OUTPUT

OPSET = 20  # the first with Gelu
IR_VERSION = 9
ENLARGED, COARSENESS, LOW = "enlarged", "coarseness", "low"
LEAST_STORED = 256  # values from which an array is worth storing in 16 bit

# torch's bicubic (a = -0.75, half-pixel centres, edges repeated, no antialiasing) as two matrix products with
# W (112, n + 4): W[i, j] is the kernel of Keys (1981) at the distance of output i's centre from input j - 2. It rounds
# as torch does and takes a tenth of the time of onnxruntime's cubic Resize, which cost as much as all convolutions.
ENLARGE = f"""
enlarge (float[batch, 3, n, n] {LOW}) => (float[batch, 3, {HR_SIZE}, {HR_SIZE}] {ENLARGED}, float[1] {COARSENESS})
{{
    one = Constant<value = float[1] {{1.0}}>()
    two = Constant<value = float {{2.0}}>()
    half = Constant<value = float[1] {{0.5}}>()
    sides = Shape<start = 3, end = 4>({LOW})
    side = Cast<to = 1>(sides)
    reference = Constant<value = float[1] {{{REFERENCE_SIZE}.0}}>()
    ratio = Div(side, reference)
    log = Log(ratio)
    log_two = Constant<value = float[1] {{{math.log(2.0)!r}}}>()
    {COARSENESS} = Div(log, log_two)

    large = Constant<value = float[1] {{{HR_SIZE}.0}}>()
    scale = Div(side, large)
    centres = Constant<value = float[{HR_SIZE}, 1] {{{", ".join(str(i + 0.5) for i in range(HR_SIZE))}}}>()
    scaled = Mul(centres, scale)
    position = Sub(scaled, half)
    first = Constant<value = float {{-2.0}}>()
    step = Constant<value = float {{1.0}}>()
    scalar = Squeeze(side)
    end = Add(scalar, two)
    columns = Range(first, end, step)
    signed = Sub(position, columns)
    distance = Abs(signed)
    d = Min(distance, two)

    near_a = Constant<value = float[1] {{1.25}}>()
    near_b = Constant<value = float[1] {{2.25}}>()
    near_1 = Mul(d, near_a)
    near_2 = Sub(near_1, near_b)
    near_3 = Mul(near_2, d)
    near_4 = Mul(near_3, d)
    near = Add(near_4, one)
    far_a = Constant<value = float[1] {{-0.75}}>()
    far_b = Constant<value = float[1] {{3.75}}>()
    far_c = Constant<value = float[1] {{-6.0}}>()
    far_d = Constant<value = float[1] {{3.0}}>()
    far_1 = Mul(d, far_a)
    far_2 = Add(far_1, far_b)
    far_3 = Mul(far_2, d)
    far_4 = Add(far_3, far_c)
    far_5 = Mul(far_4, d)
    far = Add(far_5, far_d)
    is_near = LessOrEqual(d, one)
    weights = Where(is_near, near, far)
    turned = Transpose<perm = [1, 0]>(weights)

    margins = Constant<value = int64[8] {{0, 0, 2, 2, 0, 0, 2, 2}}>()
    padded = Pad<mode = "edge">({LOW}, margins)
    wide = MatMul(padded, turned)
    {ENLARGED} = MatMul(weights, wide)
}}
"""
FROM_BYTES = f"""
from_bytes (uint8[batch, 3, n, n] {INPUT}) => (float[batch, 3, n, n] {LOW})
{{
    float_pixels = Cast<to = 1>({INPUT})
    levels = Constant<value = float[1] {{255.0}}>()
    {LOW} = Div(float_pixels, levels)
}}
"""


def graph_of(text: str) -> ModelProto:
    """A model from ONNX's text form."""
    return parser.parse_model(f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>\n{text}')


def joined(first: ModelProto, second: ModelProto) -> ModelProto:
    """`second` after `first`: inputs of `second` are the outputs of `first` that have their names."""
    names = [one.name for one in second.graph.input]
    model = compose.merge_models(first, _prefixed(second, names), io_map=[(name, name) for name in names])
    versions = {one.domain: one.version for one in model.opset_import}  # merging lists a domain once for each graph
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    return model


def _prefixed(model: ModelProto, kept: list[str]) -> ModelProto:
    """`model` with its own name before every other but its inputs' and outputs', so that no two graphs collide."""
    prefix = f"{model.graph.name}/"
    outputs = [one.name for one in model.graph.output]
    fixed = {*kept, *outputs, ""}
    for node in model.graph.node:
        node.input[:] = [name if name in fixed else prefix + name for name in node.input]
        node.output[:] = [name if name in fixed else prefix + name for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = prefix + tensor.name
    return model


def free_batch(model: ModelProto) -> ModelProto:
    """Let a graph that was traced at batch 1 take any batch: reshapes copy their first side instead of fixing it."""
    graph = model.graph
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    for number, node in enumerate(list(graph.node)):
        if node.op_type != "Reshape" or node.input[0] in shapes:
            continue
        sides = _constant(node.input[1], shapes, constants)
        if sides is not None and len(sides) > 1 and sides[0] == 1:
            name = f"shape_{number}"
            graph.initializer.append(numpy_helper.from_array(np.append(0, sides[1:]).astype(np.int64), name))
            node.input[1] = name
    del graph.value_info[:]
    for one in (*graph.input, *graph.output):
        sides = one.type.tensor_type.shape.dim
        if len(sides) > 1:
            sides[0].dim_param = "batch"
    _drop_unused(model)
    return model


def _constant(name: str, initializers: dict[str, TensorProto], constants: dict[str, NodeProto]) -> np.ndarray | None:
    if name in initializers:
        return numpy_helper.to_array(initializers[name])
    return numpy_helper.to_array(constants[name].attribute[0].t) if name in constants else None


def _drop_unused(model: ModelProto) -> None:
    graph = model.graph
    while True:
        used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
        idle = [node for node in graph.node if not used.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)


def finished(model: ModelProto, metadata: ModelMetadata) -> ModelProto:
    """Named, checked, with its metadata. Raises onnx's ValidationError for a graph that is none."""
    border = BORDERS[metadata.kind]
    del model.metadata_props[:]
    helper.set_model_props(model, metadata.properties())
    model.producer_name, model.producer_version = "dsr-edgeface", ""
    model.doc_string = f"{metadata.variant}: {border.input} -> {border.output}"
    model.graph.name = metadata.kind
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"  # quantisation speaks of nodes by name
    names = [one.name for one in (*model.graph.input, *model.graph.output)]
    if names != [INPUT, OUTPUT]:
        raise UserError(f"The graph has the inputs and outputs {names}, expected ['{INPUT}', '{OUTPUT}'].")
    onnx.checker.check_model(model, full_check=True)
    return model


def levels_of(model: ModelProto) -> ModelProto:
    """A chain's graph up to the rounding between its halves: gives the levels 0 to 255 as `output`."""
    copy = ModelProto()
    copy.CopyFrom(model)
    (rounding,) = [node for node in copy.graph.node if node.op_type == "Round"]
    for node in copy.graph.node:
        node.output[:] = ["embedding" if name == OUTPUT else name for name in node.output]
    copy.graph.node.append(helper.make_node("Identity", [rounding.output[0]], [OUTPUT]))
    copy.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3, HR_SIZE, HR_SIZE])
    )
    _drop_unused(copy)
    return copy


def store_fp16(model: ModelProto) -> ModelProto:
    """A copy that stores its weights in 16 bit and computes in 32, as fast as before: onnxruntime widens them at start.

    Vectors (biases, norms, layer scales) stay as they are: they weigh little, and some are too small for 16 bit.
    Raises UserError for a weight beyond 65504.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    widened = []
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.ndim < 2 or values.size < LEAST_STORED:
            continue
        name = tensor.name
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise UserError(f"The weight {name} has values beyond 65504, which 16 bit cannot hold: keep float32.")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        widened.append(helper.make_node("Cast", [tensor.name], [name], f"widen/{name}", to=TensorProto.FLOAT))
    nodes = [*widened, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def read_model(path: Path) -> ModelProto:
    """An ONNX file as a graph. Raises UserError for one that cannot be read."""
    try:
        return onnx.load(path)
    except (OSError, ValueError, DecodeError) as error:
        raise UserError(f"{path} cannot be read as ONNX ({error}). Copy it again, or export it again.") from error
