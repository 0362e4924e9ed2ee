# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From which score on is it the same person?
#
# A recogniser gives a score, an application needs an answer. A threshold makes two kinds of mistakes: it accepts
# impostors (**FMR**, false match rate) and rejects genuine pairs (**FNMR**, false non-match rate). Raising it trades
# one for the other. This notebook chooses thresholds with `pipeline.calibrate` on the validation people, and then
# counts mistakes on the test people, who had no part in the choice.
#
# **It shows** why the size of a face needs a threshold of its own, why a threshold keeps its promise less well on new
# people, and what "cannot tell" is for. **It does not show** thresholds for your use: those must be chosen on faces
# like yours, and on far more people than here if the wanted FMR is small.

# %% [markdown]
# ## Your data
#
# This is the only cell to change. With `None` everywhere, made-up people are drawn, for the shipped networks.

# %%
FACES = None  # aligned 112x112 faces: a folder per identity, a zip of one, or a folder with train_processed and so on
EDGEFACE = None  # recogniser: a file, or a name in checkpoints/
DSR = None  # super-resolution: a file, or a name in checkpoints/
SIZES = (8, 16, 32)  # sides of the probes in pixels, 8 to 64; HR is always looked at too
FMR, FNMR = 0.02, 0.05  # wanted: at most this share of impostors called the same, of genuine pairs called different

# %%
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from facial_rec.faceset import FaceSet
from facial_rec.sources import StoreSource
from facial_rec.thresholds import DEFAULT_THRESHOLD
from pipeline import calibrate
from pipeline.degradations import View
from pipeline.development_set import development_pairs
from pipeline.embedding import embed_images
from pipeline.networks import load_chain
from pipeline.walkthrough import is_tiny, made_folder, materials

# The modules above draw into files; from here on pictures go into the notebook.
# %matplotlib inline

given = materials(FACES, EDGEFACE, DSR)
print(given.note)

# %% [markdown]
# ## Scores of every pair
#
# Every two photos are compared, the first reduced and restored by the DSR, the second in HR (the protocol LR-HR: a
# small probe against a good photo). The two sets of people are kept apart from here on.


# %%
def scores_of(root: Path) -> tuple[dict[int | None, np.ndarray], np.ndarray]:
    """The cosine of every pair at each size (None: HR), and which pairs are genuine."""
    faces = FaceSet(root)
    names = [face.name for face in faces.faces]
    pairs = development_pairs([face.subject for face in faces.faces])
    views = {size: View("dsr", size) for size in SIZES} | {None: View("hr")}
    found = embed_images(chain, StoreSource(faces.store, names), names, list(views.values()), quality=False).vectors
    hr = found[recogniser, View("hr")].astype(float)
    return {s: pairs.scores(found[recogniser, v].astype(float), hr) for s, v in views.items()}, pairs.genuine


chain, _ = load_chain([given.edgeface], given.dsr)
(recogniser,) = chain.embedders
chosen_on, chosen_genuine = scores_of(given.val)
tried_on, tried_genuine = scores_of(given.test)
for what, genuine in (("validation", chosen_genuine), ("test", tried_genuine)):
    print(f"{what}: {genuine.sum():,} genuine and {(~genuine).sum():,} impostor pairs")

# %% [markdown]
# The same threshold cuts these clouds at different places: as faces get smaller the genuine scores fall, while the
# impostors' scores stay or even rise.

# %%
title_of = {size: "HR" if size is None else f"{size} pixels" for size in chosen_on}
fig, axes = plt.subplots(1, len(chosen_on), figsize=(3.4 * len(chosen_on), 2.8), sharex=True, layout="constrained")
for ax, (size, scores) in zip(axes, chosen_on.items(), strict=True):
    bins = np.linspace(-0.4, 1.0, 57)
    ax.hist(scores[~chosen_genuine], bins, density=True, alpha=0.6, color="tab:orange", label="impostor")
    ax.hist(scores[chosen_genuine], bins, density=True, alpha=0.6, color="tab:blue", label="genuine")
    ax.axvline(DEFAULT_THRESHOLD, color="grey", linestyle="--", label=f"{DEFAULT_THRESHOLD}")
    ax.set(title=title_of[size], xlabel="cosine", yticks=[])
axes[0].legend()
plt.show()

# %% [markdown]
# ## The two errors, by threshold
#
# Where the lines cross, both errors are equally frequent: the equal error rate, a fair summary and rarely the place to
# work at. Letting in the wrong person usually costs more than asking again, so one fixes the FMR and takes the FNMR
# that follows.

