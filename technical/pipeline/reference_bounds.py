"""What the shipped models are asked for on LFW, and a table that says of each bound whether it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from facial_rec.bootstrap import Interval
from facial_rec.tables import format_table, number, percent

ACCURACY = {
    ("lr-lr", 16): 0.970,
    ("lr-lr", 24): 0.985,
    ("lr-lr", 32): 0.990,
    ("lr-hr", 16): 0.980,
    ("lr-hr", 24): 0.989,
    ("lr-hr", 32): 0.991,
}
TAR_16 = 0.90
HR_ACCURACY = 0.992
PSNR_GAIN_16 = 1.5
PSNR = {24: 28.5, 32: 31.5}
IDENTITY_RATIO_16 = 0.75
IDENTITY = {24: 0.16, 32: 0.07}
CHAIN_IDENTITY_RATIO_16 = 0.60
RANK1_GAIN = 0.15
INDEPENDENT_GAIN = 0.06
UNBOUND_SIZES = (8, 12)  # asked only not to be below bicubic
OTHERS = {"large": "larger", "mirrored": "mirrored"}  # DSRs beside the default one, of which no bound is asked

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One bound: what is asked, what was measured, and the baseline on the same images."""

    name: str
    chain: str
    baseline: str
    difference: str
    asked: str
    reached: bool


@dataclass(frozen=True)
class Names:
    """The recognisers in the records, by the stems of their files."""

    original: str
    shipped: str
    independent: str | None = None


def bound_rows(parts: Mapping[str, Any], names: Names) -> list[Row]:
    """A row for each bound that `parts` has figures for.

    `parts`: evaluation records by name: `canonical`, `realistic-mild`, `-medium`, `-severe`, `identification`, and
    `independent` (of MobileFaceNet).
    """
    canonical = parts["canonical"]
    rows = [*_verification(canonical, names), *_images(canonical, names)]
    if "identification" in parts:
        rows.append(_rank1(parts["identification"], names))
    if "independent" in parts and names.independent is not None:
        rows += _independent(parts["independent"], names.independent)
    rows += _never_below(canonical, names, UNBOUND_SIZES)
    for severity in (name for name in parts if name.startswith("realistic")):
        rows += _never_below(parts[severity], names, sizes_of(parts[severity]))
    return rows


def bounds_table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    header = ["", "shipped", "baseline", "difference", "asked", ""]
    cells = [
        [row.name, row.chain, row.baseline, row.difference, row.asked, "reached" if row.reached else "NOT reached"]
        for row in rows
    ]
    return format_table(header, cells)


def figures(record: Mapping[str, Any], recogniser: str, protocol: str, size: int | None, method: str) -> Figures:
    """The figures of one case of a verification record."""
    wanted = {"recogniser": recogniser, "protocol": protocol, "size": size, "method": method}
    return _only(record["verification"], wanted)


def gap(
    record: Mapping[str, Any], recogniser: str, protocol: str, size: int | None, method: str, minus: str
) -> Figures:
    """The differences of one case, `minus` being `bicubic` or `<method> of <recogniser>`."""
    wanted = {"recogniser": recogniser, "protocol": protocol, "size": size, "method": method, "minus": minus}
    return _only(record["differences"], wanted)


def sizes_of(record: Mapping[str, Any]) -> list[int]:
    """The low resolutions of a verification record, rising."""
    return sorted({entry["size"] for entry in record["verification"] if entry["size"] is not None})


