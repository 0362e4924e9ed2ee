"""The threshold file: from which cosine two faces are called the same person, at which resolution, and when nothing is
said.

`pipeline.calibrate` writes the file. It belongs to the weights it was made with and is refused for others. Per probe
resolution it holds two thresholds, chosen on a development set:

    score >= accept             same         (impostor pairs answered so: at most the wanted FMR)
    score <  reject             different    (genuine pairs answered so: at most the wanted FNMR)
    between the two             cannot tell

Where one threshold keeps both promises `reject` equals `accept`, and every score is answered. Without a file the answer
is `score >= DEFAULT_THRESHOLD`, at every resolution.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.fields import Fields
from common.files import read_json, write_json

FORMAT = "dsr-edgeface-thresholds-1"
DEFAULT_THRESHOLD = 0.35
QUALITY_MEASURES = ("norm", "agreement")
"""What a probe can be refused for: the length of its embedding before normalisation; the cosine between its embeddings
by way of bicubic and of the DSR."""

Answer = Literal["same", "different", "cannot tell"]
AGAIN = "Make it again with `python -m pipeline.calibrate`."


@dataclass(frozen=True)
class Decision:
    """One answer, and why."""

    answer: Answer
    reason: str
    """One sentence with the numbers behind it."""

    @property
    def accepted(self) -> bool:
        """Whether the answer is "same": without an answer nobody is let in."""
        return self.answer == "same"


@dataclass(frozen=True)
class SizeThresholds:
    """How probes of one resolution are decided."""

    size: int | None
    """Side of the probe in pixels; None for one of high resolution (112, or above the largest calibrated size)."""
    method: str
    """How the probe reaches 112 x 112 before it is embedded: `hr`, `bicubic` or `dsr`."""
    accept: float | None
    """Cosine from which a pair is the same person; None where none could be calibrated."""
    reject: float | None
    """Cosine below which a pair is two people, at most `accept`; None where none could be calibrated."""
    quality_cutoff: float | None = None
    """Quality below which a probe is not answered at all; None leaves quality out."""
    reason: str | None = None
    """Why a threshold is missing."""


@dataclass(frozen=True)
class MadeFor:
    """The weights that the scores came from."""

    recogniser: str
    recogniser_sha256: str
    dsr_sha256: str | None
    """None when no DSR was used."""


@dataclass(frozen=True)
class DevelopmentSet:
    """The faces that the thresholds were chosen on."""

    label: str
    sha256: str
    """Of all images' names and bytes."""
    people: int
    images: int


@dataclass(frozen=True)
class Thresholds:
    """What a threshold file holds."""

    made_for: MadeFor
    protocol: str
    """`lr-hr`: a low-resolution probe against HR images; `lr-lr`: both sides of the probe's resolution."""
    degradation: str
    """How the development set's low resolution was made."""
    wanted_fmr: float
    wanted_fnmr: float
    development_set: DevelopmentSet
    date: str
    """ISO 8601, UTC."""
    command: str
    sizes: tuple[SizeThresholds, ...]
    """By rising size, HR (None) last."""
    quality_measure: str | None = None
    """One of `QUALITY_MEASURES`; None when none was found to help."""

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        write_json(path, self.values())

    def values(self) -> dict[str, Any]:
        """What the file holds, as JSON values."""
        return {"format": FORMAT, **asdict(self), "sizes": [asdict(row) for row in self.sizes]}

    @classmethod
    def load(cls, path: Path) -> Thresholds:
        """Read a threshold file. Raises UserError, naming file and key, for anything that is not as `save` wrote it."""
        return cls.from_values(read_json(path), path)

    @classmethod
    def from_values(cls, values: Any, path: Path) -> Thresholds:
        """The thresholds in `values()`, read from `path` (or from inside it). Raises UserError as `load` does."""
        content = Fields(path, "", values, AGAIN)
        if content.get("format") != FORMAT:
            raise content.error("format", f"expected '{FORMAT}'")
        made_for, development = content.section("made_for"), content.section("development_set")
        measure = content.text_or_none("quality_measure")
        if measure is not None and measure not in QUALITY_MEASURES:
            raise content.error("quality_measure", f"expected one of {', '.join(QUALITY_MEASURES)}, or null")
        return cls(
            made_for=MadeFor(
                recogniser=made_for.text("recogniser"),
                recogniser_sha256=made_for.text("recogniser_sha256"),
                dsr_sha256=made_for.text_or_none("dsr_sha256"),
            ),
            protocol=content.text("protocol"),
            degradation=content.text("degradation"),
            wanted_fmr=content.number("wanted_fmr", 0, 1),
            wanted_fnmr=content.number("wanted_fnmr", 0, 1),
            development_set=DevelopmentSet(
                label=development.text("label"),
                sha256=development.text("sha256"),
                people=development.count("people"),
                images=development.count("images"),
            ),
            date=content.text("date"),
            command=content.text("command"),
            sizes=_read_sizes(content),
            quality_measure=measure,
        )

    def check_made_for(self, recogniser_sha256: str, dsr_sha256: str | None) -> None:
        """Raise UserError unless these are the weights that the thresholds were made with."""
        made = self.made_for
        for what, flag, wanted, found in (
            (f"recogniser ({made.recogniser})", "--edgeface", made.recogniser_sha256, recogniser_sha256),
            ("DSR", "--dsr", made.dsr_sha256, dsr_sha256),
        ):
            if wanted != found:
                raise UserError(
                    f"These thresholds were made with another {what}: expected sha256 {_short(wanted)}, found "
                    f"{_short(found)}. Give {flag} the file they were made with, or calibrate this one: {self.command}"
                )

    def for_size(self, size: int | None) -> SizeThresholds:
        """How a probe of `size` pixels is decided.

        Between two calibrated sizes both thresholds and the cutoff are interpolated linearly; where the two sizes use
        different methods, or one lacks a threshold, the row of the smaller one holds. Above the largest, and for None,
        the HR row holds; below the smallest nothing is calibrated and both thresholds are None.
        """
        if size is not None and size < 1:
            raise UserError(f"A probe of {size} pixels: expected at least 1, or None for one of high resolution.")
        low = [row for row in self.sizes if row.size is not None]
        if size is None or not low or size > _pixels(low[-1]):
            return replace(self.sizes[-1], size=size)
        if size < _pixels(low[0]):
            why = f"the smallest calibrated size is {low[0].size} pixels"
            return SizeThresholds(size, low[0].method, None, None, None, why)
        above = next(index for index, row in enumerate(low) if size <= _pixels(row))
        if _pixels(low[above]) == size:
            return low[above]
        return _between(low[above - 1], low[above], size)

    def decide(self, score: float, size: int | None, quality: float | None = None) -> Decision:
        """The answer for one comparison: `score` a cosine, `size` the probe's side in pixels (None: high resolution).

        `quality` is the probe's `quality_measure`; left out, it is not looked at, and the promised FMR and FNMR hold
        all the same. Raises UserError for a score or quality that is NaN.
        """
        if math.isnan(score) or (quality is not None and math.isnan(quality)):
            raise UserError("A score or quality is NaN: nothing can be decided. Are the recogniser's weights damaged?")
        row = self.for_size(size)
        where = "high resolution" if size is None else f"{size} pixels"
        if row.accept is None:
            return Decision("cannot tell", f"No threshold for {where}: {row.reason}.")
        if quality is not None and row.quality_cutoff is not None and quality < row.quality_cutoff:
            what = f"{self.quality_measure} {quality:.3f} is below {row.quality_cutoff:.3f}"
            return Decision("cannot tell", f"The probe's {what} ({where}).")
        if score >= row.accept:
            return Decision("same", f"Score {score:.3f} is at least {row.accept:.3f} ({where}).")
        if row.reject is None:
            return Decision("cannot tell", f"Score {score:.3f} is below {row.accept:.3f} ({where}), and {row.reason}.")
        if score < row.reject:
            return Decision("different", f"Score {score:.3f} is below {row.reject:.3f} ({where}).")
        return Decision("cannot tell", f"Score {score:.3f} lies from {row.reject:.3f} to {row.accept:.3f} ({where}).")


