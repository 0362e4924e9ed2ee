"""The scripts in tools/ that show what the commands do: they run, and say what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def test_photo_refusals_are_lines_that_name_the_file(tmp_path: Path) -> None:
    """The script itself exits with an error where bad input is taken, or refused without naming the file."""
    command = [sys.executable, str(TOOLS / "show_photo_refusals.py"), "--small"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert len(lines) == len(done.stdout.splitlines()) > 40, "a line a case"
    for case, words in {
        "no face": "none.png: mtcnn found no face",
        "two faces in a verify": "two.png shows 2 faces",
        "0 bytes": "empty.jpg is empty",
        "animated PNG": "moving.png is an animation of 2 pictures",
        "decompression bomb": "bomb.png has more than 64,000,000 pixels",
        "gallery of another model": "they cannot be compared",
        "corrupted gallery": "corrupted.sqlite is damaged",
        "CMYK": "accepted, made RGB",
        "RGBA": "accepted, made RGB; cosine to the same picture in RGB 1.0000",
        "one-photo cluster": "accepted: person 1: 1 face",
    }.items():
        assert words in lines[case], case
    assert any("x" in case and case.endswith("wide.png") and "peak" in line for case, line in lines.items())
