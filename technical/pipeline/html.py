"""Building blocks of a report: one self-contained HTML page, light and dark, readable on a phone.

Text given as `str` is always escaped; only `Markup`, made by the functions here and by `pipeline.svg_chart`, is not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pipeline.html_style import STYLE


class Markup(str):
    """HTML that stands in the page as it is: whoever makes one has escaped what came from outside."""


@dataclass(frozen=True)
class Cell:
    """A table's cell that is more than text."""

    content: str
    """Escaped unless it is `Markup`."""
    span: int = 1
    """Columns it covers."""
    style: str = ""
    """A class of the style sheet: `marked`, `quiet`."""


@dataclass(frozen=True)
class Group:
    """Rows of a table under a title of their own."""

    title: str
    """Empty: no title."""
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the page that the list of contents names."""

    title: str
    parts: Sequence[str]
    """HTML made by the functions below."""


def page(title: str, sections: Sequence[str | Section], contents: bool = False) -> str:
    """A whole page; `sections` are HTML made by the functions below. `contents` lists those that are a `Section`."""
    named = [section for section in sections if isinstance(section, Section)]
    anchors = dict(zip((one.title for one in named), _anchors([one.title for one in named]), strict=True))
    body = "\n".join(
        f'<section id="{anchors[one.title]}">{heading(one.title)}\n' + "\n".join(one.parts) + "</section>"
        if isinstance(one, Section)
        else one
        for one in sections
    )
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for name, anchor in anchors.items())
    nav = f'<nav aria-label="Contents"><p>Contents</p><ol>{links}</ol></nav>\n' if contents and links else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body{' class=wide' if nav else ''}><header><h1>{escape(title)}</h1></header>\n"
        f"{nav}<main>{body}\n</main></body></html>\n"
    )


def _anchors(titles: Sequence[str]) -> list[str]:
    """One id a title, of ASCII letters, digits and hyphens."""
    return [f"s{number}-{re.sub(r'[^a-z0-9]+', '-', one.lower()).strip('-')}" for number, one in enumerate(titles, 1)]


def text(value: str) -> str:
    """`value` escaped, or as it is when it is `Markup`."""
    return value if isinstance(value, Markup) else escape(value)


def heading(title: str, level: int = 2) -> str:
    """A section's title."""
    return f"<h{level}>{escape(title)}</h{level}>"


def paragraph(content: str, style: str = "") -> str:
    """A paragraph; `style` is `lead`, `soft` or `notice`."""
    return f'<p class="{style}">{text(content)}</p>' if style else f"<p>{text(content)}</p>"


def preformatted(content: str) -> str:
    """Text as a terminal shows it."""
    return f'<pre tabindex="0">{escape(content)}</pre>'


def details(summary: str, parts: Sequence[str]) -> str:
    """What only some readers want, folded away."""
    return f"<details><summary>{escape(summary)}</summary>\n" + "\n".join(parts) + "\n</details>"


def block(style: str, parts: Sequence[str]) -> str:
    """A `div`; `style` is `charts`, `tables` or another class of the style sheet."""
    return f'<div class="{style}">' + "\n".join(parts) + "</div>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and what they stand for, as a description list."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def notes(items: Sequence[str]) -> str:
    """The footnotes of a table, numbered from 1."""
    return '<ol class="notes">' + "".join(f"<li>{text(item)}</li>" for item in items) + "</ol>"


def note_mark(number: int) -> Markup:
    """The raised number that points at a footnote."""
    return Markup(f'<sup class="note">{number}</sup>')


def picture(path: Path, caption: str) -> str:
    """A PNG embedded in the page."""
    words = escape(caption)
    return f'<figure><img src="{data_uri(path.read_bytes(), "image/png")}" alt="{words}">' + (
        f"<figcaption>{words}</figcaption></figure>"
    )


def data_uri(data: bytes, kind: str) -> str:
    """A file's bytes inside the page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def table(header: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str = "") -> str:
    """A table whose first column is flush left and stays in view while wide ones scroll sideways."""
    note = f'<p class="soft">{escape(caption)}</p>' if caption else ""
    return _scrolling(header, [Group("", rows)], "Table") + note


def figure_table(title: str, header: Sequence[str], groups: Sequence[Group], footnotes: Sequence[str] = ()) -> str:
    """A table with its title above and its footnotes, folded away, below."""
    below = details(f"{len(footnotes)} footnote{'s' if len(footnotes) > 1 else ''}", [notes(footnotes)])
    return (
        f'<figure class="table-figure"><figcaption>{escape(title)}</figcaption>{_scrolling(header, groups, title)}'
        f"{below if footnotes else ''}</figure>"
    )


def _scrolling(header: Sequence[str], groups: Sequence[Group], label: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(_group(group, len(header)) for group in groups)
    # A box that scrolls must be reachable with the keyboard.
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead>{body}</table></div>"
    )


def _group(group: Group, columns: int) -> str:
    # The title spans the table, and its words stay in view while the table scrolls.
    title = f'<th class="group" scope="rowgroup" colspan="{columns}"><span>{escape(group.title)}</span></th>'
    title = f"<tr>{title}</tr>" if group.title else ""
    return f"<tbody>{title}" + "".join(f"<tr>{_row(row)}</tr>" for row in group.rows) + "</tbody>"


def _row(row: Sequence[str | Cell]) -> str:
    return _cell(row[0], "th", ' scope="row"') + "".join(_cell(cell, "td") for cell in row[1:])


def _cell(cell: str | Cell, tag: str, extra: str = "") -> str:
    if not isinstance(cell, Cell):
        return f"<{tag}{extra}>{text(cell)}</{tag}>"
    span = f' colspan="{cell.span}"' if cell.span > 1 else ""
    style = f' class="{cell.style}"' if cell.style else ""
    return f"<{tag}{extra}{span}{style}>{text(cell.content)}</{tag}>"
