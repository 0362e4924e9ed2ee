"""Verification over a pair list at any low resolutions: HR, bicubic and DSR side by side, for any recogniser.

The maths of `pipeline.evaluate_pairs` and `pipeline.evaluate_resolutions`, for callers that bring their own recogniser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.progress import progress_bar
from facial_rec import bootstrap, metrics
from facial_rec.metrics import Floats
from facial_rec.pair_bootstrap import PairResampler, Replicates
from facial_rec.pairs import PairList
from facial_rec.sources import ImageSource
from facial_rec.verification import Comparisons, differences, entry, with_intervals
from pipeline.cache import EmbeddingCache
from pipeline.chain import Chain, Vectors
from pipeline.degradations import Degradation, View, check_size
from pipeline.embedding import ImageEmbeddings, embed_images
from pipeline.networks import check_settings

Protocol = Literal["lr-lr", "lr-hr"]
HR = View("hr")

# In the order tables and files show them.
VERIFICATION = (
    *("accuracy", "accuracy_std", "auc", "eer", "d_prime", *metrics.TAR_POINTS),
    *("fmr@threshold", "fnmr@threshold"),
)
QUALITY = ("psnr", "ssim", "lpips", "identity_loss")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    vlr_sizes: tuple[int, ...] = (16,)
    """Sides of the low-resolution images in pixels."""
    protocols: tuple[Protocol, ...] = ("lr-lr",)
    """Whether both images of a pair are of low resolution, or the first only."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for `fmr@threshold` and `fnmr@threshold`."""
    degradation: Degradation = "canonical"
    bootstrap: int = 1000
    """Resamples behind the 95 % intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of the resampling and of the realistic degradations."""

    def __post_init__(self) -> None:
        check_settings(self.threshold, self.bootstrap, self.seed)
        for name, values in (("--vlr-size", self.vlr_sizes), ("--protocol", self.protocols)):
            if not values or len(set(values)) < len(values):
                raise UserError(f"{name} {' '.join(map(str, values))}: expected one or more, each once.")
        for size in self.vlr_sizes:
            check_size(size, "--vlr-size")

    def view(self, method: str, size: int) -> View:
        """How a low-resolution image is looked at; only realistic degradations depend on the seed."""
        drawn = self.degradation.startswith("realistic")
        return View(method, size, self.degradation, self.seed if drawn else 0)


