"""What `pipeline.calibrate` prints: thresholds, their error rates, those of 0.35, and what confidence is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facial_rec.bootstrap import Interval
from facial_rec.faceset import HR_SIZE
from facial_rec.tables import ABSENT, FOOTNOTE, format_table, has_few, judged, judged_parts, number, percent
from facial_rec.thresholds import DEFAULT_THRESHOLD, Thresholds
from pipeline.development_set import DevelopmentPairs

Entry = Mapping[str, Any]


def print_calibration(
    thresholds: Thresholds, entries: Sequence[Entry], pairs: DevelopmentPairs, training_faces: bool
) -> None:
    """All tables; with `training_faces` a warning that the DSR has probably learnt from these faces."""
    made, genuine = thresholds.development_set, int(pairs.genuine.sum())
    print(
        f"\n{made.label}: {made.images:,} images of {made.people:,} people, {genuine:,} genuine and "
        f"{len(pairs) - genuine:,} impostor pairs; {thresholds.protocol}, {thresholds.degradation} degradation."
    )
    if training_faces:
        print("Warning: this looks like the training split. On faces it has learnt from the DSR does better than it")
        print("will on others, so these thresholds promise too much: prefer faces that it has not seen.")
    rows = [(entry["method"], row) for entry in entries for row in entry["sizes"]]
    print(f"\nWanted: FMR {thresholds.wanted_fmr:g}, FNMR of the answer 'different' {thresholds.wanted_fnmr:g}\n")
    print(_threshold_table(rows))
    print("\n'used' marks the method in the file. Held out: thresholds chosen without the people they are tried on.")
    print(f"\nAt one threshold of {DEFAULT_THRESHOLD} for all sizes\n\n{_default_table(rows)}")
    if any(value is not None for _, row in rows for name, value in row.items() if name.endswith("_ci95")):
        print("\nIn brackets: 95 % intervals from resampled people.")
    if has_few([row for _, row in rows]):
        print(FOOTNOTE)
    for reason in _reasons(rows):
        print(f"- {reason}")
    if any(entry["measures"] for entry in entries):
        print(f"\n{_measure_table(entries)}\n\n{_verdict(thresholds)}")


def _threshold_table(rows: Sequence[tuple[str, Entry]]) -> str:
    header = ["", "threshold", "reject", "FMR, %", "FNMR, %", "FMR held out, %", "FNMR held out, %"]
    header += ["genuine answered, %", "impostors answered, %"]
    table = []
    for name, row in _named(rows):
        cells = [name, judged({**row, "figures": row}, "threshold", number), number(row["reject"])]
        cells += [_rate(row, "fmr", interval=False), _rate(row, "fnmr")]
        cells += [_rate(row, "fmr_held_out"), _rate(row, "fnmr_held_out")]
        table.append([*cells, *(_rate(row, key, interval=False) for key in ("answered_genuine", "answered_impostor"))])
    return format_table(header, table)


def _default_table(rows: Sequence[tuple[str, Entry]]) -> str:
    names = ("fmr_at_default", "fnmr_at_default")
    table = [[name, *(_rate(row, key) for key in names)] for name, row in _named(rows)]
    return format_table(["", f"FMR at {DEFAULT_THRESHOLD}, %", f"FNMR at {DEFAULT_THRESHOLD}, %"], table)


def _named(rows: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """HR once, as the last; the others by size, as `16 dsr, used`."""
    low = [(row["size"], method, row) for method, row in rows if row["size"] is not None]
    named = [
        (f"{size} {method}" + (", used" if row["method_in_use"] == method else ""), row)
        for size, method, row in sorted(low, key=lambda one: (one[0], one[1]))
    ]
    return named + [("HR", row) for _, row in rows if row["size"] is None][:1]


def _rate(row: Entry, name: str, interval: bool = True) -> str:
    parts = judged_parts({**row, "figures": row}, name, _percent3 if name.startswith("fmr") else percent)
    return " ".join(parts).rstrip() if interval else parts[0]


def _percent3(value: float | None, interval: Interval | None = None) -> str:
    """With three decimals: a false match rate of 1e-3 has no two digits in two."""
    scaled = None if interval is None else (100 * interval[0], 100 * interval[1])
    return number(None if value is None else 100 * value, scaled)


def _reasons(rows: Sequence[tuple[str, Entry]]) -> list[str]:
    """Why figures are missing, each reason once with its sizes."""
    found: dict[str, list[str]] = {}
    for name, row in _named(rows):
        for key, why in row["withheld"].items():
            found.setdefault(f"{key}: {why['reason']}", []).append(name)
    return [f"{reason} ({'; '.join(names)})" for reason, names in found.items()]


def _measure_table(entries: Sequence[Entry]) -> str:
    every = [one for entry in entries for one in entry["measures"]]
    shown: dict[str, list[str]] = {}
    for one in sorted(every, key=lambda one: one["size"] or HR_SIZE):
        name = ("HR" if one["size"] is None else f"{one['size']} {one['method']}") + f", {one['measure']}"
        refusal = one["refusal"]
        gain = ABSENT if refusal is None else percent(refusal["gain"], refusal["gain_ci95"], signed=True)
        risk = ABSENT if refusal is None else percent(refusal["risk"])
        aurc = [percent(one["aurc"]), percent(one["aurc_random"]), percent(one["gain"], one["gain_ci95"], signed=True)]
        shown[name] = [name, *aurc, risk, gain]
    header = ["confidence", "AURC, %", "random, %", "gain, %", "risk answered, %", "gain of refusing, %"]
    return format_table(header, list(shown.values()))


def _verdict(thresholds: Thresholds) -> str:
    if thresholds.quality_measure is None:
        return "No measure of quality lowers the risk of the answers beyond its interval: none is in the file."
    sizes = ", ".join(
        "HR" if row.size is None else str(row.size) for row in thresholds.sizes if row.quality_cutoff is not None
    )
    return f"Probes with a low {thresholds.quality_measure} are refused at: {sizes}."
