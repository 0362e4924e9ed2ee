"""Strict reading of a JSON object: every refusal names the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.fields import Fields


def fields(**values: Any) -> Fields:
    return Fields(Path("a.json"), "", values, "Make it again.")


def test_values_are_taken_as_they_are() -> None:
    read = fields(text="x", count=3, number=1, none=None, inner={"key": 0.5})
    assert (read.text("text"), read.count("count"), read.number("number", 0, 2)) == ("x", 3, 1.0)
    assert read.text_or_none("none") is None
    assert read.text_or_none("text") == "x"
    assert read.number_or_none("none") is None
    assert read.section("inner").number_or_none("key") == 0.5


@pytest.mark.parametrize(
    ("values", "take", "words"),
    [
        ({}, lambda f: f.text("k"), "a.json: key 'k' is missing. Make it again."),
        ({"k": ""}, lambda f: f.text("k"), "key 'k': expected text, found ''"),
        ({"k": 3}, lambda f: f.text_or_none("k"), "expected text, found 3"),
        ({"k": 1.0}, lambda f: f.count("k"), "expected a whole number from 1, found 1.0"),
        ({"k": True}, lambda f: f.count("k"), "whole number"),
        ({"k": 0}, lambda f: f.count("k"), "whole number"),
        ({"k": float("nan")}, lambda f: f.number("k"), "expected a number, found nan"),
        ({"k": float("inf")}, lambda f: f.number_or_none("k"), "expected a number, found inf"),
        ({"k": "0.1"}, lambda f: f.number("k", -1, 1), "expected a number from -1 to 1, found '0.1'"),
        ({"k": 2}, lambda f: f.number("k", -1, 1), "found 2"),
        ({"k": True}, lambda f: f.number("k", -1, 1), "found True"),
        ({"k": [1]}, lambda f: f.section("k"), "'k' is no JSON object"),
        ({"k": {}}, lambda f: f.section("k").text("x"), "key 'k.x' is missing"),
    ],
)
def test_refusals_name_file_and_key(values: dict[str, Any], take: Any, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        take(fields(**values))
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("a.json")


def test_a_file_that_is_no_object_is_refused() -> None:
    with pytest.raises(UserError, match=r"a\.json: the file is no JSON object"):
        Fields(Path("a.json"), "", [1], "Make it again.")


def test_a_number_of_hundreds_of_digits_is_refused() -> None:
    with pytest.raises(UserError, match=r"x.*expected a number"):
        fields(x=10**400).number("x")
