"""The forms that the API takes: their fields, checked, and how the OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from pipeline.distances import Metric
from pipeline.face_crops import LARGEST, SMALLEST
from pipeline.gallery import LONGEST_NAME

MOST_CANDIDATES = 20
MOST_PHOTOS = 4
IMAGE_TYPES = "image/jpeg, image/png, image/webp, image/bmp"

_BINARY = {"type": "string", "format": "binary"}
PhotoBytes = Annotated[bytes, WithJsonSchema(_BINARY), Field(description="A photo: JPEG, PNG, WebP or BMP")]
Photos = Annotated[
    list[bytes],
    WithJsonSchema({"type": "array", "items": _BINARY, "minItems": 1, "maxItems": MOST_PHOTOS}),
    Field(min_length=1, max_length=MOST_PHOTOS, description=f"1 to {MOST_PHOTOS} photos of this person"),
]
Aligned = Annotated[bool, Field(description="The photo is an aligned, square face already: no detector is used")]
Largest = Annotated[bool, Field(description="Take the largest face of a photo that shows several")]


class Form(BaseModel):
    """Fields of a `multipart/form-data` request; one that is not listed is an error."""

    model_config = ConfigDict(extra="forbid")
    files: ClassVar[tuple[str, ...]]
    """The fields that are files."""
    photos: ClassVar[int]
    """How many files there may be."""

    aligned: Aligned = False


class OneFace(Form):
    """A photo of which one face counts."""

    files = ("image",)
    photos = 1
    image: PhotoBytes
    largest: Largest = False


class VerifyForm(Form):
    """Two photos to compare."""

    files = ("image1", "image2")
    photos = 2
    image1: PhotoBytes
    image2: PhotoBytes
    metric: Annotated[Metric, Field(description="How the distance is measured")] = "cosine"
    largest: Largest = False


class EmbedForm(Form):
    """A photo of any number of people."""

    files = ("image",)
    photos = 1
    image: PhotoBytes


class UpscaleForm(OneFace):
    """A photo of a small face."""

    size: Annotated[
        int | None,
        Field(ge=SMALLEST, le=LARGEST, description="Side in pixels of what the DSR sees (default: the face's own)"),
        WithJsonSchema({"type": "integer", "minimum": SMALLEST, "maximum": LARGEST}),
    ] = None


class IdentifyForm(EmbedForm):
    """A photo of people who may be enrolled."""

    top: Annotated[int, Field(ge=1, le=MOST_CANDIDATES, description="How many candidates a face")] = 5


class EnrolForm(Form):
    """Photos of one person, and the name."""

    files = ("image",)
    photos = MOST_PHOTOS
    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, description="Who it is")]
    image: Photos
    largest: Largest = False


def request_body(form: type[Form]) -> dict[str, Any]:
    """How OpenAPI describes a request with this form."""
    encoding = {name: {"contentType": IMAGE_TYPES} for name in form.files}
    content = {"multipart/form-data": {"schema": form.model_json_schema(), "encoding": encoding}}
    return {"requestBody": {"required": True, "content": content}}
