"""The chain: evaluation, export, and recognition.

`from pipeline import Recogniser` gives the Python API; it is imported when it is first asked for, and never with torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import common  # noqa: F401  before anything imports onnxruntime

if TYPE_CHECKING:
    from pipeline.aligned_face import get_aligned_face
    from pipeline.gallery import open_gallery
    from pipeline.recogniser import Recogniser, RecogniserSettings

__all__ = ["Recogniser", "RecogniserSettings", "get_aligned_face", "open_gallery"]

_HOME = {
    "Recogniser": "recogniser",
    "RecogniserSettings": "recogniser",
    "get_aligned_face": "aligned_face",
    "open_gallery": "gallery",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    return getattr(import_module(f"pipeline.{_HOME[name]}"), name)
