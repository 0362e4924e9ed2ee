"""The scripts in tools/ that show what the commands do: they run, and say what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def printed(folder: Path, tool: str, *words: str) -> list[str]:
    """The lines that a script prints."""
    command = [sys.executable, str(TOOLS / tool), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout.splitlines()


def test_photo_refusals_are_lines_that_name_the_file(tmp_path: Path) -> None:
    """The script itself exits with an error where bad input is taken, or refused without naming the file."""
    out = printed(tmp_path, "show_photo_refusals.py", "--small")
    lines = dict(line.split(": ", 1) for line in out)
    assert len(lines) == len(out) > 40, "a line a case"
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


def test_every_command_runs_on_made_up_people_and_a_video(tmp_path: Path) -> None:
    out = printed(tmp_path, "show_recognise.py")
    lines = "\n".join(out)
    assert "  4 photos: 4 faces in 4, 0 skipped" in lines
    assert "verify, the same person" in lines
    assert "enrol: 4 people" in lines
    assert "identify, photos reduced" in lines
    assert "cluster: 8 faces of 4 people into " in lines
    film = next(line for line in out if line.startswith("watch film.avi: 8 of 24 frames"))
    assert "Filmed 8" in film, "the person is found in every frame, as somebody who was enrolled from a still"
    assert not list(tmp_path.iterdir())