def decide_without_file(score: float, threshold: float = DEFAULT_THRESHOLD) -> Decision:
    """The answer at one threshold for every resolution, as long as nothing is calibrated. UserError for NaN."""
    if math.isnan(score):
        raise UserError("A score is NaN: nothing can be decided. Are the recogniser's weights damaged?")
    if score >= threshold:
        return Decision("same", f"Score {score:.3f} is at least {threshold:.3f} (not calibrated).")
    return Decision("different", f"Score {score:.3f} is below {threshold:.3f} (not calibrated).")


def _pixels(row: SizeThresholds) -> int:
    assert row.size is not None
    return row.size


def _between(below: SizeThresholds, above: SizeThresholds, size: int) -> SizeThresholds:
    start, end = _pixels(below), _pixels(above)
    share = (size - start) / (end - start)

    def mix(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first + share * (second - first)

    incomplete = None in (below.accept, below.reject, above.accept, above.reject)
    if below.method != above.method or incomplete:
        return replace(below, size=size)
    return SizeThresholds(
        size=size,
        method=below.method,
        accept=mix(below.accept, above.accept),
        reject=mix(below.reject, above.reject),
        quality_cutoff=mix(below.quality_cutoff, above.quality_cutoff),
    )


def _read_sizes(content: Fields) -> tuple[SizeThresholds, ...]:
    rows = content.get("sizes")
    if not isinstance(rows, list) or not rows:
        raise content.error("sizes", "expected a list with at least one size")
    found = tuple(_read_size(Fields(content.path, f"sizes[{index}].", row, AGAIN)) for index, row in enumerate(rows))
    sizes = [row.size for row in found]
    low = [size for size in sizes if size is not None]
    if sizes != [*sorted(set(low)), None]:
        raise content.error("sizes", f"expected rising sizes and then null (HR), found {sizes}", show=False)
    return found


def _read_size(row: Fields) -> SizeThresholds:
    size = row.get("size")
    method = row.text("method")
    allowed = ("hr",) if size is None else ("bicubic", "dsr")
    if method not in allowed:
        raise row.error("method", f"expected {' or '.join(allowed)}")
    found = SizeThresholds(
        size=None if size is None else row.count("size"),
        method=method,
        accept=row.number_or_none("accept", -1, 1),
        reject=row.number_or_none("reject", -1, 1),
        quality_cutoff=row.number_or_none("quality_cutoff"),
        reason=row.text_or_none("reason"),
    )
    if found.accept is not None and found.reject is not None and found.reject > found.accept:
        raise row.error("reject", f"expected at most `accept` ({found.accept})")
    if (found.accept is None or found.reject is None) and found.reason is None:
        raise row.error("reason", "expected a sentence, because a threshold is null")
    return found


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:12]}..."
