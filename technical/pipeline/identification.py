"""Identification with rejection: whose face is a probe, or nobody's in the gallery?

A person's score is the best cosine over that person's gallery images, without the probe's own HR twin (the same person
and file stem). A probe is accepted as its best person when that score is at least the threshold, otherwise it is
unknown. A probe is mated when another HR image of its person is in the gallery; a non-mated one is right only when
rejected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from facial_rec import metrics
from facial_rec.identification_intervals import Share
from facial_rec.identification_metrics import Probes, subject_ranks
from facial_rec.metrics import Bools, Figures, Floats

Key = tuple[str, str]
"""Person and file stem: what an image and its twin share."""
Decision = Literal["correct", "wrong_person", "unknown", "false_accept", "correct_rejection"]

CHUNK = 512  # probes scored at once: 512 x 13,000 gallery images are 53 MB


@dataclass(frozen=True)
class Gallery:
    """Enrolled images with their embeddings."""

    vectors: NDArray[np.floating]
    """`(G, D)`, of any float type."""
    keys: Sequence[Key]
    """`(G,)`."""


@dataclass(frozen=True)
class Matches:
    """What each of P probes was matched to."""

    subjects: NDArray[np.str_]
    """`(P,)` the right person."""
    best_subjects: NDArray[np.str_]
    """`(P,)` the person with the highest score; of equals, not the right one."""
    scores: Floats
    """`(P,)` that person's score."""
    own_scores: Floats
    """`(P,)` the right person's score; -inf for a non-mated probe."""
    ranks: NDArray[np.int64]
    """`(P,)` rank of the right person, from 1; 0 for a non-mated probe."""

    @property
    def mated(self) -> Bools:
        return self.ranks > 0

    @property
    def probes(self) -> Probes:
        """Scores and ranks alone, which the figures of `identification_metrics` are made from."""
        return Probes(self.scores, self.own_scores, self.ranks)

    def decisions(self, threshold: float) -> list[Decision]:
        """What accepting at `threshold` makes of each probe.

        Mated: `correct`, `wrong_person` or `unknown`. Non-mated: `false_accept` or `correct_rejection`.
        """
        return [_decision(*row) for row in zip(self.mated, self.scores >= threshold, self.ranks == 1, strict=True)]


def _decision(mated: bool, accepted: bool, first: bool) -> Decision:
    if not mated:
        return "false_accept" if accepted else "correct_rejection"
    if not accepted:
        return "unknown"
    return "correct" if first else "wrong_person"


def identify(vectors: NDArray[np.floating], keys: Sequence[Key], gallery: Gallery) -> Matches:
    """Match probes `(P, D)` with the gallery. Raises UserError for a gallery of fewer than two people."""
    people = sorted({subject for subject, _ in gallery.keys})
    if len(people) < 2:
        raise UserError(f"The gallery holds {len(people)} identity: at least 2 are needed to tell people apart.")
    order = sorted(range(len(gallery.keys)), key=lambda index: gallery.keys[index][0])
    sorted_keys = [gallery.keys[index] for index in order]
    enrolled = metrics.unit_rows(gallery.vectors[order])
    starts = np.array(
        [index for index, key in enumerate(sorted_keys) if not index or key[0] != sorted_keys[index - 1][0]]
    )
    twins = defaultdict(list)
    for index, key in enumerate(sorted_keys):
        twins[key].append(index)
    columns = {subject: column for column, subject in enumerate(people)}
    probes = metrics.unit_rows(vectors)
    parts = []
    for start in range(0, len(probes), CHUNK):
        chunk = keys[start : start + CHUNK]
        scores = probes[start : start + CHUNK] @ enrolled.T
        for row, key in enumerate(chunk):
            scores[row, twins.get(key, [])] = -np.inf
        by_person = np.maximum.reduceat(scores, starts, axis=1)
        own = np.array([columns.get(subject, -1) for subject, _ in chunk])
        parts.append(_match(by_person, own, [subject for subject, _ in chunk], np.array(people)))
    return join(parts)


