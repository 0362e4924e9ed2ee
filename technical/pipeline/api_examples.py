"""Answers that the API gave to made-up faces, for its description: `tests/pipeline/test_api.py` keeps them in form."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def example(name: str) -> Any:
    """The answer of the route `name`."""
    return json.loads((files("pipeline") / "api_examples.json").read_text(encoding="utf-8"))[name]
