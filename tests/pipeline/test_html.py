"""A report's building blocks: text is escaped, pictures are inside, nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.images import write_png
from pipeline import html


def test_text_is_escaped_everywhere() -> None:
    hostile = '<script>alert("x")</script>'
    page = html.page(
        hostile,
        [
            html.heading(hostile),
            html.paragraph(hostile, "lead"),
            html.preformatted(hostile),
            html.table([hostile], [[hostile, hostile]], hostile),
        ],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 9


def test_page_allows_no_request_and_suits_phones_and_dark_rooms(tmp_path: Path) -> None:
    write_png(tmp_path / "p.png", np.zeros((4, 4, 3), dtype=np.uint8))
    page = html.page("report", [html.picture(tmp_path / "p.png", "a picture")])
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert 'alt="a picture"' in page
