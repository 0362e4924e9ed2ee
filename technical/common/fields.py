"""Reading a JSON object strictly: every value is checked as it is taken, and an error names the file and the key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError


@dataclass(frozen=True)
class Fields:
    """One JSON object of a file. Raises UserError when it is none."""

    path: Path
    prefix: str
    """What stands before a key in errors, as in `sizes[0].`; empty for the file itself."""
    values: Any
    advice: str
    """What to do about an error: one sentence."""

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            where = f"'{self.prefix.rstrip('.')}'" if self.prefix else "the file"
            raise UserError(f"{self.path}: {where} is no JSON object. {self.advice}")

    def error(self, key: str, expected: str, show: bool = True) -> UserError:
        """The error for a value that is not as `expected`; the value stands in it unless `show` is false."""
        found = f", found {self.values.get(key)!r}" if show else ""
        return UserError(f"{self.path}, key '{self.prefix}{key}': {expected}{found}. {self.advice}")

    def get(self, key: str) -> Any:
        """The value, whatever it is; UserError when the key is missing."""
        if key not in self.values:
            raise UserError(f"{self.path}: key '{self.prefix}{key}' is missing. {self.advice}")
        return self.values[key]

    def section(self, key: str) -> Fields:
        """The object under `key`."""
        return Fields(self.path, f"{self.prefix}{key}.", self.get(key), self.advice)

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "expected text")
        return value

    def text_or_none(self, key: str) -> str | None:
        """A string that is not empty, or null."""
        return None if self.get(key) is None else self.text(key)

    def count(self, key: str) -> int:
        """A whole number from 1."""
        value = self.get(key)
        if type(value) is not int or value < 1:
            raise self.error(key, "expected a whole number from 1")
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A number from `low` to `high`; NaN and infinities are refused."""
        value = self.get(key)
        try:
            finite = type(value) in (int, float) and math.isfinite(value)
        except OverflowError:  # a whole number of hundreds of digits
            finite = False
        if not finite or not low <= value <= high:
            raise self.error(key, "expected a number" + (f" from {low} to {high}" if math.isfinite(low) else ""))
        return float(value)

    def number_or_none(self, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """As `number`, or null."""
        return None if self.get(key) is None else self.number(key, low, high)
