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
# # How much does a low rank save, and what does it cost?
#
# Most of EdgeFace's weights are in linear layers. EdgeFace replaces such a layer, `y = W x`, by two thin ones,
# `y = A (B x)`, whose rank is **gamma** times what the layer could have: gamma 0.5 halves the rank. Here 0.2, 0.5 and
# 1.0 (the plain layer) are compared: parameters, multiply-adds, size on disk, and accuracy on people nobody was trained
# on.
#
# **It shows** the exact cost of each gamma, and what each reaches under a small, equal budget. **It does not show**
# what a long training would make of them: small networks learn faster and saturate earlier.

# %% [markdown]
# ## Your data
#
# This is the only cell to change. With `None`, made-up people are drawn (minutes, the first time). The real study is
# the command `python -m pipeline.study --what gamma`, whose `results.json` can be named here too.

# %%
FACES = None  # aligned 112x112 faces: a folder per identity, a zip of one, or a folder with train_processed and so on
RESULTS = None  # results.json of a finished study; None: the committed one, if there is any
EPOCHS, SEEDS, VARIANT = 12, (0, 1), "edgeface_tiny"  # of the study that this notebook runs

# %%
from pathlib import Path

import matplotlib.pyplot as plt

from common.files import read_json
from facial_rec.edgeface import build, count_parameters, variant_named
from facial_rec.operations import count_macs
from pipeline import study
from pipeline.study_table import FIGURES, by_setting, markdown, values
from pipeline.walkthrough import committed_results, is_tiny, made_folder, materials

# The modules above draw into files; from here on pictures go into the notebook.
# %matplotlib inline

# %% [markdown]
# ## The cost, exactly
#
# A layer from `n` to `m` numbers has `n m` weights; with rank `r` it has `r (n + m)`. That is less only while
# `r < n m / (n + m)`: for a square layer, while gamma is below one half. **At gamma 0.5 a square layer saves nothing**;
# EdgeFace's wide layers (four times as many outputs as inputs) still do. And gamma 1.0 here means the plain layer,
# since two layers of full rank would only cost more.

# %%
gammas = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
names = ["edgeface_tiny"] if is_tiny() else ["edgeface_xxs", "edgeface_xs", "edgeface_s"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
for name in names:
    networks = [build(variant_named(name, gamma)).eval() for gamma in gammas]
    axes[0].plot(gammas, [count_parameters(network) / 1e6 for network in networks], "o-", label=name)
    axes[1].plot(gammas, [sum(count_macs(network).values()) / 1e6 for network in networks], "o-", label=name)
axes[0].set(title="parameters, millions", xlabel="gamma", ylim=(0, None))
axes[1].set(title="multiply-adds a face, millions", xlabel="gamma", ylim=(0, None))
axes[0].legend()
plt.show()

# %% [markdown]
# Beyond 0.6 or so the curves rise above the plain network at gamma 1.0. Multiply-adds are counted for convolutions and
# matrix products (papers' FLOPs are often twice that). Fewer of them need not mean less time: two thin layers are two
# calls, and on small inputs the calls are what takes long. Measure with `python -m pipeline.benchmark`.

# %% [markdown]
# ## What was measured
#
# The committed table, from real faces, if there is one.

# %%
file = RESULTS or committed_results("gamma")
measured = read_json(Path(file)) if file is not None else None
print(markdown(measured) if measured else "No committed results: only the small study below.")

# %% [markdown]
# ## A study of your own
#
# Interrupt this cell and run it again: finished runs are kept, and the one that was interrupted goes on.

# %%
given = materials(FACES)
print(given.note)
mine = study.main(
    study.Config(
        what="gamma",
        train_root=given.train,
        val_root=given.val,
        out=made_folder() / f"study_gamma_{'tiny' if is_tiny() else f'{VARIANT}_{EPOCHS}_{given.mark}'}",
        epochs=1 if is_tiny() else EPOCHS,
        seeds=(0,) if is_tiny() else SEEDS,
        variant=VARIANT,
        batch_size=8 if is_tiny() else 64,
        bootstrap=0,
    )
)

# %% [markdown]
# ## Accuracy against cost
#
# One dot a seed; to the left is cheaper, up is better (for the EER: down). Where the dots of two gammas overlap in
# height, the study cannot tell them apart.


# %%
def plot(results, title):
    """A panel a figure: the figure against the number of parameters, a dot a seed."""
    views = {"hr": "HR-HR", "lr": f"LR-HR at {results['vlr_size']}"}
    fig, axes = plt.subplots(2, len(FIGURES), figsize=(4 * len(FIGURES), 5.5), layout="constrained", squeeze=False)
    for row, (view, view_title) in zip(axes, views.items(), strict=True):
        for ax, (figure, name) in zip(row, FIGURES.items(), strict=True):
            for label, runs in by_setting(results["runs"]).items():
                found = [100 * value for value in values(runs, view, figure) if value is not None]
                ax.plot([runs[0]["parameters"] / 1e6] * len(found), found, "o", alpha=0.7, label=label)
            ax.set(title=f"{view_title}: {name}, %", xlabel="parameters, millions")
    axes[0, 0].legend()
    fig.suptitle(title)
    plt.show()


if measured:
    plot(measured, "committed study")
plot(mine, given.note)

# %% [markdown]
# ## What to take from this
#
# - Low rank saves parameters first, multiply-adds second, and time last: check the one you need.
# - With equal *minutes* (`--minutes`) a cheaper network takes more steps; with equal *epochs* it does not. The table
#   says how many each run took.
# - The spread over seeds is what a difference must exceed. A missing dot is a figure too few errors stand behind.
