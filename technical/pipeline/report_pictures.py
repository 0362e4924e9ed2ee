"""The pictures of a report: read from the folder beside the record, checked, and put into the page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path, PurePosixPath

from PIL import Image

from common.errors import UserError
from common.images import decode_image
from pipeline.html import block, data_uri, heading, paragraph
from pipeline.report_record import Entry
from pipeline.report_tables import method_name, size_name

BUDGET_BYTES = 2_600_000  # in the page they take 4/3 of it
MOST_FILE_BYTES = 8 * 1024 * 1024
WEBP_QUALITY = 88
_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))

NOTICE = (
    "This page holds pictures of faces. Keep it out of git and off the web unless the people shown agreed to it; whose "
    "faces they are and under which terms they may be used (many sets allow non-commercial research or testing only) "
    "is for you to check."
)


class Pictures:
    """Picture files as data URIs; a missing or unusable one is a visible note instead."""

    def __init__(self, folder: Path, entries: Entry) -> None:
        self.folder = folder
        self.problems: dict[str, str] = {}
        self._files = {name: data for name in _names(entries) if (data := self._load(name)) is not None}
        self.shrunk = sum(len(self._files[name]) for name in _uses(entries) if name in self._files) > BUDGET_BYTES
        self._left = BUDGET_BYTES

    def _load(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise UserError(f"{name} lies outside the folder of pictures")
            if not path.is_file():
                raise UserError(f"{name} is missing")
            if path.stat().st_size > MOST_FILE_BYTES:
                raise UserError(f"{name} has more than {MOST_FILE_BYTES:,} bytes")
            data = path.read_bytes()
            if media_type(data) is None:
                raise UserError(f"{name} is not a PNG, JPEG or WebP image")
            decode_image(data, name)
        except (UserError, OSError) as error:
            self.problems[name] = str(error)
            return None
        return data

    def image(self, name: str | None, alt: str, pixels: bool = False) -> str:
        """An `img`, or a note in its place; `pixels` keeps the edges of enlarged pixels sharp."""
        data = self._files.get(name) if name else None
        if data is not None and self.shrunk and not pixels:
            data = _as_webp(data)
        kind = None if data is None else media_type(data)
        if data is None or kind is None or len(data) > self._left:
            reason = self.problems.get(name or "", "no picture" if not name else f"{name}: no room left in the page")
            return f'<div class="missing">{escape(reason.split(". ")[0])}</div>'
        self._left -= len(data)
        style = ' class="pixels"' if pixels else ""
        return (
            f'<img{style} src="{data_uri(data, kind)}" alt="{escape(alt)}" width="112" height="112" decoding="async">'
        )


def media_type(data: bytes) -> str | None:
    """The media type of an image the page may hold, by its first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)


def _as_webp(data: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(decode_image(data, "a picture")).save(file, format="WEBP", quality=WEBP_QUALITY, method=4)
    return min(file.getvalue(), data, key=len)


def _uses(entries: Entry) -> Iterable[str]:
    """Every file as often as it is shown."""
    for grid in entries.get("grids") or []:
        yield from (tile["file"] for row in grid["rows"] for tile in row["tiles"])
    for failure in entries.get("failures") or []:
        for pair in failure["pairs"]:
            yield from (pair[key] for key in ("first_file", "second_file") if pair.get(key))


def _names(entries: Entry) -> list[str]:
    return list(dict.fromkeys(_uses(entries)))


def picture_parts(folders: Sequence[tuple[Path, Entry]]) -> list[str]:
    """Grids and failures of all records; empty when there are none."""
    parts: list[str] = []
    for folder, entries in folders:
        if not any(_names(entries)):
            continue
        pictures = Pictures(folder, entries)
        grids = [_grid(grid, pictures) for grid in entries.get("grids") or [] if grid["rows"]]
        failures = [_failures(one, pictures) for one in entries.get("failures") or [] if one["pairs"]]
        if pictures.problems:
            some = "; ".join(list(pictures.problems.values())[:5])
            parts.append(paragraph(f"{len(pictures.problems)} picture(s) could not be shown: {some}.", "notice"))
        if pictures.shrunk:
            words = f"To keep the page small the pictures are slightly compressed; the originals are in {folder.name}."
            parts.append(paragraph(words, "soft"))
        parts += [*grids, *failures]
    return [paragraph(NOTICE, "notice"), *parts] if parts else []


def _grid(grid: Entry, pictures: Pictures) -> str:
    rows = "".join(_grid_row(row, pictures) for row in grid["rows"])
    words = "Below each picture, cos: the cosine of its embedding to that of the full image (1 is the same)."
    title = heading(f"Faces of {size_name(grid.get('size'))}", 3)
    return f'{title}{paragraph(words, "soft")}<div class="faces">{rows}</div>'


def _grid_row(row: Entry, pictures: Pictures) -> str:
    tiles = ""
    for tile in row["tiles"]:
        cosine = tile.get("cosine")
        words = f"cos {cosine:.3f}" if cosine is not None else "\u00a0"
        picture = pictures.image(tile["file"], f"{row['name']}, {tile['label']}", tile["label"].upper() == "LR")
        tiles += f'<li>{picture}<span>{escape(tile["label"])}</span><span class="quiet">{words}</span></li>'
    caption = f"<figcaption>{escape(row['name'])}</figcaption>"
    return f'<figure class="faces-row"><ul class="tiles">{tiles}</ul>{caption}</figure>'


KINDS = {
    "false_accept": ("False accepts", "different people taken for one, the highest scores first"),
    "false_reject": ("False rejects", "one person taken for two, the lowest scores first"),
}


def _failures(failure: Entry, pictures: Pictures) -> str:
    kind, meaning = KINDS.get(failure["kind"], (failure["kind"], ""))
    labels = [
        failure.get("recogniser"),
        str(failure.get("protocol") or "").upper(),
        method_name(str(failure.get("method", ""))),
    ]
    where = ", ".join(str(label) for label in labels if label)
    threshold = failure.get("threshold")
    title = f"{kind}: {where}" + (f", {size_name(failure['size'])}" if failure.get("size") else "")
    words = meaning[:1].upper() + meaning[1:] + ("" if threshold is None else f"; threshold {threshold:g}")
    if failure.get("beyond") is False:
        words = (
            f"None at threshold {threshold:g}: these come closest" if threshold is not None else "These come closest"
        )
    pairs = [_pair(pair, pictures) for pair in failure["pairs"]]
    return heading(title, 3) + paragraph(words + ".", "soft") + block("faces pairs", pairs)


def _pair(pair: Entry, pictures: Pictures) -> str:
    tiles = "".join(
        f"<li>{pictures.image(pair.get(f'{side}_file'), pair[side])}<span>{escape(_short(pair[side]))}</span></li>"
        for side in ("first", "second")
    )
    score = f"<figcaption>score {pair['score']:.3f}</figcaption>"
    return f'<figure class="faces-row"><ul class="tiles two">{tiles}</ul>{score}</figure>'


def _short(name: str) -> str:
    """`Name/Name_0001.jpg` without its folder, which it repeats; other names as they are."""
    path = PurePosixPath(name)
    return path.name if path.parent.name and path.name.startswith(path.parent.name) else name
