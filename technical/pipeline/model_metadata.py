"""What an exported model says about itself, kept inside the file; and what it takes and gives.

An ONNX file holds it in its metadata properties (Netron shows them), a TorchScript in `metadata.json`. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from common.errors import UserError
from common.fields import Fields
from facial_rec.thresholds import Thresholds

FORMAT = "dsr-edgeface-model-1"
AGAIN = "Make it again with `python -m pipeline.export`."

Kind = Literal["edgeface", "dsr", "chain"]
Precision = Literal["float32", "fp16", "int8", "int8-dynamic"]


@dataclass(frozen=True)
class Border:
    """What a kind of model takes and gives, in words for people and numbers for checks."""

    input: str
    output: str
    preprocessing: str
    dtype: str
    low: float
    high: float
    """Range of the input's values."""
    sizes: tuple[int, int]
    """Smallest and largest side of the input in pixels."""
    result: tuple[int, ...]
    """Shape of the output for one image."""


BORDERS: dict[Kind, Border] = {
    "edgeface": Border(
        input="float32 (N, 3, 112, 112), RGB in [-1, 1]",
        output="float32 (N, 512), of any length: compare with cosine similarity",
        preprocessing="face aligned to the 112x112 ArcFace template, RGB, x / 127.5 - 1 for x in 0..255",
        dtype="float32",
        low=-1.0,
        high=1.0,
        sizes=(112, 112),
        result=(512,),
    ),
    "dsr": Border(
        input="float32 (N, 3, n, n), RGB in [0, 1], n from 8 to 64",
        output="float32 (N, 3, 112, 112), RGB in [0, 1]",
        preprocessing="face aligned to the ArcFace template at its own size, RGB, x / 255 for x in 0..255",
        dtype="float32",
        low=0.0,
        high=1.0,
        sizes=(8, 64),
        result=(3, 112, 112),
    ),
    "chain": Border(
        input="uint8 (N, 3, n, n), RGB, n from 8 to 64",
        output="float32 (N, 512), of length 1: the dot product is the cosine similarity",
        preprocessing="face aligned to the ArcFace template at its own size, RGB; nothing else",
        dtype="uint8",
        low=0,
        high=255,
        sizes=(8, 64),
        result=(512,),
    ),
}


@dataclass(frozen=True)
class ModelMetadata:
    """What an exported model is, and what it was made from."""

    kind: Kind
    precision: Precision
    variant: str
    """Such as `edgeface_xxs`, `dsr`, `dsr + edgeface_xxs`."""
    source_sha256: Mapping[str, str]
    """SHA-256 of the weights files, by `edgeface` and `dsr`."""
    licence: str
    versions: Mapping[str, str]
    thresholds: Thresholds | None = None
    """From `pipeline.calibrate`, where it was made for these weights."""

    @property
    def border(self) -> Border:
        """What the model takes and gives."""
        return BORDERS[self.kind]

    def properties(self) -> dict[str, str]:
        """Every field as text, for the file; JSON where it is no plain text."""
        found = {
            "format": FORMAT,
            "kind": self.kind,
            "precision": self.precision,
            "variant": self.variant,
            "input": self.border.input,
            "output": self.border.output,
            "preprocessing": self.border.preprocessing,
            "licence": self.licence,
            "source_sha256": json.dumps(dict(self.source_sha256), sort_keys=True),
            "versions": json.dumps(dict(self.versions), sort_keys=True),
        }
        if self.thresholds is not None:
            found["thresholds"] = json.dumps(self.thresholds.values())
        return found

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: Path) -> ModelMetadata:
        """Read what `properties` wrote. Raises UserError, naming `path` and key, for anything else."""
        if properties.get("format") != FORMAT:
            raise UserError(
                f"{path} was not written by pipeline.export, or its end is missing: expected metadata of format "
                f"{FORMAT}, found {properties.get('format', 'none')}. {AGAIN}"
            )
        content = Fields(path, "", {**properties, **_decoded(properties, path)}, AGAIN)
        for key, allowed in (("kind", get_args(Kind)), ("precision", get_args(Precision))):
            if content.get(key) not in allowed:
                raise content.error(key, f"expected one of {', '.join(allowed)}")
        found = content.values
        return cls(
            kind=found["kind"],
            precision=found["precision"],
            variant=content.text("variant"),
            source_sha256=content.section("source_sha256").values,
            licence=content.text("licence"),
            versions=content.section("versions").values,
            thresholds=Thresholds.from_values(found["thresholds"], path) if "thresholds" in found else None,
        )


def _decoded(properties: Mapping[str, str], path: Path) -> dict[str, Any]:
    found = {}
    for key in ("source_sha256", "versions", "thresholds"):
        if key in properties:
            try:
                found[key] = json.loads(properties[key])
            except ValueError as error:
                raise UserError(f"{path}, metadata key '{key}': expected JSON ({error}). {AGAIN}") from error
    return found
