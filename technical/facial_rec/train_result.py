"""What a training from scratch leaves: a plain state dict, and a JSON beside it that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.files import sha256_of, write_json, write_with
from facial_rec.edgeface import EMBEDDING_DIM, EdgeFace, count_parameters
from facial_rec.weights import recognise


def save_weights(path: Path, model: EdgeFace, metadata: Mapping[str, Any]) -> None:
    """Write the state dict to `path`, which every loader of EdgeFace weights reads, and `metadata` to `<stem>.json`."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # by name, torch would write that name inside: another sha256 every time
            torch.save(state, file)

    write_with(path, write)
    about = {
        "file": path.name,
        "sha256": sha256_of(path),
        "variant": recognise(state, path)[0],
        "parameters": count_parameters(model),
        "input": "RGB (B, 3, 112, 112), x * 2 - 1 for x in [0, 1]",
        "output": f"(B, {EMBEDDING_DIM}), compare with cosine similarity",
    }
    write_json(path.with_suffix(".json"), {**about, **metadata})
