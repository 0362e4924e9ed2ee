"""What the API answers: typed, so that the OpenAPI description and the answers cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from facial_rec.thresholds import Answer, Thresholds
from pipeline.decisions import decide
from pipeline.distances import LARGEST_DISTANCE, Metric, distance, similarity
from pipeline.face_crops import EmbeddedFace, Face
from pipeline.recogniser import Recogniser
from pipeline.recognition import Identification


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)


class FaceAnswer(_Answer):
    """Where a face is, and how it reached the recogniser."""

    number: int
    """In the photo, from 1; the detector's surest face first."""
    box: tuple[float, float, float, float] | None
    """Left, top, right, bottom in pixels of the photo; null for a face that came aligned."""
    landmarks: list[tuple[float, float]] | None
    """Eyes, nose, mouth corners; null for a face that came aligned."""
    detection: float | None
    """How sure the detector is."""
    resolution: int
    """Side, in pixels of the photo, of what was aligned."""
    by_dsr: bool
    """Whether it went through the DSR."""


class VerdictAnswer(_Answer):
    """The calibrated answer."""

    answer: Answer
    """`same`, `different`, or `cannot tell`."""
    score: float
    """Cosine similarity."""
    threshold: float | None
    """Score from which the answer is `same`; null where none is calibrated for this size."""
    reject: float | None
    """Score below which it is `different`."""
    resolution: int
    """Of the smaller of both faces, in pixels."""
    calibrated: bool
    """False: 0.35 at every size, which is only a convention."""
    reason: str
    notes: list[str]
    """Where the thresholds fit these faces less well than they should."""


class ModelAnswer(_Answer):
    """A network."""

    variant: str
    precision: str
    sha256: str
    """Of the ONNX file."""


class CalibrationAnswer(_Answer):
    """What the thresholds were chosen on."""

    date: str
    protocol: str
    degradation: str
    wanted_fmr: float
    wanted_fnmr: float
    people: int
    images: int


class ModelsAnswer(_Answer):
    """What computed an answer."""

    detector: str
    edgeface: ModelAnswer
    chain: ModelAnswer
    weights_sha256: str
    """Of the EdgeFace weights: embeddings of others cannot be compared with these."""
    calibration: CalibrationAnswer | None
    """Null where nothing is calibrated."""


class VerifyAnswer(_Answer):
    """Whether two photos show one person."""

    distance: float
    threshold: float
    """The distance up to which it is a match: 0.65 (cosine) or 1.140 (euclidean)."""
    match: bool
    metric: Metric
    similarity: float
    """Cosine, whatever the metric."""
    face1: FaceAnswer
    face2: FaceAnswer
    verdict: VerdictAnswer
    """By the thresholds for the smaller face's size, where they are calibrated; it may differ from `match`."""
    models: ModelsAnswer


class EmbeddedAnswer(_Answer):
    """A face and its embedding."""

    face: FaceAnswer
    embedding: list[float]
    """512 numbers of length 1: the dot product of two is their cosine."""


class EmbedAnswer(_Answer):
    """All faces of a photo."""

    faces: list[EmbeddedAnswer]
    models: ModelsAnswer


class CandidateAnswer(_Answer):
    """Somebody enrolled."""

    name: str
    score: float
    """Cosine similarity of the embedding of theirs that is most like the face."""


class IdentifiedAnswer(_Answer):
    """Who a face is."""

    face: FaceAnswer
    name: str | None
    """The best candidate where the verdict is `same`, else null."""
    label: str
    """The name, `unknown`, or `cannot tell`."""
    verdict: VerdictAnswer
    candidates: list[CandidateAnswer]
    """The best first; for those who may not list people, nobody but who it is."""


class IdentifyAnswer(_Answer):
    """Everybody in a photo."""

    faces: list[IdentifiedAnswer]
    models: ModelsAnswer


class EnrolAnswer(_Answer):
    """Who was enrolled, by which faces."""

    name: str
    faces: list[FaceAnswer]


class PersonAnswer(_Answer):
    """Somebody enrolled."""

    name: str
    embeddings: int
    """How many are kept of them."""


class PeopleAnswer(_Answer):
    """Everybody enrolled."""

    people: list[PersonAnswer]


class DeleteAnswer(_Answer):
    """Who was removed."""

    name: str
    embeddings: int
    """How many were removed."""


class HealthAnswer(_Answer):
    """The server works."""

    status: Literal["ok"]
    version: str
    waiting: int
    """Requests in the queue."""
    upscale: bool
    """Whether there is a DSR for /upscale."""
    people: bool
    """Whether people can be enrolled and deleted from where you are."""
    models: ModelsAnswer


class WelcomeAnswer(_Answer):
    """Where to go on."""

    name: str
    version: str
    docs: str
    ui: str | None
    """The page; null where it is not built."""
    routes: dict[str, str]


def face_answer(face: Face) -> FaceAnswer:
    """The face without the name of its photo."""
    return FaceAnswer.model_validate(face)


def verify_answer(recogniser: Recogniser, first: EmbeddedFace, second: EmbeddedFace, metric: Metric) -> VerifyAnswer:
    """The distance of two faces, whether it is a match, and the calibrated verdict."""
    score = similarity(first.embedding, second.embedding)
    apart, largest = distance(first.embedding, second.embedding, metric), LARGEST_DISTANCE[metric]
    return VerifyAnswer(
        distance=apart,
        threshold=largest,
        match=apart <= largest,
        metric=metric,
        similarity=score,
        face1=face_answer(first.face),
        face2=face_answer(second.face),
        verdict=VerdictAnswer.model_validate(decide(score, first.face, second.face, recogniser.thresholds)),
        models=models_answer(recogniser),
    )


def embed_answer(recogniser: Recogniser, faces: Sequence[EmbeddedFace]) -> EmbedAnswer:
    """Faces with their embeddings."""
    found = [EmbeddedAnswer(face=face_answer(one.face), embedding=one.embedding.tolist()) for one in faces]
    return EmbedAnswer(faces=found, models=models_answer(recogniser))


def identify_answer(recogniser: Recogniser, found: Sequence[Identification], listing: bool = True) -> IdentifyAnswer:
    """Who each face is; without `listing`, no candidate but the one that it is."""
    faces = [IdentifiedAnswer.model_validate(one) for one in found]
    if not listing:
        for face in faces:
            face.candidates = [one for one in face.candidates if one.name == face.name]
    return IdentifyAnswer(faces=faces, models=models_answer(recogniser))


def models_answer(recogniser: Recogniser) -> ModelsAnswer:
    """What `recogniser` computes with."""
    edgeface, chain = (
        ModelAnswer(variant=one.metadata.variant, precision=one.metadata.precision, sha256=one.sha256)
        for one in recogniser.models
    )
    return ModelsAnswer(
        detector=recogniser.detector.name,
        edgeface=edgeface,
        chain=chain,
        weights_sha256=recogniser.sha256,
        calibration=None if recogniser.thresholds is None else _calibration(recogniser.thresholds),
    )


def _calibration(table: Thresholds) -> CalibrationAnswer:
    return CalibrationAnswer(
        date=table.date,
        protocol=table.protocol,
        degradation=table.degradation,
        wanted_fmr=table.wanted_fmr,
        wanted_fnmr=table.wanted_fnmr,
        people=table.development_set.people,
        images=table.development_set.images,
    )
