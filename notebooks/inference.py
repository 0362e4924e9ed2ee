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
# # Recognising a small face, step by step
#
# A face goes in, 512 numbers come out (the *embedding*), and two faces are compared by the cosine of the angle between
# their embeddings. This notebook looks at each step, first for faces of 112 pixels, then for the same faces reduced to
# 16 pixels and enlarged again: by bicubic interpolation, and by the DSR network.
#
# **It shows** how the pieces are called and what their output looks like. **It does not show** how good they are: a
# dozen faces prove nothing. For that see `python -m pipeline.evaluate_resolutions` and the README.

# %% [markdown]
# ## Your data
#
# This is the only cell to change. With `None` everywhere, people who do not exist are drawn, and the shipped
# networks used (where one is missing, small ones are trained the first time: a few minutes).

# %%
FACES = None  # aligned 112x112 faces: a folder per identity, a zip of one, or a folder with train_processed and so on
EDGEFACE = None  # recogniser: a file, or a name in checkpoints/
DSR = None  # super-resolution: a file, or a name in checkpoints/
SIZE = 16  # side of the small faces in pixels, 8 to 64
PEOPLE, PHOTOS = 4, 3  # of each person two photos or more

# %%
import matplotlib.pyplot as plt
import numpy as np

from common.images import ImageStore
from facial_rec.faceset import FaceSet
from facial_rec.metrics import unit_rows
from facial_rec.sources import StoreSource
from facial_rec.thresholds import DEFAULT_THRESHOLD, decide_without_file
from pipeline.degradations import View
from pipeline.embedding import embed_images
from pipeline.networks import load_chain
from pipeline.walkthrough import example_faces, materials, read_faces

# The modules above draw into files; from here on pictures go into the notebook.
# %matplotlib inline

given = materials(FACES, EDGEFACE, DSR)
print(given.note)

# %% [markdown]
# ## The faces
#
# A row is a person. All are of the test split: nothing was trained on these people. Aligned means that eyes, nose and
# mouth lie at the same places in every picture, which the recogniser relies on.

# %%
groups = example_faces(given.test, PEOPLE, PHOTOS)
names = [name for group in groups for name in group]
fig, axes = plt.subplots(len(groups), PHOTOS, figsize=(1.6 * PHOTOS, 1.6 * len(groups)), squeeze=False)
for ax, picture in zip(axes.flat, read_faces(given.test, names), strict=True):
    ax.imshow(picture)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## From pictures to embeddings
#
# `load_chain` reads the networks, `embed_images` runs them. A `View` says how a picture is looked at: as it is (`hr`),
# or reduced to `SIZE` pixels and enlarged by `bicubic` or `dsr`. What is embedded is always rounded to 8 bit, as if it
# came from a file.

# %%
chain, _ = load_chain([given.edgeface], given.dsr)
(recogniser,) = chain.embedders
views = {"HR": View("hr"), f"bicubic {SIZE}": View("bicubic", SIZE), f"DSR {SIZE}": View("dsr", SIZE)}
source = StoreSource(ImageStore(FaceSet(given.test).root), names)
found = embed_images(chain, source, names, list(views.values()), quality=False).vectors
vectors = {title: unit_rows(found[recogniser, view]) for title, view in views.items()}
print(f"{recogniser}: {len(names)} faces, embeddings of shape {vectors['HR'].shape}, scaled to length 1")

# %% [markdown]
# ## Every face against every HR face
#
# Each square is one cosine: 1 for equal directions, 0 for unrelated ones. The white lines part the people, so the
# blocks on the diagonal are *genuine* pairs and all else are *impostors*. Blocks that stand out are what recognition
# lives on; at low resolution they fade.

# %%
fig, axes = plt.subplots(1, len(views), figsize=(4.2 * len(views), 4), layout="constrained")
for ax, (title, probes) in zip(axes, vectors.items(), strict=True):
    image = ax.imshow(probes @ vectors["HR"].T, vmin=-0.2, vmax=1.0, cmap="viridis")
    for edge in range(PHOTOS, len(names), PHOTOS):
        ax.axhline(edge - 0.5, color="white")
        ax.axvline(edge - 0.5, color="white")
    ax.set(title=f"{title} against HR", xlabel="HR face", ylabel="probe")
fig.colorbar(image, ax=axes, label="cosine")
plt.show()

# %% [markdown]
# ## Who is it?
#
# The first photo of each person, in HR, is the *gallery*; the second is the *probe*. The nearest gallery face is the
# candidate, and a threshold says whether it is near enough to be called the same person. The default of 0.35 is a
# convention; `threshold_choice` shows how to choose one.

# %%
gallery = vectors["HR"][0::PHOTOS]
labels = [f"person {number}" for number in range(1, len(groups) + 1)]
for title, rows in vectors.items():
    scores = rows[1::PHOTOS] @ gallery.T
    print(f"\n{title}, threshold {DEFAULT_THRESHOLD}")
    for truth, row in zip(labels, scores, strict=True):
        best = int(row.argmax())
        answer = decide_without_file(float(row[best])).answer
        right = "right" if labels[best] == truth else "WRONG"
        print(f"  {truth}: nearest is {labels[best]} ({right}), cosine {row[best]:.3f} -> {answer}")

# %% [markdown]
# ## How far apart are genuine and impostor scores?
#
# The whole method is in this picture: the further the two clouds are from each other, the fewer mistakes any threshold
# makes.

# %%
same = np.kron(np.eye(len(groups), dtype=bool), np.ones((PHOTOS, PHOTOS), dtype=bool))
off_diagonal = ~np.eye(len(names), dtype=bool)
fig, ax = plt.subplots(figsize=(7, 3))
for height, probes in enumerate(vectors.values()):
    cosines = probes @ vectors["HR"].T
    for kind, chosen, shift in (("genuine", same & off_diagonal, 0.12), ("impostor", ~same, -0.12)):
        at = np.full(chosen.sum(), height + shift)
        label = kind if height == 0 else None
        ax.plot(cosines[chosen], at, "|", color="tab:blue" if kind == "genuine" else "tab:orange", label=label)
ax.axvline(DEFAULT_THRESHOLD, color="grey", linestyle="--", label=f"threshold {DEFAULT_THRESHOLD}")
ax.set(yticks=range(len(vectors)), yticklabels=list(vectors), xlabel="cosine with an HR face")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## What to take from this
#
# - A recogniser gives a number, not an answer. The answer needs a threshold, and the threshold belongs to a recogniser,
#   a way of enlarging and a size.
# - Reducing a face to 16 pixels throws information away, and no network brings it back. The DSR moves the picture to
#   where the recogniser works better; it can also move it towards somebody else.
# - These were a few faces. `make lfw` compares thousands of pairs, with intervals.
