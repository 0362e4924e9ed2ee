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
# # Which loss should a recogniser be trained with?
#
# Four losses, each of which pulls photos of a person together and pushes people apart: **CosFace** with margin 0.4
# (what EdgeFace's authors took), **ArcFace** with margins 0.25 and 1.5, and the batch-hard **triplet** loss with margin
# 1.5. Each trains the same network from scratch, on the same faces, for equally long, with several seeds; each result
# is measured on people nobody was trained on.
#
# **It shows** how these losses start: what they reach under a small, equal budget, and how much of a difference is
# chance. **It does not show** where they end: a budget of minutes is a thousandth of a real training, one learning rate
# serves all four, and a loss that starts slowly can finish first.

# %% [markdown]
# ## Your data
#
# This is the only cell to change. With `None`, made-up people are drawn (minutes, the first time). The real study is
# the command `python -m pipeline.study --what losses`, whose `results.json` can be named here too.

# %%
FACES = None  # aligned 112x112 faces: a folder per identity, a zip of one, or a folder with train_processed and so on
RESULTS = None  # results.json of a finished study; None: the committed one, if there is any
EPOCHS, SEEDS, VARIANT = 12, (0, 1), "edgeface_tiny"  # of the study that this notebook runs

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from common.files import read_json
from facial_rec.margin import arcface, cosface
from pipeline import study
from pipeline.study_table import FIGURES, by_setting, markdown, values
from pipeline.walkthrough import committed_results, is_tiny, made_folder, materials

# The modules above draw into files; from here on pictures go into the notebook.
# %matplotlib inline

# %% [markdown]
# ## What a margin does
#
# Softmax losses compare an embedding with a centre of every person by the angle θ between them. A margin makes the
# comparison with the *own* centre harder: the plain cosine (dashed) is replaced by a lower value, so the loss is
# content only when θ is smaller than it would have to be otherwise.
#
# Look at ArcFace 1.5: 1.5 rad are 86°. At 60° from the own centre it already answers with less than -0.9, as if the
# face were somebody else's. Early in training, when all angles are near 90°, it asks for what nothing can give.

# %%
angles = torch.linspace(0, 3.14159, 200)
fig, ax = plt.subplots(figsize=(6.5, 3.5))
ax.plot(torch.rad2deg(angles), torch.cos(angles), "k--", label="no margin")
for label, function, margin in (
    ("CosFace 0.4", cosface, 0.4),
    ("ArcFace 0.25", arcface, 0.25),
    ("ArcFace 1.5", arcface, 1.5),
):
    ax.plot(torch.rad2deg(angles), function(torch.cos(angles), margin), label=label)
ax.set(xlabel="angle to the own centre, degrees", ylabel="what stands for the cosine")
ax.legend()
plt.show()

# %% [markdown]
# The triplet loss has no centres. For each face of a batch it takes the *furthest* face of the same person and the
# *nearest* of another, and wants the second to be further by 1.5 in squared distance. Unit vectors are at most 4 apart
# in squared distance and unrelated ones 2, so 1.5 asks for nearly all there is.

# %% [markdown]
# ## What was measured
#
# The committed table, from real faces, if there is one; nobody is identified by it.

# %%
file = RESULTS or committed_results("losses")
measured = read_json(Path(file)) if file is not None else None
print(markdown(measured) if measured else "No committed results: only the small study below.")

# %% [markdown]
# ## A study of your own
#
# `pipeline.study` trains one run after the other. Interrupt this cell and run it again: finished runs are kept, and the
# one that was interrupted goes on. More `SEEDS` may be added at any time.

# %%
given = materials(FACES)
print(given.note)
mine = study.main(
    study.Config(
        what="losses",
        train_root=given.train,
        val_root=given.val,
        out=made_folder() / f"study_losses_{'tiny' if is_tiny() else f'{VARIANT}_{EPOCHS}_{given.mark}'}",
        epochs=1 if is_tiny() else EPOCHS,
        seeds=(0,) if is_tiny() else SEEDS,
        variant=VARIANT,
        batch_size=8 if is_tiny() else 64,
        bootstrap=0,
    )
)

# %% [markdown]
# ## Is a difference more than chance?
#
# One dot a seed. Where the dots of two losses overlap, the study cannot tell them apart. Two or three seeds give a hint
# of the spread and not its size; and all runs are judged on the same people, so other people would move all of them.


# %%
def plot(results, title):
    """A panel a figure, a column a setting, a dot a seed."""
    views = {"hr": "HR-HR", "lr": f"LR-HR at {results['vlr_size']}"}
    fig, axes = plt.subplots(2, len(FIGURES), figsize=(4 * len(FIGURES), 5.5), layout="constrained", squeeze=False)
    settings = by_setting(results["runs"])
    for row, (view, view_title) in zip(axes, views.items(), strict=True):
        for ax, (figure, name) in zip(row, FIGURES.items(), strict=True):
            for place, runs in enumerate(settings.values()):
                found = [100 * value for value in values(runs, view, figure) if value is not None]
                ax.plot([place] * len(found), found, "o", alpha=0.7)
            ax.set(title=f"{view_title}: {name}, %", xticks=range(len(settings)))
            ax.set_xticklabels(list(settings), rotation=20, ha="right")
    fig.suptitle(title)
    plt.show()


if measured:
    plot(measured, "committed study")
plot(mine, given.note)

# %% [markdown]
# ## What to take from this
#
# - Read the low-resolution row too: a loss can be good at 112 pixels and no better at 16.
# - A margin is a demand, and demands must fit the stage: large margins are for networks that are nearly there.
# - The triplet loss sees only a batch. With few photos a person or small batches it finds few hard examples.
# - A missing dot is a figure that too few errors stand behind.