# %%
at = np.linspace(-0.4, 1.0, 141)
fig, axes = plt.subplots(1, len(chosen_on), figsize=(3.4 * len(chosen_on), 2.8), sharey=True, layout="constrained")
for ax, (size, scores) in zip(axes, chosen_on.items(), strict=True):
    ax.plot(at, [(scores[~chosen_genuine] >= t).mean() for t in at], color="tab:orange", label="FMR")
    ax.plot(at, [(scores[chosen_genuine] < t).mean() for t in at], color="tab:blue", label="FNMR")
    ax.axhline(FMR, color="grey", linewidth=0.8, linestyle=":")
    ax.set(title=title_of[size], xlabel="threshold")
axes[0].set_ylabel("share of the pairs")
axes[0].legend()
plt.show()

# %% [markdown]
# ## Choosing
#
# `pipeline.calibrate` does this with intervals, compares bicubic with the DSR, and writes a file that recognition
# reads. For each size it gives two thresholds: from `accept` on the answer is *same*, below `reject` it is *different*,
# and in between *cannot tell*. It refuses to give a threshold that fewer than three mistakes stand behind, and marks
# with `*` those with fewer than thirty.

# %%
thresholds = calibrate.main(
    calibrate.Config(
        images=given.val,
        edgeface=given.edgeface,
        dsr=given.dsr,
        vlr_size=SIZES,
        fmr=FMR,
        fnmr=FNMR,
        out=made_folder() / "thresholds.json",
        bootstrap=20 if is_tiny() else 500,
    )
)

# %% [markdown]
# ## Trying them on other people
#
# Now the test people. On the validation people the FMR is what was asked for, by construction; here it is what it is.
# The difference is the price of choosing on few people, and it grows as the wanted FMR shrinks.
#
# The file may have chosen bicubic for a size; those rows are left out here, where all scores are the DSR's.

# %%
rows = [row for row in thresholds.sizes if row.method != "bicubic" and row.accept is not None]
print(f"{'':>10}  {'accept':>7}  {'FMR chosen':>10}  {'FMR tried':>10}  {'FNMR tried':>10}  FNMR tried at 0.35")
for row in rows:
    before, now = chosen_on[row.size], tried_on[row.size]
    print(
        f"{title_of[row.size]:>10}  {row.accept:7.3f}  {(before[~chosen_genuine] >= row.accept).mean():10.2%}  "
        f"{(now[~tried_genuine] >= row.accept).mean():10.2%}  {(now[tried_genuine] < row.accept).mean():10.2%}  "
        f"{(now[tried_genuine] < DEFAULT_THRESHOLD).mean():10.2%}"
    )

# %% [markdown]
# ## Answers, and no answers
#
# With two thresholds some pairs get no answer. That is the honest part: at few pixels the scores of the two kinds
# overlap, and whoever must answer there guesses.

# %%
answers = ("same", "cannot tell", "different")
colours = ("tab:green", "lightgrey", "tab:red")
bars = [(f"{title_of[row.size]}, {kind}", row.size, kind) for row in rows for kind in ("genuine", "impostor")]
fig, ax = plt.subplots(figsize=(8, 0.45 * len(bars) + 1.2), layout="constrained")
for height, (_, size, kind) in enumerate(bars):
    scores = tried_on[size][tried_genuine if kind == "genuine" else ~tried_genuine]
    counts = Counter(thresholds.decide(float(score), size).answer for score in scores[:: max(1, len(scores) // 2000)])
    left = 0.0
    for answer, colour in zip(answers, colours, strict=True):
        share = counts[answer] / counts.total()
        ax.barh(height, share, left=left, color=colour, label=answer if height == 0 else None)
        left += share
ax.set(yticks=range(len(bars)), yticklabels=[bar[0] for bar in bars], xlabel="share of the test pairs")
if bars:
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## What to take from this
#
# - One threshold for all sizes is wrong for most of them.
# - A threshold is a measurement, and has an uncertainty: the intervals above are over people, and few people make them
#   wide. To fix an FMR of 0.1 % takes hundreds.
# - Thresholds belong to the recogniser, the DSR, the degradation and the kind of people they were chosen with.
#   `Thresholds.check_made_for` refuses other weights; the rest is up to you.
# - Never choose a threshold on the set you report figures on. LFW is refused here for that reason.
