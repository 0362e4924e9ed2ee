"""From photos to answers on numpy, OpenCV and onnxruntime, without torch: detect, align, upscale, embed, compare.

>>> from pipeline import Recogniser                                    # doctest: +SKIP
>>> recogniser = Recogniser()                                          # doctest: +SKIP
>>> recogniser.verify("a.jpg", "b.jpg").verdict.answer                 # doctest: +SKIP
'same'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.paths import find_weights
from common.shipped import restoring
from facial_rec.alignment import TEMPLATE_SIZE
from pipeline.aligned_face import no_face
from pipeline.decisions import decide, thresholds_for
from pipeline.detector import Detector, DetectorName, load_detector
from pipeline.face_crops import (
    DSR_BELOW,
    LARGEST,
    EmbeddedFace,
    Face,
    FaceCrop,
    aligned_crop,
    find_crops,
    largest_crop,
)
from pipeline.gallery import Gallery, Match, open_gallery
from pipeline.onnx_models import DEFAULT_BATCH, OnnxModel, load_chain_onnx, load_edgeface_onnx
from pipeline.photos import Photo, read_photo
from pipeline.recognition import Candidate, Enrolment, Identification, Verification

EDGEFACE, CHAIN = "edgeface.onnx", "chain.onnx"
DIM = 512


@dataclass(frozen=True, kw_only=True)
class RecogniserSettings:
    """Which networks, and how they are used."""

    edgeface: str = EDGEFACE
    """EdgeFace as ONNX, for large faces; looked up in checkpoints/ too."""
    chain: str = CHAIN
    """DSR and the same EdgeFace as ONNX, for small faces; looked up in checkpoints/ too."""
    calibration: Path | None = None
    """Threshold file of pipeline.calibrate (default: the table inside the models, else 0.35 everywhere)."""
    detector: DetectorName = "mtcnn"
    """mtcnn works straight after installation; yunet is faster, and its file is downloaded the first time."""
    weights: Path | None = None
    """YuNet's ONNX file, where it is not in checkpoints/."""
    dsr_below: float = DSR_BELOW
    """Faces that cover fewer pixels of the photo go through the DSR: 0 (none) to 64."""
    threads: int = 0
    """CPU threads; 0 lets onnxruntime choose."""
    batch_size: int = DEFAULT_BATCH
    """Faces that go through a network together."""


