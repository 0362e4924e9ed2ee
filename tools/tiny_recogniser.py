"""For the tools: a recogniser of random weights, made in seconds, and a command run in this process or in another.

python tools/tiny_recogniser.py FOLDER      # writes edgeface.onnx and chain.onnx, good for nothing but trying
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from common import cli
from dsr.checkpoint import save_dsr
from dsr.model import Dsr, preset
from facial_rec.edgeface import get_model
from pipeline import export

# The command in a process of its own, which says at its end how much memory it had at most.
_MEASURED = """
import re, runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
    print(f"peak {int(peak[1]) * 1024 // 1_000_000}", file=sys.stderr)
"""
_MESSAGES = ("error: ", "skipped: ", "  ")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str
    peak: int | None = None
    """Most memory it had, in MB; None where it was not measured."""

    @property
    def error(self) -> str:
        """What it said to the user, in one line."""
        lines = [line.strip() for line in (self.out + self.err).splitlines() if line.startswith(_MESSAGES)]
        return " ".join(line.removeprefix("error: ") for line in lines)


def export_tiny(folder: Path) -> dict[str, str]:
    """Export a tiny EdgeFace and a tiny DSR, good for nothing; the flags that name the two files."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.save(get_model("edgeface_tiny").state_dict(), folder / "face.pt")
    save_dsr(folder / "dsr.pt", Dsr(preset("tiny")), {"note": "random"})
    weights = {"edgeface": str(folder / "face.pt"), "dsr": str(folder / "dsr.pt")}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for what in ("edgeface", "chain"):
            export.main(export.Config(what=what, out=folder / f"{what}.onnx", **weights))  # type: ignore[arg-type]
    return {"--edgeface": str(folder / "edgeface.onnx"), "--chain": str(folder / "chain.onnx")}


def run_here(module: ModuleType, words: list[str]) -> Ran:
    """A command in this process. Whatever is no message for the user is raised."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(module.main, module.Config, words)
        except SystemExit as end:
            status = int(end.code or 0)
    return Ran(status, out.getvalue(), err.getvalue())


def run_apart(module: ModuleType, words: list[str]) -> Ran:
    """A command in a process of its own, where nothing but it takes memory."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, module.__name__, *words], capture_output=True, text=True)
    *lines, peak = done.stderr.splitlines()
    return Ran(done.returncode, done.stdout, "\n".join(lines), int(peak.split()[1]))


if __name__ == "__main__":
    export_tiny(Path(sys.argv[1]))