def _match(by_person: Floats, own: NDArray[np.int64], subjects: list[str], people: NDArray[np.str_]) -> Matches:
    ranks = subject_ranks(by_person, own)
    rows = np.arange(len(own))
    own_scores = np.where(ranks > 0, by_person[rows, own], -np.inf)
    others = by_person.copy()
    others[rows[own >= 0], own[own >= 0]] = -np.inf
    best = np.where(ranks == 1, own, others.argmax(axis=1))
    return Matches(np.array(subjects), people[best], by_person[rows, best], own_scores, ranks)


def join(parts: Sequence[Matches]) -> Matches:
    """One after the other."""
    return Matches(
        subjects=np.concatenate([part.subjects for part in parts]),
        best_subjects=np.concatenate([part.best_subjects for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        own_scores=np.concatenate([part.own_scores for part in parts]),
        ranks=np.concatenate([part.ranks for part in parts]),
    )


def identification_shares(matches: Matches, threshold: float) -> dict[str, Share]:
    """What each figure counts, among which probes, and which of them are errors.

    - `accuracy`: mated probes accepted as the right person, and non-mated ones rejected, of all probes.
    - `unknown_rate`: probes whose best score is below the threshold, of all probes.
    - `false_accept_rate`: probes accepted as the wrong person, of all probes; `..._mated` and `..._nonmated` the same
      among the mated probes and among the non-mated ones (the latter is FPIR in ISO/IEC 19795-1).
    - `rank1`, `rank5`: mated probes whose right person is first, or among the first five, whatever the score.
    - `reject_all_accuracy`, `accept_all_accuracy`: the accuracy of a threshold above, or below, every score.
    """
    mated, accepted, first = matches.mated, matches.scores >= threshold, matches.ranks == 1
    wrong, everyone = accepted & ~first, np.ones_like(mated)
    five = mated & (matches.ranks <= 5)
    right = (accepted & first) | (~accepted & ~mated)
    return {
        "accuracy": Share(right, everyone, "misses", "wrong decisions"),
        "unknown_rate": Share(~accepted, everyone, "hits", "probes below the threshold"),
        "false_accept_rate": Share(wrong, everyone, "hits", "false accepts"),
        "false_accept_rate_mated": Share(wrong, mated, "hits", "false accepts", "mated probes"),
        "false_accept_rate_nonmated": Share(wrong, ~mated, "hits", "false accepts", "non-mated probes"),
        "rank1": Share(first, mated, "misses", "probes not at rank 1", "mated probes"),
        "rank5": Share(five, mated, "misses", "probes not among the first 5", "mated probes"),
        "reject_all_accuracy": Share(~mated, everyone, "none"),
        "accept_all_accuracy": Share(first, everyone, "none"),
    }


def identification_figures(matches: Matches, threshold: float, weights: Floats | None = None) -> Figures:
    """Every figure of `identification_shares` as a fraction; None where no probe of the kind it needs is there."""
    return {name: one.value(weights) for name, one in identification_shares(matches, threshold).items()}


def counts_of(matches: Matches, threshold: float) -> dict[str, int]:
    """How many probes stand behind the figures, and how many false accepts there are of each kind."""
    decisions = matches.decisions(threshold)
    return {
        "probes": len(decisions),
        "mated": int(matches.mated.sum()),
        "nonmated": int((~matches.mated).sum()),
        "false_accepts_mated": decisions.count("wrong_person"),
        "false_accepts_nonmated": decisions.count("false_accept"),
    }


def per_subject(matches: Matches, threshold: float) -> dict[str, dict[str, float | int]]:
    """For each person, by name: `probes`, `correct` (identified, or rejected if non-mated), `unknown` (mated probes
    below the threshold), `false_accepts`, and `accuracy`."""
    by_person: dict[str, list[Decision]] = defaultdict(list)
    for subject, decision in zip(matches.subjects, matches.decisions(threshold), strict=True):
        by_person[str(subject)].append(decision)
    table: dict[str, dict[str, float | int]] = {}
    for subject, found in sorted(by_person.items()):
        correct = found.count("correct") + found.count("correct_rejection")
        table[subject] = {
            "probes": len(found),
            "correct": correct,
            "unknown": found.count("unknown"),
            "false_accepts": found.count("wrong_person") + found.count("false_accept"),
            "accuracy": correct / len(found),
        }
    return table
