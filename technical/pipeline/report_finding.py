"""The main finding of a report in plain words, worked out from its records."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.html import Markup, block, paragraph
from pipeline.report_charts import operating_size
from pipeline.report_record import Entry, Records
from pipeline.report_tables import bound, excludes_zero, figure_of, method_name

LEADING = ("accuracy", "tar@fmr=1e-2", "tar@fmr=1e-3", "auc")
PROTOCOLS = ("lr-hr", "lr-lr", "templates")


def finding(records: Records) -> list[str]:
    """The lead paragraph, figures of HR, bicubic and DSR side by side, and a second sentence on strict operation."""
    entries = leading_entries(records.sections["verification"])
    parts = _verification(entries, records) if entries else _identification(records)
    return parts or [paragraph(f"This report holds {_holdings(records)}.", "lead")]


def leading_entries(verification: Sequence[Entry]) -> list[Entry]:
    """The entries the report leads with: LR-HR, canonical reduction, first recogniser, the size nearest 16 pixels."""
    low = [one for one in verification if one["size"] is not None and _has_any(one, LEADING)]
    if not low:
        return []
    rank = {name: index for index, name in enumerate(PROTOCOLS)}
    first = min(low, key=lambda one: (rank.get(one["protocol"], 9), one.get("degradation") not in (None, "canonical")))
    same = [one for one in verification if _place(one) == _place(first)]
    size = operating_size([one for one in same if one in low])
    return [one for one in verification if _matches(one, first, size)]


def _has_any(entry: Entry, names: Sequence[str]) -> bool:
    return any(entry["figures"].get(name) is not None for name in names)


def _place(entry: Entry) -> tuple[object, ...]:
    return entry["recogniser"], entry["protocol"], entry.get("degradation") or "canonical"


def _matches(one: Entry, first: Entry, size: int | None) -> bool:
    if one["method"] == "hr":  # the full images were never reduced, whatever the reduction
        return (one["recogniser"], one["protocol"]) == (first["recogniser"], first["protocol"])
    return _place(one) == _place(first) and one["size"] == size


def _verification(entries: Sequence[Entry], records: Records) -> list[str]:
    methods = {one["method"]: one for one in reversed(entries)}
    low = next(one for one in entries if one["size"] is not None and _has_any(one, LEADING))
    name = next(name for name in LEADING if _has_any(low, [name]))
    what = {"accuracy": "decides {} of the pairs rightly"}.get(name, _noun(name) + " is {}")
    words = _sentence(methods, name, what, f"At {low['size']} pixels ({low['protocol'].upper()}, {low['recogniser']})")
    parts = [paragraph(Markup(words + " " + _verdict(_gap(records, low, name), name)), "lead")]
    parts.append(_figures(methods, name))
    strict = next((one for one in ("tar@fmr=1e-3", "tar@fmr=1e-2") if one != name and _has_any(low, [one])), None)
    if strict and {"dsr", "bicubic"} <= methods.keys():
        words = _sentence(methods, strict, _noun(strict) + " is {}", "Where false matches must be rare")
        few = any(strict in (one.get("few_errors") or {}) for one in methods.values())
        caution = "Fewer than 30 errors are behind some of these: read them as an order of magnitude." if few else ""
        sentences = [words, _verdict(_gap(records, low, strict), strict), caution]
        parts.append(paragraph(Markup(" ".join(sentence for sentence in sentences if sentence))))
    return parts


def _noun(name: str) -> str:
    label = escape(figure_of(name).label.removesuffix(", %"))
    return f"the {label}" if label.startswith("TAR") else label


def _sentence(methods: dict[str, Entry], name: str, what: str, opening: str) -> str:
    known = {key: one for key, one in methods.items() if one["figures"].get(name) is not None}
    subject = "dsr" if "dsr" in known else next(key for key in ("bicubic", *known) if key in known)
    rest = [f"{_amount(known['bicubic'], name)} with bicubic enlargement" if "bicubic" in known != subject else ""]
    if subject == "bicubic":
        rest = []
    if "hr" in known and subject != "hr":
        rest.append(f"{_amount(known['hr'], name)} with the full images")
    who = f"<strong>{escape(method_name(subject))}</strong>"
    main = f"{who} {what.format(_amount(known[subject], name))}"
    if not what.startswith("decides"):
        main = f"{what.format(_amount(known[subject], name))} with {who}"
    against = " and ".join(word for word in rest if word)
    return f"{escape(opening)}, {main}" + (f", against {against}." if against else ".")


def _amount(entry: Entry, name: str) -> str:
    figure = figure_of(name)
    interval = entry["figures"].get(f"{name}_ci95")
    ends = f" [{figure.write(interval[0])}, {figure.write(interval[1])}]" if interval else ""
    return f"<strong>{escape(figure.write(entry['figures'][name]))} %</strong>{escape(ends)}"


def _gap(records: Records, low: Entry, name: str) -> tuple[float, Sequence[float] | None] | None:
    """DSR minus bicubic with its interval, where the records have it."""
    for one in records.sections["differences"]:
        same = _place(one | {"protocol": one.get("protocol")}) == _place(low) and one["size"] == low["size"]
        if same and (one["method"], one["minus"]) == ("dsr", "bicubic") and one["figures"].get(name) is not None:
            return one["figures"][name], one["figures"].get(f"{name}_ci95")
    return None


def _verdict(gap: tuple[float, Sequence[float] | None] | None, name: str) -> str:
    if gap is None:
        return ""
    value, interval = gap
    figure = figure_of(name)
    size = f"{escape(figure.write(value, signed=True))} points"
    if interval is None:
        return f"DSR minus bicubic is {size}; no interval was computed, so chance is not ruled out."
    ends = f"[{figure.write(interval[0], signed=True)}, {figure.write(interval[1], signed=True)}]"
    if not excludes_zero(interval):
        return (
            f"DSR minus bicubic is {size}, but its 95 % interval {ends} includes zero: on these pairs the two "
            "<strong>cannot be told apart</strong>."
        )
    better = (value > 0) == figure.higher_is_better
    word = "better" if better else "worse"
    return (
        f"DSR minus bicubic is {size}, and its 95 % interval {ends} excludes zero: DSR is <strong>{word}</strong> than "
        "bicubic here beyond chance."
    )


def _figures(methods: dict[str, Entry], name: str) -> str:
    """The leading figure of each method in large type."""
    figure = figure_of(name)
    cards = []
    for method in ("hr", "dsr", "bicubic"):
        entry = methods.get(method, {"figures": {}})
        value, interval = entry["figures"].get(name), entry["figures"].get(f"{name}_ci95")
        withheld = (entry.get("withheld") or {}).get(name) or {}
        if value is None and withheld.get("upper95") is None:
            continue
        words = bound(withheld, figure) if value is None else figure.write(value)
        ends = f"[{figure.write(interval[0])}, {figure.write(interval[1])}]" if interval and value is not None else ""
        below = "too few errors for a figure" if value is None else ends
        cards.append(
            f'<div class="card card-{method}"><span>{escape(method_name(method))}</span>'
            f"<b>{escape(words)} %</b><span>{escape(below)}</span></div>"
        )
    return block("cards", cards)


def _identification(records: Records) -> list[str]:
    entries = [one for one in records.sections["identification"] if _has_any(one, ["rank1"])]
    size = operating_size(entries)
    if size is None:
        return []
    first = next(one for one in entries if one["size"] == size)
    same = [
        one
        for one in entries
        if (one["recogniser"], one["set"]) == (first["recogniser"], first["set"]) and one["size"] in (size, None)
    ]
    methods = {one["method"]: one for one in reversed(same)}
    opening = f"At {size} pixels ({first['set']} set, {first['recogniser']})"
    return [
        paragraph(Markup(_sentence(methods, "rank1", "Rank-1 is {}", opening)), "lead"),
        _figures(methods, "rank1"),
    ]


def _holdings(records: Records) -> str:
    names = [name for name, entries in records.sections.items() if entries]
    return ", ".join(names) if names else "no figures: the records have only a note of what was run"