class Recogniser:
    """Faces found, embedded and compared; one EdgeFace embeds both sides of every comparison.

    `detector` is any other than those that `settings` can name. Raises UserError for a model that is missing (with the
    command that makes it) or damaged, for two models that hold different EdgeFace weights, and for thresholds that
    were made for other weights.
    """

    def __init__(self, settings: RecogniserSettings | None = None, detector: Detector | None = None) -> None:
        self.settings = settings or RecogniserSettings()
        if not 0 <= self.settings.dsr_below <= LARGEST:
            raise UserError(f"--dsr-below {self.settings.dsr_below:g}: expected 0 to {LARGEST}, what the DSR takes.")
        threads, batch = self.settings.threads, self.settings.batch_size
        require_models(self.settings.edgeface, self.settings.chain)
        self._edgeface = load_edgeface_onnx(self.settings.edgeface, threads, batch)
        self._chain = load_chain_onnx(self.settings.chain, threads, batch)
        self._detector = detector
        self.sha256 = shared_sha256(self._edgeface, self._chain)
        """Of the EdgeFace weights: embeddings of others cannot be compared with these."""
        self.thresholds = thresholds_for(self._chain.metadata, self._edgeface.metadata, self.settings.calibration)
        """None where nothing is calibrated."""

    @property
    def _dsr_sha256(self) -> str:
        return self._chain.metadata.source_sha256["dsr"]

    @property
    def models(self) -> tuple[OnnxModel, OnnxModel]:
        """EdgeFace, for large faces, and the chain, for small ones."""
        return self._edgeface, self._chain

    @property
    def detector(self) -> Detector:
        """The detector, loaded when it is first used. Raises UserError as `load_detector`."""
        if self._detector is None:
            cfg = self.settings
            self._detector = load_detector(cfg.detector, cfg.weights, cfg.threads)
        return self._detector

    def find(self, photo: Photo, aligned: bool = False, name: str = "the photo") -> list[FaceCrop]:
        """The faces of a photo, the surest first; none where none is found. `aligned`: the photo is a face already.

        `name` is what errors call bytes and arrays. Raises UserError as `read_photo` and `aligned_crop`.
        """
        called, image = read_photo(photo, name)
        if aligned:
            return [aligned_crop(called, image, self.settings.dsr_below)]
        return find_crops(called, image, self.detector, self.settings.dsr_below)

    def find_one(self, photo: Photo, aligned: bool = False, largest: bool = False, name: str = "the photo") -> FaceCrop:
        """The only face of a photo or, with `largest`, the largest. Raises UserError for none and for several."""
        crops = self.find(photo, aligned, name)
        called = _called(photo, name)
        if not crops:
            raise UserError(no_face(called, self.detector))
        if len(crops) > 1 and not largest:
            raise UserError(
                f"{called} shows {len(crops)} faces, expected one. Crop it, or take the largest face (--largest)."
            )
        return largest_crop(crops)

    def embed(self, crops: Sequence[FaceCrop]) -> list[EmbeddedFace]:
        """Embeddings of length 1, in the order of `crops`; those of one size go through a network together."""
        vectors = np.empty((len(crops), DIM), np.float32)
        sizes = np.array([len(crop.pixels) for crop in crops])
        for size in np.unique(sizes):
            places = np.flatnonzero(sizes == size)
            images = np.stack([crops[int(place)].pixels for place in places]).transpose(0, 3, 1, 2)
            if size == TEMPLATE_SIZE:
                vectors[places] = unit(self._edgeface(images.astype(np.float32) / 127.5 - 1))
            else:
                vectors[places] = self._chain(images)
        return [EmbeddedFace(crop.face, vector) for crop, vector in zip(crops, vectors, strict=True)]

    def faces(self, photo: Photo, aligned: bool = False, name: str = "the photo") -> list[EmbeddedFace]:
        """The faces of a photo with their embeddings; an empty list where there is none. Raises UserError as `find`."""
        return self.embed(self.find(photo, aligned, name))

    def verify(self, first: Photo, second: Photo, aligned: bool = False, largest: bool = False) -> Verification:
        """Whether two photos show one person. Raises UserError as `find_one`, naming the photo."""
        one, other = self.embed(
            [
                self.find_one(first, aligned, largest, "the first photo"),
                self.find_one(second, aligned, largest, "the second photo"),
            ]
        )
        score = float(one.embedding @ other.embedding)
        return Verification(one.face, other.face, decide(score, one.face, other.face, self.thresholds))

    def open_gallery(self, where: str | Path, create: bool = True) -> Gallery:
        """The gallery of this recogniser at a path or a `postgresql://` URL. UserError as `pipeline.open_gallery`."""
        return open_gallery(where, self.sha256, DIM, create)

    def enrol(
        self, gallery: Gallery, name: str, photos: Iterable[Photo], aligned: bool = False, largest: bool = False
    ) -> Enrolment:
        """Keep the face of each photo under `name`, all or none. Raises UserError as `find_one` and `Gallery.enrol`."""
        crops = [self.find_one(photo, aligned, largest, f"photo {at}") for at, photo in enumerate(photos, start=1)]
        return self.enrol_faces(gallery, name, self.embed(crops))

    def enrol_faces(self, gallery: Gallery, name: str, faces: Sequence[EmbeddedFace]) -> Enrolment:
        """Keep embedded faces under `name`, all or none. Raises UserError for none, and as `Gallery.enrol`."""
        if not faces:
            raise UserError(f"No face was given for {name}: expected at least one photo.")
        metadata = [
            {
                "photo": one.face.photo,
                "face": one.face.number,
                "resolution": one.face.resolution,
                "by_dsr": one.face.by_dsr,
                **({"dsr_sha256": self._dsr_sha256} if one.face.by_dsr else {}),
            }
            for one in faces
        ]
        numbers = gallery.enrol(name, np.stack([one.embedding for one in faces]), metadata)
        return Enrolment(name, tuple(one.face for one in faces), tuple(numbers))

    def identify(self, gallery: Gallery, photo: Photo, aligned: bool = False, top: int = 5) -> list[Identification]:
        """Who is in a photo: an answer for each face. Raises UserError where there is none, and as `identify_faces`."""
        faces = self.faces(photo, aligned)
        if not faces:
            raise UserError(no_face(_called(photo, "the photo"), self.detector))
        return self.identify_faces(gallery, faces, top)

    def identify_faces(self, gallery: Gallery, faces: Sequence[EmbeddedFace], top: int = 5) -> list[Identification]:
        """Who each face is, searched for together. Raises UserError for a gallery without anybody."""
        if not faces:
            return []
        found = gallery.search(np.stack([one.embedding for one in faces]), top)
        if not all(found):
            raise nobody(gallery)
        return [self._identified(one.face, matches) for one, matches in zip(faces, found, strict=True)]

    def _identified(self, face: Face, matches: Sequence[Match]) -> Identification:
        best = matches[0]
        verdict = decide(best.score, face, enrolled_face(best), self.thresholds)
        if best.metadata.get("dsr_sha256") not in (None, self._dsr_sha256):
            verdict = replace(verdict, notes=(*verdict.notes, OTHER_DSR))
        candidates = tuple(Candidate(one.name, one.score, one.embedding_id) for one in matches)
        return Identification(face, best.name if verdict.answer == "same" else None, verdict, candidates)


