"""Verification over a pair list: HR, bicubic and DSR side by side, for any recogniser.

The maths of `pipeline.evaluate_pairs`, for callers that bring their own recogniser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from common.images import RgbImage
from facial_rec import bootstrap, metrics
from facial_rec.metrics import Figures, Floats
from pipeline.embedding import Chain, Embedded, Reduction, embed, hr_batches, make_reducer
from pipeline.networks import check_settings
from pipeline.pairs import PairList

Protocol = Literal["lr-lr", "lr-hr"]

# In the order tables and files show them.
VERIFICATION = ("accuracy", "accuracy_std", "auc", "eer", *metrics.TAR_POINTS, "fmr@threshold", "fnmr@threshold")
QUALITY = ("psnr", "ssim", "identity_loss")
WITHOUT_INTERVAL = ("accuracy_std",)


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    vlr_size: int = 16
    """Side of the low-resolution images in pixels."""
    protocol: Protocol = "lr-lr"
    """Whether both images of a pair are of low resolution, or the first only."""
    threshold: float = 0.35
    """Cosine from which a pair is accepted, for `fmr@threshold` and `fnmr@threshold`."""
    reduction: Reduction = "canonical"
    bootstrap: int = 1000
    """Resamples behind the 95 % intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of the resampling."""

    def __post_init__(self) -> None:
        check_settings(self.threshold, self.bootstrap)


def evaluate(read: Callable[[str], RgbImage], pairs: PairList, chain: Chain, settings: Settings) -> dict[str, Any]:
    """Every figure of every recogniser and method over `pairs`, ready for JSON.

    `read` gives the RGB uint8 `(112, 112, 3)` image of a name. The result has `methods`, `differences`, and the
    settings. A method is keyed `hr`, `bicubic` or `dsr`; with several recognisers `<recogniser>/hr` and so on. Figures
    are fractions (PSNR in dB), None where one has no meaning; `<figure>_ci95` is the subject-level 95 % interval.

    Image figures are means over the low-resolution images: PSNR and SSIM against the HR image, and the identity loss
    `1 - cosine` between the embeddings of the method's image and of the HR image.
    """
    scored = _score(read, pairs, chain, settings)
    methods = {key: one.figures(settings.threshold) for key, one in scored.items()}
    replicates = _replicate(pairs, scored, settings)
    for key, figures in methods.items():
        figures |= {
            f"{name}_ci95": bootstrap.percentile_interval(values) for name, values in replicates.get(key, {}).items()
        }
    return {
        "methods": methods,
        "differences": _differences(methods, replicates, chain),
        "protocol": settings.protocol,
        "vlr_size": settings.vlr_size,
        "threshold": settings.threshold,
        "reduction": settings.reduction,
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "pairs": {
            "genuine": int(pairs.genuine.sum()),
            "impostor": int((~pairs.genuine).sum()),
            "folds": pairs.folds,
            "images": len(pairs.images),
        },
    }


def method_key(chain: Chain, recogniser: str, method: str) -> str:
    """How a method is keyed: by its name alone when there is a single recogniser."""
    return method if len(chain.embedders) == 1 else f"{recogniser}/{method}"


@dataclass(frozen=True)
class _Scored:
    """The scores of one recogniser and method, and the quality of its images."""

    scores: Floats
    genuine: NDArray[np.bool_]
    folds: NDArray[np.int64]
    quality: dict[str, Floats]
    """`(M,)` per figure of `QUALITY`, one a low-resolution image; empty for HR."""
    image_subjects: tuple[str, ...]
    """`(M,)` the person on each low-resolution image."""

    def figures(self, threshold: float) -> dict[str, Any]:
        verification = metrics.verification_figures(self.scores, self.genuine, self.folds, threshold)
        means = {name: _mean(self.quality.get(name)) for name in QUALITY}
        baselines = {
            "reject_all_accuracy": metrics.reject_all_accuracy(self.genuine),
            "accept_all_accuracy": metrics.accept_all_accuracy(self.genuine),
        }
        return {**verification, **means, **baselines}


def _mean(values: Floats | None, weights: Floats | None = None) -> float | None:
    """The weighted mean; None without values, without weight, or when infinite (PSNR of an image equal to its HR)."""
    if values is None or not len(values) or not np.isfinite(values).all():
        return None
    if weights is not None and not weights.any():
        return None
    return float(np.average(values, weights=weights))


def _score(read: Callable[[str], RgbImage], pairs: PairList, chain: Chain, settings: Settings) -> dict[str, _Scored]:
    low_names = pairs.images if settings.protocol == "lr-lr" else pairs.first_images
    hr_only = sorted(set(pairs.images) - set(low_names))
    reduce = make_reducer(settings.vlr_size, settings.reduction)
    low = embed(chain, hr_batches(chain, read, low_names, reduce), len(low_names), ", ".join(chain.methods))
    rest = embed(chain, hr_batches(chain, read, hr_only), len(hr_only), "hr") if hr_only else Embedded()
    subjects = {pair.first: pair.first_subject for pair in pairs.pairs}
    subjects |= {pair.second: pair.second_subject for pair in pairs.pairs}
    rows = {name: row for row, name in enumerate([*low_names, *hr_only])}
    first = [rows[pair.first] for pair in pairs.pairs]
    second = [rows[pair.second] for pair in pairs.pairs]
    scored = {}
    for recogniser in chain.embedders:
        hr = np.concatenate([part.vectors[recogniser, "hr"] for part in (low, rest) if part.vectors])
        for method in chain.methods:
            probes = hr if method == "hr" else low.vectors[recogniser, method]
            others = probes if settings.protocol == "lr-lr" else hr
            scored[method_key(chain, recogniser, method)] = _Scored(
                scores=metrics.cosine_pairs(probes[first], others[second]),
                genuine=pairs.genuine,
                folds=pairs.fold_numbers,
                quality={} if method == "hr" else _quality(low, recogniser, method),
                image_subjects=tuple(subjects[name] for name in low_names),
            )
    return scored


def _quality(low: Embedded, recogniser: str, method: str) -> dict[str, Floats]:
    cosine = metrics.cosine_pairs(low.vectors[recogniser, method], low.vectors[recogniser, "hr"])
    return {"psnr": low.psnr[method], "ssim": low.ssim[method], "identity_loss": 1.0 - cosine}


Replicates = dict[str, dict[str, Floats]]


def _replicate(pairs: PairList, scored: dict[str, _Scored], settings: Settings) -> Replicates:
    """Every figure of every method in every resample of people; the resamples are the same for all methods."""
    if settings.bootstrap == 0:
        return {}
    images = next(iter(scored.values())).image_subjects
    (first, second, image), count = bootstrap.number_subjects(
        [pair.first_subject for pair in pairs.pairs], [pair.second_subject for pair in pairs.pairs], images
    )
    draws = bootstrap.resample_subjects(count, settings.bootstrap, settings.seed)
    subjects = (first, second, image)
    progress = tqdm(scored.items(), desc="95 % intervals", unit="method")
    return {key: _replicate_one(one, draws, subjects, settings.threshold) for key, one in progress}


def _replicate_one(
    one: _Scored, draws: bootstrap.Resamples, subjects: Sequence[NDArray[np.int64]], threshold: float
) -> dict[str, Floats]:
    order = np.argsort(one.scores, kind="stable")  # once: sorting them again in each resample then takes no time
    scores, genuine, folds = one.scores[order], one.genuine[order], one.folds[order]
    first, second, image = subjects[0][order], subjects[1][order], subjects[2]

    def figures(weights: Floats) -> Figures:
        found = metrics.verification_figures(scores, genuine, folds, threshold, weights)
        return {name: value for name, value in found.items() if name not in WITHOUT_INTERVAL}

    def quality(weights: Floats) -> Figures:
        return {name: _mean(values, weights) for name, values in one.quality.items()}

    pair_weights = (bootstrap.pair_weights(draw, first, second) for draw in draws)
    image_weights = (draw[image].astype(np.float64) for draw in draws)
    return bootstrap.replicate(figures, pair_weights) | bootstrap.replicate(quality, image_weights)


def _differences(methods: dict[str, Figures], replicates: Replicates, chain: Chain) -> dict[str, dict[str, Any]]:
    """DSR minus bicubic, figure by figure, with the interval of the paired difference (same resamples for both)."""
    if chain.dsr is None:
        return {}
    differences = {}
    for recogniser in chain.embedders:
        ours, base = (method_key(chain, recogniser, method) for method in ("dsr", "bicubic"))
        found: dict[str, Any] = {}
        for name in (*VERIFICATION, *QUALITY):
            a, b = methods[ours][name], methods[base][name]
            found[name] = None if a is None or b is None else a - b
            if ours in replicates and name in replicates[ours]:
                gap = replicates[ours][name] - replicates[base][name]
                found[f"{name}_ci95"] = bootstrap.percentile_interval(gap)
        differences[method_key(chain, recogniser, "dsr-bicubic")] = found
    return differences
