"""Every figure against scikit-learn or a brute-force count, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from common.errors import UserError
from facial_rec import metrics

Scores = tuple[np.ndarray, np.ndarray]


def made_scores(seed: int, count: int = 400, decimals: int | None = None) -> Scores:
    """Overlapping genuine and impostor scores; few `decimals` make many ties."""
    rng = np.random.default_rng(seed)
    genuine = rng.random(count) < 0.4
    scores = rng.normal(np.where(genuine, 0.5, 0.1), 0.25)
    return (scores if decimals is None else scores.round(decimals)), genuine


every_kind = pytest.mark.parametrize("decimals", [None, 2, 1], ids=["distinct", "some-ties", "many-ties"])


def test_cosine_pairs_is_the_cosine() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 8)), rng.normal(size=(5, 8))
    expected = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.cosine_pairs(a, b), expected)
    np.testing.assert_allclose(metrics.cosine_pairs(a, 3 * a), 1.0)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([[1.0, np.nan]], [[1.0, 0.0]], "NaN"),
        ([[1.0, np.inf]], [[1.0, 0.0]], "infinite"),
        ([[0.0, 0.0]], [[1.0, 0.0]], "length zero"),
        ([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], "one shape"),
        ([1.0, 0.0], [[1.0, 0.0]], r"\(N, D\)"),
    ],
)
def test_cosine_pairs_refuses(first: list, second: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        metrics.cosine_pairs(first, second)


@every_kind
@pytest.mark.parametrize("weighted", [False, True])
def test_roc_and_auc_equal_scikit_learn(decimals: int | None, weighted: bool) -> None:
    scores, genuine = made_scores(1, decimals=decimals)
    weights = np.random.default_rng(0).integers(0, 4, len(scores)).astype(float) if weighted else None
    curve = metrics.roc(scores, genuine, weights)
    fpr, tpr, thresholds = sk.roc_curve(genuine, scores, sample_weight=weights, drop_intermediate=False)
    if not weighted:  # scikit-learn leaves out points of weight 0
        np.testing.assert_allclose(curve.fmr, fpr)
        np.testing.assert_allclose(curve.tmr, tpr)
        np.testing.assert_allclose(curve.thresholds, thresholds)
    assert metrics.auc(curve) == pytest.approx(sk.roc_auc_score(genuine, scores, sample_weight=weights))


@every_kind
def test_auc_is_the_chance_that_genuine_outscores_impostor(decimals: int | None) -> None:
    scores, genuine = made_scores(2, 120, decimals)
    g, i = scores[genuine][:, None], scores[~genuine][None]
    assert metrics.auc(metrics.roc(scores, genuine)) == pytest.approx(((g > i) + 0.5 * (g == i)).mean())


@every_kind
@pytest.mark.parametrize("fmr", [0.3, 0.05, 1e-2, 1e-3, 1.0])
def test_tar_at_fmr_is_the_best_of_all_thresholds(decimals: int | None, fmr: float) -> None:
    scores, genuine = made_scores(3, decimals=decimals)
    g, i = scores[genuine], scores[~genuine]
    candidates = np.append(np.unique(scores), np.inf)
    brute = max((g >= t).mean() for t in candidates if (i >= t).mean() <= fmr)
    assert metrics.tar_at_fmr(metrics.roc(scores, genuine), fmr) == pytest.approx(brute)


def test_tar_counts_a_rate_that_is_exactly_the_target() -> None:
    impostor = np.linspace(0, 0.5, 3000)
    scores, genuine = np.append(impostor, [0.4999, 0.4998, 0.1]), np.append(np.zeros(3000), np.ones(3)).astype(bool)
    scores[:3000].sort()
    assert metrics.tar_at_fmr(metrics.roc(scores, genuine), 1e-3) == pytest.approx(2 / 3)  # 3 of 3000 accepted


def test_tar_is_zero_when_an_impostor_leads() -> None:
    assert metrics.tar_at_fmr(metrics.roc([0.9, 0.8, 0.1], [False, True, False]), 1e-3) == 0.0


@pytest.mark.parametrize("fmr", [0.0, -1.0, 2.0, float("nan")])
def test_tar_refuses_a_rate_that_is_none(fmr: float) -> None:
    with pytest.raises(UserError, match="false match rate"):
        metrics.tar_at_fmr(metrics.roc([0.9, 0.1], [True, False]), fmr)


@every_kind
def test_eer_lies_where_the_curve_crosses(decimals: int | None) -> None:
    scores, genuine = made_scores(4, decimals=decimals)
    fpr, tpr, _ = sk.roc_curve(genuine, scores, drop_intermediate=False)
    rates = np.linspace(0, 1, 200_001)
    fnr = 1 - np.interp(rates, fpr, tpr)  # upper end of a vertical step: exact to one step of a genuine pair
    brute = rates[np.argmin(np.abs(rates - fnr))]
    assert metrics.eer(metrics.roc(scores, genuine)) == pytest.approx(brute, abs=1e-4 + 1 / genuine.sum())


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], 0.0),
        ([0.1, 0.2, 0.8, 0.9], 1.0),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.9, 0.3, 0.5, 0.1], 0.5),
    ],
)
def test_eer_of_simple_cases(scores: list[float], expected: float) -> None:
    assert metrics.eer(metrics.roc(scores, [True, True, False, False])) == pytest.approx(expected)


@every_kind
def test_error_rates_at_a_threshold(decimals: int | None) -> None:
    scores, genuine = made_scores(5, decimals=decimals)
    threshold = float(np.median(scores))  # with ties, exactly a score: accepted
    accept = scores >= threshold
    assert metrics.fmr_at(scores, genuine, threshold) == pytest.approx(accept[~genuine].mean())
    assert metrics.fnmr_at(scores, genuine, threshold) == pytest.approx((~accept)[genuine].mean())
    assert metrics.accuracy_at(scores, genuine, threshold) == pytest.approx((accept == genuine).mean())


@every_kind
@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_is_the_best(seed: int, decimals: int | None) -> None:
    scores, genuine = made_scores(seed, 60, decimals)
    found = metrics.accuracy_at(scores, genuine, metrics.best_threshold(scores, genuine))
    candidates = np.append(np.unique(scores), np.inf)
    assert found == max(metrics.accuracy_at(scores, genuine, float(t)) for t in candidates)


@pytest.mark.parametrize(
    ("scores", "genuine", "expected"),
    [
        ([0.2, 0.6], [False, True], 0.4),  # halfway
        ([0.6, 0.2], [False, True], 0.2),  # accept all and reject all tie: the lower of the two
        ([0.1, 0.2, 0.3], [True, True, True], 0.1),
        ([0.1, 0.2, 0.3], [False, False, False], np.nextafter(0.3, 1)),
        ([0.1, 0.4, 0.5, 0.8], [False, True, False, True], 0.25),  # 0.25 and 0.65 tie, 0.45 is worse
    ],
)
def test_best_threshold_among_ties(scores: list[float], genuine: list[bool], expected: float) -> None:
    assert metrics.best_threshold(scores, genuine) == pytest.approx(expected)


def test_best_threshold_with_weights_is_that_of_repeated_pairs() -> None:
    scores, genuine = made_scores(6, 80, 2)
    weights = np.random.default_rng(1).integers(0, 4, 80)
    repeated = metrics.best_threshold(scores.repeat(weights), genuine.repeat(weights))
    assert metrics.best_threshold(scores, genuine, weights) == repeated


def test_kfold_applies_the_threshold_of_the_other_folds() -> None:
    scores, genuine = made_scores(7, 300)
    folds = np.repeat(np.arange(10), 30)
    found = metrics.kfold_accuracy(scores, genuine, folds)
    assert found is not None
    for fold in range(10):
        held = folds == fold
        threshold = metrics.best_threshold(scores[~held], genuine[~held])
        assert found.thresholds[fold] == threshold
        assert found.folds[fold] == pytest.approx(((scores[held] >= threshold) == genuine[held]).mean())
    assert found.mean == pytest.approx(np.mean(found.folds))
    assert found.std == pytest.approx(np.std(found.folds))


def test_kfold_never_looks_at_the_fold_it_judges() -> None:
    scores, genuine = made_scores(8, 100)
    folds = np.repeat(np.arange(2), 50)
    before = metrics.kfold_accuracy(scores, genuine, folds)
    changed = scores.copy()
    changed[folds == 1] += 0.3
    after = metrics.kfold_accuracy(changed, genuine, folds)
    assert before is not None
    assert after is not None
    assert before.thresholds[1] == after.thresholds[1]
    assert before.thresholds[0] != after.thresholds[0]


def test_kfold_needs_two_folds() -> None:
    scores, genuine = made_scores(9, 20)
    assert metrics.kfold_accuracy(scores, genuine, np.zeros(20)) is None
    with pytest.raises(UserError, match="fold numbers"):
        metrics.kfold_accuracy(scores, genuine, np.zeros(19))


def test_baselines() -> None:
    assert metrics.reject_all_accuracy([True, False, False, False]) == 0.75
    assert metrics.accept_all_accuracy([True, False, False, False]) == 0.25
    with pytest.raises(UserError, match="No pairs"):
        metrics.reject_all_accuracy([])


def test_one_class_only_gives_none_and_no_curve() -> None:
    scores, genuine = np.array([0.1, 0.6]), np.array([True, True])
    assert metrics.fmr_at(scores, genuine, 0.35) is None
    assert metrics.fnmr_at(scores, ~genuine, 0.35) is None
    with pytest.raises(UserError, match="only one of the two"):
        metrics.roc(scores, genuine)
    figures = metrics.verification_figures(scores, genuine, [0, 1], 0.35)
    assert figures["auc"] is figures["eer"] is figures["tar@fmr=1e-3"] is figures["fmr@threshold"] is None
    assert figures["fnmr@threshold"] == 0.5


@pytest.mark.parametrize(
    ("scores", "genuine", "weights", "words"),
    [
        ([], [], None, "No pairs"),
        ([0.1, np.nan], [True, False], None, "1 of 2 scores are NaN"),
        ([0.1, 0.2], [True], None, "one length"),
        ([[0.1, 0.2]], [[True, False]], None, "one length"),
        ([0.1, 0.2], [True, False], [1.0], "one length"),
        ([0.1, 0.2], [True, False], [1.0, -1.0], "Weights"),
        ([0.1, 0.2], [True, False], [0.0, 0.0], "Weights"),
    ],
)
def test_bad_scores_are_refused(scores: list, genuine: list, weights: list | None, words: str) -> None:
    for figure in (metrics.roc, metrics.best_threshold):
        with pytest.raises(UserError, match=words):
            figure(scores, genuine, weights)
    with pytest.raises(UserError, match=words):
        metrics.accuracy_at(scores, genuine, 0.35, weights)


def test_verification_figures_with_weights_are_those_of_repeated_pairs() -> None:
    scores, genuine = made_scores(10, 300, 2)
    folds, weights = np.repeat(np.arange(5), 60), np.random.default_rng(2).integers(0, 3, 300)
    weighted = metrics.verification_figures(scores, genuine, folds, 0.35, weights)
    repeated = metrics.verification_figures(
        scores.repeat(weights), genuine.repeat(weights), folds.repeat(weights), 0.35
    )
    assert weighted == pytest.approx(repeated)
    assert all(value is not None and 0 <= value <= 1 for value in weighted.values())


def test_infinite_scores_are_ordered_like_others() -> None:
    assert metrics.auc(metrics.roc([np.inf, 0.1, -np.inf], [True, False, False])) == 1.0


def test_a_million_scores() -> None:
    """Every figure at the size of the large public pair lists; one that compared all with all would never end."""
    scores, genuine = made_scores(11, 1_000_000)
    figures = metrics.verification_figures(scores, genuine, np.arange(1_000_000) % 10, 0.35)
    assert figures["auc"] == pytest.approx(sk.roc_auc_score(genuine, scores))
    assert metrics.d_prime(scores, genuine) == pytest.approx(0.4 / 0.25, abs=0.01)


@every_kind
def test_d_prime_is_the_formula(decimals: int | None) -> None:
    scores, genuine = made_scores(15, 500, decimals)
    g, i = scores[genuine], scores[~genuine]
    expected = abs(g.mean() - i.mean()) / np.sqrt((g.var() + i.var()) / 2)
    assert metrics.d_prime(scores, genuine) == pytest.approx(expected)
    assert metrics.d_prime(-scores, genuine) == pytest.approx(expected)
    weights = np.random.default_rng(4).integers(0, 4, 500)
    repeated = metrics.d_prime(scores.repeat(weights), genuine.repeat(weights))
    assert metrics.d_prime(scores, genuine, weights) == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("scores", "genuine"),
    [
        ([0.1, 0.2], [True, True]),
        ([0.1, 0.2], [False, False]),
        ([0.1, 0.2], [True, False]),
        ([0.1, np.inf, 0.3], [True, True, False]),
    ],
    ids=["genuine only", "impostors only", "no spread", "infinite"],
)
def test_d_prime_that_is_undefined_is_none(scores: list[float], genuine: list[bool]) -> None:
    assert metrics.d_prime(scores, genuine) is None


def test_d_prime_refuses_nan() -> None:
    with pytest.raises(UserError, match="NaN"):
        metrics.d_prime([0.1, np.nan], [True, False])