def nobody(gallery: Gallery) -> UserError:
    """What to tell a user whose gallery is empty."""
    return UserError(f"The gallery {gallery.where} holds nobody. Enrol somebody first.")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1. Raises UserError for a row of zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise UserError("An embedding is all zeros: it is like nobody. Are the recogniser's weights damaged?")
    return np.asarray(vectors / lengths, np.float32)


OTHER_DSR = "the enrolled face was embedded by way of another DSR than this one; enrol the person again"


def enrolled_face(match: Match) -> Face:
    """What the gallery knows of the face that was enrolled; one enrolled without its resolution counts as large."""
    face = Face(match.name, 1, None, None, None, TEMPLATE_SIZE, False)
    resolution = match.metadata.get("resolution")
    if not isinstance(resolution, int) or resolution < 1:
        return face
    return replace(face, resolution=resolution, by_dsr=bool(match.metadata.get("by_dsr")))


def require_models(edgeface: str, chain: str) -> None:
    """Raise UserError, with the commands that make them, unless both files are there."""
    commands = {
        edgeface: f"python -m pipeline.export --to onnx --what edgeface --out {_in_checkpoints(edgeface)}",
        chain: f"python -m pipeline.export --to onnx --what chain --out {_in_checkpoints(chain)}",
    }
    missing = [name for name in commands if find_weights(name) is None]
    if missing:
        lines = "\n".join(f"  {commands[name]}" for name in missing)
        shipped = "".join(restoring(name) for name in missing)
        raise UserError(
            f"{' and '.join(missing)} not found, here or in checkpoints/.{shipped} Make once, where torch is:\n{lines}"
        )


def shared_sha256(edgeface: OnnxModel, chain: OnnxModel) -> str:
    """SHA-256 of the EdgeFace weights that both models were made from.

    Raises UserError where they differ, and for metadata without it.
    """
    for model, names in ((edgeface, ("edgeface",)), (chain, ("edgeface", "dsr"))):
        sums = [model.metadata.source_sha256.get(name) for name in names]
        if not all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in sums):
            raise UserError(
                f"{model.path} does not say which weights it was made from (metadata key 'source_sha256'). "
                "Make it again with `python -m pipeline.export`."
            )
    one, other = (model.metadata.source_sha256["edgeface"] for model in (edgeface, chain))
    if one != other:
        raise UserError(
            f"{edgeface.path} and {chain.path} hold different recognisers (EdgeFace weights {one[:12]}… and "
            f"{other[:12]}…), and their embeddings cannot be compared. Export both from the same weights."
        )
    return one


def _called(photo: Photo, name: str) -> str:
    return str(photo) if isinstance(photo, str | Path) else name


def _in_checkpoints(name: str) -> str:
    return name if Path(name).parent != Path(".") else f"checkpoints/{name}"
