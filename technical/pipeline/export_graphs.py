"""EdgeFace, DSR and both in a row, as ONNX and as TorchScript graphs, and the PyTorch they are compared with."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn

from common.errors import UserError
from common.shipped import weights_sha256
from dsr.checkpoint import load_dsr
from dsr.degradation import HR_SIZE, round_to_8bit
from dsr.model import REFERENCE_SIZE, Dsr
from facial_rec.download import edgeface_file
from facial_rec.edgeface import EdgeFace, normalise
from facial_rec.weights import load_strictly, read_edgeface_state, recognise
from pipeline.export_check import Array, Rounding
from pipeline.model_metadata import Kind
from pipeline.onnx_build import (
    COARSENESS,
    ENLARGE,
    ENLARGED,
    FROM_BYTES,
    IR_VERSION,
    LOW,
    OPSET,
    free_batch,
    graph_of,
    joined,
)
from pipeline.onnx_models import INPUT, OUTPUT


@dataclass(frozen=True)
class Sources:
    """The networks of an export, in PyTorch, and the files they came from."""

    edgeface: EdgeFace | None
    dsr: Dsr | None
    variant: str
    sha256: dict[str, str]

    def recogniser(self) -> EdgeFace:
        """The EdgeFace. Raises UserError where none was loaded."""
        if self.edgeface is None:
            raise UserError("No EdgeFace was given: --edgeface names its weights.")
        return self.edgeface

    def upscaler(self) -> Dsr:
        """The DSR. Raises UserError where none was loaded."""
        if self.dsr is None:
            raise UserError("No DSR was given: --dsr names its checkpoint.")
        return self.dsr


def load_sources(kind: Kind, edgeface: str, dsr: str) -> Sources:
    """The networks that a model of `kind` is made of, in evaluation mode. Raises UserError for unreadable weights."""
    checksums, names = {}, []
    upscaler, recogniser = None, None
    if kind != "edgeface":
        upscaler, info = load_dsr(dsr)
        checksums["dsr"] = info.sha256
        names.append("dsr")
    if kind != "dsr":
        path = edgeface_file(edgeface)
        checksums["edgeface"] = weights_sha256(path)
        state = read_edgeface_state(path)
        name, recogniser = recognise(state, path)
        load_strictly(recogniser, state, path)
        recogniser.eval().requires_grad_(False)
        names.append(name)
    return Sources(recogniser, upscaler, " + ".join(names), checksums)


def reference(kind: Kind, sources: Sources) -> Callable[[Tensor], Tensor]:
    """The PyTorch that an export must agree with, from the networks as the evaluation uses them."""
    if kind == "edgeface":
        return sources.recogniser()
    if kind == "dsr":
        return sources.upscaler()
    recogniser, upscaler = sources.recogniser(), sources.upscaler()

    def chain(low: Tensor) -> Tensor:
        return _embed(recogniser, round_to_8bit(upscaler(low.float().div(255.0))))

    return chain


def rounding(sources: Sources, levels: Callable[[Tensor], Array]) -> Rounding:
    """The chain's rounding in PyTorch, beside the `levels` of an exported one."""
    recogniser, upscaler = sources.recogniser(), sources.upscaler()
    return Rounding(
        exported=levels,
        original=lambda low: upscaler(low.float().div(255.0)).mul(255.0).round(),
        embed=lambda found: _embed(recogniser, found.div(255.0)),
    )


def _embed(recogniser: EdgeFace, images: Tensor) -> Tensor:
    return F.normalize(recogniser(normalise(images)))


class DsrBody(nn.Module):
    """The DSR after its enlargement: `(B, 3, 112, 112)` and log2(n / 32) `(1,)` -> `(B, 3, 112, 112)` in [0, 1].

    The size is a tensor here: a trace would freeze a number.
    """

    def __init__(self, dsr: Dsr) -> None:
        super().__init__()
        self.dsr = dsr

    def forward(self, enlarged: Tensor, coarseness: Tensor) -> Tensor:
        return self.dsr.restore(enlarged, coarseness).clamp(0.0, 1.0)


class ChainBody(nn.Module):
    """The chain after its enlargement, as `DsrBody`; gives unit embeddings `(B, 512)`."""

    def __init__(self, dsr: Dsr, edgeface: nn.Module) -> None:
        super().__init__()
        self.dsr, self.edgeface = DsrBody(dsr), edgeface

    def forward(self, enlarged: Tensor, coarseness: Tensor) -> Tensor:
        return F.normalize(self.edgeface(normalise(round_to_8bit(self.dsr(enlarged, coarseness)))))