def _only(entries: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> Figures:
    (found,) = [entry["figures"] for entry in entries if wanted.items() <= entry.items()]
    return dict(found)


def _verification(record: Mapping[str, Any], names: Names) -> Iterator[Row]:
    for (protocol, size), asked in ACCURACY.items():
        yield _compared(record, names, protocol, size, "accuracy", "accuracy", asked)
    yield _compared(record, names, "lr-hr", 16, "tar@fmr=1e-3", "TAR at FMR 1e-3", TAR_16)
    ours, theirs = (figures(record, one, "lr-lr", None, "hr") for one in (names.shipped, names.original))
    between = gap(record, names.shipped, "lr-lr", None, "hr", f"hr of {names.original}")
    yield Row(
        "HR-HR accuracy, %",
        *_cells("accuracy", ours, theirs, between, percent),
        f">= {100 * HR_ACCURACY:.1f}",
        _at_least(ours["accuracy"], HR_ACCURACY),
    )


def _compared(
    record: Mapping[str, Any], names: Names, protocol: str, size: int, figure: str, label: str, asked: float
) -> Row:
    ours = figures(record, names.shipped, protocol, size, "dsr")
    theirs = figures(record, names.original, protocol, size, "bicubic")
    between = gap(record, names.shipped, protocol, size, "dsr", f"bicubic of {names.original}")
    cells = _cells(figure, ours, theirs, between, percent)
    name = f"{protocol.upper()} {size} {label}, %"
    return Row(name, *cells, f">= {100 * asked:.1f}", _at_least(ours[figure], asked))


def _images(record: Mapping[str, Any], names: Names) -> Iterator[Row]:
    """PSNR, SSIM and the identity loss, which are of single images: those of the LR-LR pairs."""

    def row(name: str, figure: str, size: int, asked: str, test: Callable[[float, float], bool]) -> Row:
        ours, theirs = (figures(record, names.original, "lr-lr", size, method) for method in ("dsr", "bicubic"))
        between = gap(record, names.original, "lr-lr", size, "dsr", "bicubic")
        decimals = 2 if figure == "psnr" else 4
        cells = _cells(figure, ours, theirs, between, partial(number, decimals=decimals))
        return Row(name, *cells, asked, test(ours[figure], theirs[figure]))

    for size in sizes_of(record):
        if size == 16:
            yield row("PSNR 16, dB", "psnr", 16, f">= bicubic + {PSNR_GAIN_16}", lambda a, b: a - b >= PSNR_GAIN_16)
        elif size in PSNR:
            yield row(f"PSNR {size}, dB", "psnr", size, f"> {PSNR[size]}", lambda a, _, s=size: a > PSNR[s])  # type: ignore[misc]
        yield row(f"SSIM {size}", "ssim", size, "> bicubic", lambda a, b: a > b)
    name, asked = "identity loss 16, original EdgeFace", f"<= {IDENTITY_RATIO_16} x bicubic"
    yield row(name, "identity_loss", 16, asked, lambda a, b: a <= IDENTITY_RATIO_16 * b)
    for size, most in IDENTITY.items():
        name = f"identity loss {size}, original EdgeFace"
        yield row(name, "identity_loss", size, f"<= {most}", lambda a, _, m=most: a <= m)  # type: ignore[misc]
    ours = figures(record, names.shipped, "lr-lr", 16, "dsr")
    theirs = figures(record, names.original, "lr-lr", 16, "bicubic")
    between = gap(record, names.shipped, "lr-lr", 16, "dsr", f"bicubic of {names.original}")
    yield Row(
        "identity loss 16, shipped chain",
        *_cells("identity_loss", ours, theirs, between, partial(number, decimals=4)),
        f"<= {CHAIN_IDENTITY_RATIO_16} x bicubic",
        ours["identity_loss"] <= CHAIN_IDENTITY_RATIO_16 * theirs["identity_loss"],
    )


def _rank1(record: Mapping[str, Any], names: Names) -> Row:
    def case(recogniser: str, method: str) -> Figures:
        wanted = {"recogniser": recogniser, "set": "closed", "size": 16, "method": method}
        return _only(record["identification"], wanted)

    ours, theirs = case(names.shipped, "dsr"), case(names.original, "bicubic")
    minus = {"minus": f"bicubic of {names.original}", "recogniser": names.shipped, "set": "closed", "size": 16}
    between = _only(record["differences"], minus)
    cells = _cells("rank1", ours, theirs, between, percent)
    return Row("rank-1 at 16, %", *cells, f"bicubic + {100 * RANK1_GAIN:.0f}", _at_least(between["rank1"], RANK1_GAIN))


def _independent(record: Mapping[str, Any], recogniser: str) -> Iterator[Row]:
    for protocol in ("lr-lr", "lr-hr"):
        ours, theirs = (figures(record, recogniser, protocol, 16, method) for method in ("dsr", "bicubic"))
        between = gap(record, recogniser, protocol, 16, "dsr", "bicubic")
        cells = _cells("accuracy", ours, theirs, between, percent)
        reached = _at_least(between["accuracy"], INDEPENDENT_GAIN)
        name = f"{protocol.upper()} 16 accuracy, MobileFaceNet, %"
        yield Row(name, *cells, f"bicubic + {100 * INDEPENDENT_GAIN:.0f}", reached)


def _never_below(record: Mapping[str, Any], names: Names, sizes: Sequence[int]) -> Iterator[Row]:
    """Accuracy of the shipped chain and PSNR: not below bicubic (and the original EdgeFace) beyond the interval."""
    degradation = record["verification"][0]["degradation"]
    for size in sizes:
        for protocol in ("lr-lr", "lr-hr"):
            ours = figures(record, names.shipped, protocol, size, "dsr")
            theirs = figures(record, names.original, protocol, size, "bicubic")
            between = gap(record, names.shipped, protocol, size, "dsr", f"bicubic of {names.original}")
            cells = _cells("accuracy", ours, theirs, between, percent)
            name = f"{protocol.upper()} {size} accuracy, {degradation}, %"
            yield Row(name, *cells, "not below", _not_below(between, "accuracy"))
        ours, theirs = (figures(record, names.original, "lr-lr", size, method) for method in ("dsr", "bicubic"))
        between = gap(record, names.original, "lr-lr", size, "dsr", "bicubic")
        cells = _cells("psnr", ours, theirs, between, partial(number, decimals=2))
        yield Row(f"PSNR {size}, {degradation}, dB", *cells, "not below", _not_below(between, "psnr"))


def _not_below(between: Figures, figure: str) -> bool:
    interval: Interval | None = between.get(f"{figure}_ci95")
    return _at_least(interval[1] if interval else between[figure], 0.0)


def _at_least(value: float | None, asked: float) -> bool:
    """A figure that is withheld, because nearly no errors stand behind it, reaches nothing."""
    return value is not None and value >= asked


def _cells(
    figure: str, ours: Figures, theirs: Figures, between: Figures, show: Callable[..., str]
) -> tuple[str, str, str]:
    interval = f"{figure}_ci95"
    return (
        show(ours[figure], ours.get(interval)),
        show(theirs[figure], theirs.get(interval)),
        show(between[figure], between.get(interval), signed=True),
    )
