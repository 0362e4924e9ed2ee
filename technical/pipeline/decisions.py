"""From a score to an answer: which thresholds a recogniser uses, and what it says by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from facial_rec.thresholds import DEFAULT_THRESHOLD, Answer, Thresholds, decide_without_file
from pipeline.face_crops import Face
from pipeline.model_metadata import ModelMetadata

UNCALIBRATED = (
    f"not calibrated: {DEFAULT_THRESHOLD} is a convention, and the same at every resolution; "
    "`python -m pipeline.calibrate` makes a table"
)


@dataclass(frozen=True)
class Verdict:
    """The answer for two faces, and what it rests on."""

    answer: Answer
    """`same`, `different`, or `cannot tell`."""
    score: float
    """Cosine similarity, -1 to 1."""
    threshold: float | None
    """Score from which the answer is `same`; None where none is calibrated."""
    reject: float | None
    """Score below which it is `different`; in between nothing can be told."""
    resolution: int
    """Of the smaller of both faces, the probe, in pixels; above the largest calibrated one all are alike."""
    calibrated: bool
    reason: str
    """One sentence with the numbers behind the answer."""
    notes: tuple[str, ...] = ()
    """Where the thresholds fit these two faces less well than they should."""


def thresholds_for(chain: ModelMetadata, edgeface: ModelMetadata, file: Path | None = None) -> Thresholds | None:
    """The table in `file`, else that inside the chain, else that inside the EdgeFace if it is of this chain's DSR too.

    None where there is none, and without `file` where only one of the two is in int8. Raises UserError for a file that
    cannot be read, and for a file or a chain's table that was made for other weights. A table made without a DSR
    is not asked for one: each answer says where it does not fit.
    """
    if file is None and len({"int8" in one.precision for one in (chain, edgeface)}) > 1:
        return None  # what is inside is for other scores than those of one of the two
    if file is None and chain.thresholds is None:
        inside = edgeface.thresholds
        return inside if inside is not None and _misfit(inside, chain) is None else None
    found = Thresholds.load(file) if file is not None else chain.thresholds
    if found is not None and (error := _misfit(found, chain)):
        raise UserError(f"{file or 'The table inside the models'}: {error}") from error
    return found


def _misfit(found: Thresholds, chain: ModelMetadata) -> UserError | None:
    """Why the table is not of the chain's weights."""
    dsr = chain.source_sha256["dsr"] if found.made_for.dsr_sha256 is not None else None
    try:
        found.check_made_for(chain.source_sha256["edgeface"], dsr)
    except UserError as error:
        return error
    return None


def decide(score: float, first: Face, second: Face, thresholds: Thresholds | None) -> Verdict:
    """The answer for the faces `first` and `second`, whose embeddings have the cosine `score`. UserError for NaN."""
    probe = min(first, second, key=lambda face: face.resolution)
    if thresholds is None:
        decision = decide_without_file(score)
        accept, reject, notes = DEFAULT_THRESHOLD, DEFAULT_THRESHOLD, (UNCALIBRATED,)
        return Verdict(decision.answer, score, accept, reject, probe.resolution, False, decision.reason, notes)
    decision, row = thresholds.decide(score, probe.resolution), thresholds.for_size(probe.resolution)
    return Verdict(
        answer=decision.answer,
        score=score,
        threshold=row.accept,
        reject=row.reject,
        resolution=probe.resolution,
        calibrated=True,
        reason=decision.reason,
        notes=_misfits(probe, max(first.resolution, second.resolution), thresholds),
    )


_OTHER_WAY = "the face was embedded {} the DSR, and the thresholds were chosen {} it"


def _misfits(probe: Face, larger: int, thresholds: Thresholds) -> tuple[str, ...]:
    """In what the two faces, the larger one of `larger` pixels, differ from those of the calibration."""
    low = [row.size for row in thresholds.sizes if row.size is not None]
    notes = []
    if thresholds.for_size(probe.resolution).quality_cutoff is not None:
        notes.append(
            f"the table refuses probes by their {thresholds.quality_measure}, which the exported models do not give, "
            "so none is refused by it; the thresholds hold all the same"
        )
    if not low or probe.resolution > low[-1]:  # the thresholds are those of HR faces
        return (*notes, _OTHER_WAY.format("by way of", "without")) if probe.by_dsr else tuple(notes)
    if thresholds.protocol == "lr-hr" and larger <= low[-1]:
        notes.append("both faces are small; the thresholds are for a small face against a large one")
    if thresholds.protocol == "lr-lr" and larger > low[-1]:
        notes.append("one face is large; the thresholds are for two small ones")
    if (thresholds.for_size(probe.resolution).method == "dsr") != probe.by_dsr:
        ways = ("by way of", "without") if probe.by_dsr else ("without", "by way of")
        notes.append(_OTHER_WAY.format(*ways))
    return tuple(notes)