class Enlarging(nn.Module):
    """A body with the enlargement before it, for tracing: `(B, 3, n, n)`, uint8 for a chain, else float in [0, 1]."""

    def __init__(self, body: nn.Module, from_bytes: bool) -> None:
        super().__init__()
        self.body, self.from_bytes = body, from_bytes

    def forward(self, low: Tensor) -> Tensor:
        low = low.float().div(255.0) if self.from_bytes else low
        side = torch._shape_as_tensor(low)[3:].float()  # unlike low.shape, a trace keeps this open
        enlarged = F.interpolate(low, size=(HR_SIZE, HR_SIZE), mode="bicubic", align_corners=False)
        return self.body(enlarged, torch.log2(side / REFERENCE_SIZE))


class _Constant(nn.Module):
    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, shape: tuple[int, int, int]) -> Tensor:
        return self.value


def with_fixed_positions(edgeface: EdgeFace) -> EdgeFace:
    """A copy whose positional encodings are constants, which they are: every input is 112 x 112."""
    fixed = copy.deepcopy(edgeface)
    encoders: list[tuple[Any, Any]] = [
        (block, block.pos_embd) for block in fixed.modules() if getattr(block, "pos_embd", None) is not None
    ]
    found: dict[int, Tensor] = {}
    hooks = [
        encoder.register_forward_hook(lambda module, _, output: found.update({id(module): output}))
        for _, encoder in encoders
    ]
    with torch.no_grad():
        fixed(torch.zeros(1, 3, HR_SIZE, HR_SIZE))
    for hook in hooks:
        hook.remove()
    for block, encoder in encoders:
        block.pos_embd = _Constant(found[id(encoder)].detach())
    return fixed


def onnx_graph(kind: Kind, sources: Sources) -> ModelProto:
    """The float32 ONNX graph of `kind`, with any batch size and any n from 8 to 64, without metadata."""
    face, coarseness = torch.rand(1, 3, HR_SIZE, HR_SIZE), torch.zeros(1)
    if kind == "edgeface":
        return _traced_onnx(with_fixed_positions(sources.recogniser()), (face * 2 - 1,), [INPUT])
    names = [ENLARGED, COARSENESS]
    if kind == "dsr":
        model = joined(graph_of(ENLARGE), _traced_onnx(DsrBody(sources.upscaler()), (face, coarseness), names))
        for node in model.graph.node:
            node.input[:] = [INPUT if name == LOW else name for name in node.input]
        model.graph.input[0].name = INPUT
        return model
    body = ChainBody(sources.upscaler(), with_fixed_positions(sources.recogniser()))
    return joined(joined(graph_of(FROM_BYTES), graph_of(ENLARGE)), _traced_onnx(body, (face, coarseness), names))


def _traced_onnx(module: nn.Module, arguments: tuple[Tensor, ...], names: list[str]) -> ModelProto:
    file = io.BytesIO()
    module = module.eval().to(memory_format=torch.contiguous_format)
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter by tracing is deprecated; it needs nothing but torch
            torch.onnx.export(
                module,
                arguments,
                file,  # type: ignore[arg-type]  # the exporter by tracing takes an open file
                input_names=names,
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        noisy.setLevel(level)
    model = onnx.load_model_from_string(file.getvalue())
    model.ir_version = IR_VERSION
    return free_batch(model)


def torchscript(kind: Kind, sources: Sources) -> torch.jit.ScriptModule:
    """The TorchScript of `kind`, for any batch size and any n from 8 to 64."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; TorchScript is what users of this pipeline pass on
        if kind == "edgeface":
            return torch.jit.script(sources.recogniser())
        if kind == "dsr":
            module = Enlarging(DsrBody(sources.upscaler()), from_bytes=False)
            return torch.jit.trace(module.eval(), torch.rand(2, 3, 24, 24), check_trace=False)
        scripted = torch.jit.script(sources.recogniser())
        module = Enlarging(ChainBody(sources.upscaler(), scripted), from_bytes=True)
        return torch.jit.trace(module.eval(), torch.zeros(2, 3, 24, 24, dtype=torch.uint8), check_trace=False)


def open_torchscript(path: Path) -> torch.jit.ScriptModule:
    """A TorchScript file, on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path), map_location="cpu")
