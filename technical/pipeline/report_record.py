"""Reading evaluation records for a report: checked key by key, joined when there are several.

Everything after `read_records` may rely on the keys and types that are checked here. A record of several sections may
lack any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json

FORMAT = "dsr-edgeface-evaluation-1"
MOST_BYTES = 64 * 1024 * 1024
MOST_POINTS = 5000
CALIBRATED = (
    "threshold",
    "reject",
    "fmr",
    "fnmr",
    "fmr_held_out",
    "fnmr_held_out",
    "fmr_at_default",
    "fnmr_at_default",
)
GROUPED = ("fnmr", "fmr")

Entry = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """What a report is made from."""

    runs: list[Entry]
    """`title`, `run` and `threshold` of each record, with the `file` it came from."""
    sections: dict[str, list[Entry]]
    """By section, the entries of all records; those of two records that clash carry their record's name."""
    pictures: list[tuple[Path, Entry]] = field(default_factory=list)
    """The folder beside each record that has pictures, and what it holds."""

    @property
    def threshold(self) -> float | None:
        """The threshold the records share; None when they differ."""
        found = {run["threshold"] for run in self.runs}
        return found.pop() if len(found) == 1 else None


class _Checker:
    """Walks a record with the path of keys at hand, for errors that name them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, where: str, expected: str, found: Any) -> UserError:
        shown = type(found).__name__ if isinstance(found, dict | list) else repr(found)[:60]
        return UserError(
            f"{self.file}: {where}: expected {expected}, found {shown}. Make the record again with the command that "
            "wrote it."
        )

    def get(self, entry: Entry, key: str, where: str, check: Callable[[Any, str], None]) -> None:
        if key not in entry:
            raise UserError(
                f"{self.file}: {where or 'the record'} has no key '{key}'. Is it a whole evaluation record?"
            )
        check(entry[key], f"{where}.{key}" if where else key)

    def keys(self, entry: Any, where: str, needed: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
        self.mapping(entry, where)
        for key, check in needed.items():
            self.get(entry, key, where, check)
        for key, check in optional.items():
            if entry.get(key) is not None:
                self.get(entry, key, where, check)

    def mapping(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise self.fail(where or "the record", "an object", value)

    def text(self, value: Any, where: str) -> None:
        if not isinstance(value, str):
            raise self.fail(where, "text", value)

    def number(self, value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(where, "a finite number", value)

    def number_or_none(self, value: Any, where: str) -> None:
        if value is not None:
            self.number(value, where)

    def size(self, value: Any, where: str) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise self.fail(where, "a size in pixels or null", value)

    def count(self, value: Any, where: str) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise self.fail(where, "a count or null", value)

    def numbers(self, value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) > MOST_POINTS:
            raise self.fail(where, f"a list of at most {MOST_POINTS:,} numbers", value)
        for index, one in enumerate(value):
            self.number(one, f"{where}[{index}]")

    def interval(self, value: Any, where: str) -> None:
        if value is None:
            return
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(where, "[low, high] or null", value)
        self.numbers(value, where)

    def figures(self, value: Any, where: str) -> None:
        self.mapping(value, where)
        for key, one in value.items():
            check = self.interval if key.endswith("_ci95") else self.number_or_none
            check(one, f"{where}.{key}")

    def withheld(self, value: Any, where: str) -> None:
        self.mapping(value, where)
        for key, one in value.items():
            self.keys(one, f"{where}.{key}", {"reason": self.text}, {"upper95": self.number, "errors": self.number})

    def texts(self, value: Any, where: str) -> None:
        self.mapping(value, where)
        for key, one in value.items():
            if one is not None:
                self.text(one, f"{where}.{key}")

    def counts(self, value: Any, where: str) -> None:
        self.mapping(value, where)
        for key, one in value.items():
            self.count(one, f"{where}.{key}")

    def each(self, check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
        def every(value: Any, where: str) -> None:
            if not isinstance(value, list):
                raise self.fail(where, "a list", value)
            for index, one in enumerate(value):
                check(one, f"{where}[{index}]")

        return every

    def curve(self, *names: str) -> Callable[[Any, str], None]:
        def check(value: Any, where: str) -> None:
            self.keys(value, where, dict.fromkeys(names, self.numbers), {})
            lengths = {name: len(value[name]) for name in names}
            if len(set(lengths.values())) > 1 or 0 in lengths.values():
                raise self.fail(where, "lists of one length, not empty", lengths | {"lengths": "differ"})

        return check

    def histogram(self, value: Any, where: str) -> None:
        self.keys(value, where, dict.fromkeys(("edges", "genuine", "impostor"), self.numbers), {})
        edges = value["edges"]
        if any(len(value[name]) != len(edges) - 1 for name in ("genuine", "impostor")) or len(edges) < 2:
            raise self.fail(where, "one count less than edges", value)
        if any(after <= before for before, after in pairwise(edges)):
            raise self.fail(f"{where}.edges", "rising edges", value)


def read_records(paths: Sequence[Path]) -> Records:
    """Read and join records. Raises UserError naming the file and key for one that is malformed."""
    if not paths:
        raise UserError("No record was given: --json names at least one that an evaluation wrote.")
    found = [_read(path) for path in paths]
    runs = [
        {
            "file": path.name,
            "title": one.get("title") or path.stem,
            "run": one["run"],
            "threshold": one.get("threshold"),
        }
        for path, one in zip(paths, found, strict=True)
    ]
    candidates = [(run["title"], run["file"], str(path)) for run, path in zip(runs, paths, strict=True)]
    names = [_only_here(mine, candidates) for mine in candidates]
    sections = _joined(found, names)
    pictures = [
        (path.parent / one["pictures"]["folder"], one["pictures"])
        for path, one in zip(paths, found, strict=True)
        if one.get("pictures")
    ]
    return Records(runs, sections, pictures)


def _read(path: Path) -> Entry:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, expected a record below {MOST_BYTES:,}.")
    try:
        record = read_json(path)
    except (RecursionError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): expected an evaluation record.") from error
    check = _Checker(path)
    check.mapping(record, "")
    if record.get("format") != FORMAT:
        raise UserError(
            f"{path}: format: expected '{FORMAT}', found {str(record.get('format'))[:60]!r}. Give the --json file of "
            "an evaluation made for reports."
        )
    _check_record(check, record)
    for section in ("groups", "calibration"):
        for one in record.get(section) or []:
            one["degradation"] = one.get("degradation") or "canonical"  # which older records did not say
    return record


def _check_record(c: _Checker, record: Entry) -> None:
    judged = {"withheld": c.withheld, "few_errors": c.figures}
    method = {"recogniser": c.text, "method": c.text, "size": c.size}
    curves = {"risk_coverage": c.curve("coverage", "risk")}
    calibrated = c.each(_keys(c, {"size": c.size}, judged | curves, CALIBRATED))
    people = {"genuine": c.count, "impostor": c.count, "people": c.count}
    group = _keys(c, {"value": c.text}, judged | people, GROUPED)
    compared = {"figure": c.text, "higher": c.text, "lower": c.text, "ratio": c.number}
    ratios = c.each(_keys(c, compared, {"ratio_ci95": c.interval, "comparisons": c.count}))
    verification = {"pairs": c.counts, "curve": c.curve("fmr", "fnmr"), "histogram": c.histogram, "degradation": c.text}
    ranked = {"cmc": c.curve("rank", "rate"), "open_set": c.curve("fpir", "fnir"), "counts": c.counts}
    run = {"weights": c.texts, "data": c.texts, "versions": c.texts, "command": c.text, "seconds": c.number}
    run |= {"seed": c.count, "bootstrap": c.count, "device": c.text, "git_commit": c.text, "started": c.text}
    tile = _keys(c, {"label": c.text, "file": _file_name(c)}, {"cosine": c.number})
    grid = _keys(c, {"size": c.size, "rows": c.each(_keys(c, {"name": c.text, "tiles": c.each(tile)}, {}))}, {})
    names = {"first_file": _file_name(c), "second_file": _file_name(c)}
    pair = _keys(c, {"first": c.text, "second": c.text, "score": c.number}, names)
    failure = _keys(c, {"kind": c.text, "pairs": c.each(pair)}, {"threshold": c.number, "size": c.size})
    c.keys(
        record,
        "",
        {"run": _keys(c, {}, run)},
        {
            "title": c.text,
            "threshold": c.number,
            "verification": c.each(
                _keys(c, {**method, "protocol": c.text, "figures": c.figures}, {**judged, **verification})
            ),
            "differences": c.each(_keys(c, {**method, "minus": c.text, "figures": c.figures}, {"degradation": c.text})),
            "identification": c.each(_keys(c, {**method, "set": c.text, "figures": c.figures}, {**judged, **ranked})),
            "groups": c.each(
                _keys(
                    c,
                    {**method, "column": c.text, "rows": c.each(group)},
                    {"threshold": c.number, "ratios": ratios, "degradation": c.text},
                )
            ),
            "calibration": c.each(
                _keys(
                    c,
                    {"recogniser": c.text, "method": c.text, "sizes": calibrated},
                    {"wanted_fmr": c.number, "degradation": c.text},
                )
            ),
            "pictures": _keys(c, {"folder": _file_name(c)}, {"grids": c.each(grid), "failures": c.each(failure)}),
        },
    )


def _keys(
    c: _Checker, needed: Mapping[str, Any], optional: Mapping[str, Any], figures: Sequence[str] = ()
) -> Callable[[Any, str], None]:
    """A check of an object; `figures` stand in it directly, each with its interval, and may be missing."""

    def check(value: Any, where: str) -> None:
        c.keys(value, where, needed, optional)
        names = [key for name in figures for key in (name, f"{name}_ci95")]
        c.figures({name: value[name] for name in names if name in value}, where)

    return check


def _file_name(c: _Checker) -> Callable[[Any, str], None]:
    """A bare name: a record must not reach outside the folder beside it."""

    def check(value: Any, where: str) -> None:
        c.text(value, where)
        if value in ("", ".", "..") or any(sign in value for sign in "/\\\0:") or len(value) > 200:
            raise c.fail(where, "a file name without folders", value)

    return check


_IDENTITY: dict[str, tuple[str, ...]] = {
    "verification": ("recogniser", "protocol", "method", "size", "degradation"),
    "differences": ("recogniser", "protocol", "set", "method", "minus", "size", "degradation"),
    "identification": ("recogniser", "method", "size", "degradation", "set"),
    "groups": ("column", "recogniser", "protocol", "method", "size", "degradation"),
    "calibration": ("recogniser", "protocol", "method", "wanted_fmr", "degradation"),
}


def _only_here(mine: Sequence[str], candidates: Sequence[Sequence[str]]) -> str:
    """The shortest name of a record that no other has: its title, its file, or its path."""
    alike = [[other[kind] for other in candidates].count(name) for kind, name in enumerate(mine)]
    return next((name for name, count in zip(mine, alike, strict=True) if count == 1), mine[-1])


def _joined(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Entry]]:
    """All entries by section; a record's recognisers are renamed, in all of them, where one of its figures is another's
    with another value under the same keys."""
    seen: dict[str, dict[tuple[Any, ...], Entry]] = {section: {} for section in _IDENTITY}
    for record, name in zip(records, names, strict=True):
        own = {section: record.get(section) or [] for section in _IDENTITY}
        clash = any(seen[key].get(_key(key, one), one) != one for key, entries in own.items() for one in entries)
        for key, entries in own.items():
            for one in entries:
                if clash:
                    one = one | {"recogniser": f"{one['recogniser']} ({name})"}
                    if " of " in (one.get("minus") or ""):  # another recogniser's, which is renamed as well
                        one["minus"] = f"{one['minus']} ({name})"
                seen[key].setdefault(_key(key, one), one)
    return {section: list(entries.values()) for section, entries in seen.items()}


def _key(section: str, entry: Entry) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in _IDENTITY[section])


def distinct(entries: Iterable[Entry], *keys: str) -> list[tuple[Any, ...]]:
    """The combinations of values of `keys` that occur, in order of first appearance."""
    return list(dict.fromkeys(tuple(entry.get(key) for key in keys) for entry in entries))