@dataclass(frozen=True, order=True)
class Case:
    """One row of a table: what was measured how."""

    recogniser: str
    protocol: Protocol
    size: int | None
    """None for HR: both images as they are."""
    method: str


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` gives."""

    entries: dict[Case, dict[str, Any]]
    """For each case the parts of a record's `verification` that were measured: `figures` and so on."""
    differences: dict[Case, dict[str, Any]]
    """DSR minus bicubic, by the case of the DSR."""
    between: dict[tuple[Case, Case], dict[str, Any]]
    """Each further recogniser minus the first: the same images, and its DSR minus the first one's bicubic."""
    scores: dict[Case, Floats]
    """`(N,)` cosine of each pair."""


def evaluate(
    source: ImageSource, pairs: PairList, chain: Chain, settings: Settings, cache: EmbeddingCache | None = None
) -> Evaluation:
    """Every figure of every recogniser, protocol, size and method over `pairs`.

    Figures are fractions (PSNR in dB), None where one has no meaning or too few errors stand behind it;
    `<figure>_ci95` is the subject-level 95 % interval. Image figures are means over the low-resolution images: PSNR,
    SSIM and, where its backbone is at hand, LPIPS against the HR image, and the identity loss `1 - cosine` between the
    embeddings of the method's image and of the HR image. Raises UserError for a list of one class, before anything is
    embedded, and as `embed_images` does.
    """
    if pairs.genuine.all() or not pairs.genuine.any():
        there, absent = ("genuine", "impostor") if pairs.genuine.any() else ("impostor", "genuine")
        raise UserError(
            f"The pairs of {source.label} are all {there} ({len(pairs):,}): accuracy, ROC, EER and TAR need {absent} "
            "pairs as well. Give a list with both."
        )
    measured = _Measured(source, pairs, chain, settings, cache)
    entries: dict[Case, dict[str, Any]] = {}
    replicates: dict[Case, dict[str, Replicates]] = {}
    scores: dict[Case, Floats] = {}
    cases = measured.cases
    with progress_bar(len(cases), "figures and intervals", "table row", show=settings.bootstrap > 0) as progress:
        for case in cases:
            scores[case] = measured.scores(case)
            if twin := _same_hr(case, entries):
                entries[case], replicates[case] = entries[twin], replicates[twin]
            else:
                entries[case], replicates[case] = measured.entry(case, scores[case])
            progress.update()

    def gap(case: Case, base: Case) -> dict[str, Any]:
        return differences(entries[case]["figures"], entries[base]["figures"], replicates[case], replicates[base])

    gaps = {
        case: gap(case, base)
        for case, base in ((case, Case(case.recogniser, case.protocol, case.size, "bicubic")) for case in cases)
        if case.method == "dsr"
    }
    between = {pair: _but_images(gap(*pair)) for pair in _against_first(cases)}
    return Evaluation(entries, gaps, between, scores)


def _but_images(figures: dict[str, Any]) -> dict[str, Any]:
    """Without PSNR, SSIM and LPIPS, which are the same for every recogniser."""
    of_images = [name for name in QUALITY if name != "identity_loss"]
    return {name: value for name, value in figures.items() if name.removesuffix("_ci95") not in of_images}


def _against_first(cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Every case of a further recogniser with the first one's: by the same method, and what DSR does by bicubic too."""
    first = cases[0].recogniser
    others = [case for case in cases if case.recogniser != first]
    return [
        (case, replace(case, recogniser=first, method=method))
        for case in others
        for method in ((case.method, "bicubic") if case.method == "dsr" else (case.method,))
    ]


def _same_hr(case: Case, done: dict[Case, dict[str, Any]]) -> Case | None:
    """The case of another protocol that is the same comparison of HR images."""
    return next((one for one in done if one.method == case.method == "hr" and one.recogniser == case.recogniser), None)


class _Measured:
    """The embeddings of a pair list's images, and the figures that follow."""

    def __init__(
        self,
        source: ImageSource,
        pairs: PairList,
        chain: Chain,
        settings: Settings,
        cache: EmbeddingCache | None,
    ) -> None:
        self.settings, self.chain = settings, chain
        self.genuine, self.folds = pairs.genuine, pairs.fold_numbers
        self.names = pairs.images
        rows = {name: row for row, name in enumerate(self.names)}
        self.first = np.array([rows[pair.first] for pair in pairs.pairs])
        self.second = np.array([rows[pair.second] for pair in pairs.pairs])
        subjects = {pair.first: pair.first_subject for pair in pairs.pairs}
        subjects |= {pair.second: pair.second_subject for pair in pairs.pairs}
        (people,), self.people = bootstrap.number_subjects([subjects[name] for name in self.names])
        self.image_people: NDArray[np.int64] = people
        self.resampler = PairResampler(people[self.first], people[self.second], settings.bootstrap, settings.seed)
        self.low, self.hr = self._embed(source, cache)

    @property
    def cases(self) -> list[Case]:
        sizes: Sequence[tuple[int | None, tuple[str, ...]]] = [
            (None, ("hr",)),
            *((size, self.chain.low_methods) for size in self.settings.vlr_sizes),
        ]
        return [
            Case(recogniser, protocol, size, method)
            for recogniser in self.chain.embedders
            for protocol in self.settings.protocols
            for size, methods in sizes
            for method in methods
        ]

    def _embed(self, source: ImageSource, cache: EmbeddingCache | None) -> tuple[ImageEmbeddings, dict[str, Vectors]]:
        """The images that are of low resolution in some protocol, and the HR embeddings of all, by recogniser."""
        views = [self.settings.view(m, size) for size in self.settings.vlr_sizes for m in self.chain.low_methods]
        rows = self._low(self.settings.protocols)
        low = embed_images(self.chain, source, [self.names[row] for row in rows], [HR, *views], cache)
        whole = {name: self._spread(rows, low.vectors[name, HR]) for name in self.chain.embedders}
        rest = np.setdiff1d(np.arange(len(self.names)), rows)
        if len(rest):
            others = embed_images(self.chain, source, [self.names[row] for row in rest], [HR], cache)
            for name, vectors in whole.items():
                vectors[rest] = others.vectors[name, HR]
        return low, whole

    def _spread(self, rows: NDArray[np.int64], values: Vectors) -> Vectors:
        """`values` `(len(rows), D)` at `rows` of an array with a row for every image; zeros elsewhere."""
        spread = np.zeros((len(self.names), values.shape[1]), values.dtype)
        spread[rows] = values
        return spread

    def _low(self, protocols: Sequence[Protocol]) -> NDArray[np.int64]:
        """Rows of the images that are of low resolution in one of the protocols, rising."""
        return np.arange(len(self.names)) if "lr-lr" in protocols else np.unique(self.first)

    def vectors(self, recogniser: str, view: View) -> Vectors:
        """`(M, D)`, a row an image of `names`; zeros for images that are not looked at so."""
        if view == HR:
            return self.hr[recogniser]
        return self._spread(self._low(self.settings.protocols), self.low.vectors[recogniser, view])

    def scores(self, case: Case) -> Floats:
        hr = self.hr[case.recogniser]
        if case.size is None:
            return metrics.cosine_pairs(hr[self.first], hr[self.second])
        low = self.vectors(case.recogniser, self.settings.view(case.method, case.size))
        return metrics.cosine_pairs(low[self.first], (low if case.protocol == "lr-lr" else hr)[self.second])

    def entry(self, case: Case, scores: Floats) -> tuple[dict[str, Any], dict[str, Replicates]]:
        comparisons = Comparisons(scores, self.genuine, self.folds)
        threshold = self.settings.threshold
        replicates = comparisons.replicate(self.resampler, threshold)
        found = entry(comparisons, threshold, replicates)
        means, image_replicates = self._quality(case)
        found["figures"] |= means
        return found, replicates | image_replicates

    def _quality(self, case: Case) -> tuple[dict[str, Any], dict[str, Replicates]]:
        """Means over the low-resolution images of the case, with intervals, and their replicates."""
        if case.size is None:
            return dict.fromkeys(QUALITY), {}
        view, low = self.settings.view(case.method, case.size), self._low((case.protocol,))
        embedded = np.searchsorted(self._low(self.settings.protocols), low)
        values = {name: column[embedded] for name, column in self.low.quality[view].items()}
        vectors = self.vectors(case.recogniser, view)[low], self.hr[case.recogniser][low]
        values["identity_loss"] = 1.0 - metrics.cosine_pairs(*vectors)
        values = {name: column for name, column in values.items() if np.isfinite(column).all()}
        means = {name: float(values[name].mean()) if name in values else None for name in QUALITY}
        replicates = {name: self._replicated_mean(column, low) for name, column in values.items()}
        if not self.settings.bootstrap:
            return means, {}
        return with_intervals(means, replicates), replicates

    def _replicated_mean(self, values: Floats, rows: NDArray[np.int64]) -> Replicates:
        people = self.image_people[rows]
        sums, counts = (np.bincount(people, weights, self.people) for weights in (values, np.ones(len(values))))
        parts = [(draws @ sums, draws @ counts) for draws in self.resampler.draws()]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.concatenate([total / count for total, count in parts]) if parts else np.array([])
        return Replicates(mean, mean, np.zeros_like(mean))


def counts_of(pairs: PairList) -> dict[str, Any]:
    """How many pairs, images, people and folds stand behind the figures; `people` is None where they are not known."""
    people = {name for pair in pairs.pairs for name in (pair.first_subject, pair.second_subject)}
    return {
        "genuine": int(pairs.genuine.sum()),
        "impostor": int((~pairs.genuine).sum()),
        "folds": pairs.folds,
        "images": len(pairs.images),
        "people": len(people) if pairs.people_known else None,
    }
