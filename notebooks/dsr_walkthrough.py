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
# # What the DSR does to a face
#
# The DSR takes a face of 8 to 64 pixels and gives one of 112. It was trained to come near the true picture (*pixel
# loss*) and near the true picture's embedding (*identity loss*, through a frozen recogniser). Here we look at both.
#
# **It shows** pictures, where the DSR changes them, and how PSNR, SSIM and identity loss depend on the size. **It does
# not show** that people are recognised better: an identity loss is about one photo and itself, recognition about two
# photos. See `python -m pipeline.evaluate_resolutions` for that.

# %% [markdown]
# ## Your data
#
# This is the only cell to change. With `None` everywhere, made-up people are drawn, for the shipped networks.

# %%
FACES = None  # aligned 112x112 faces: a folder per identity, a zip of one, or a folder with train_processed and so on
EDGEFACE = None  # recogniser: a file, or a name in checkpoints/
DSR = None  # super-resolution: a file, or a name in checkpoints/
SIZES = (8, 12, 16, 24, 32)  # sides of the small faces in pixels, 8 to 64
COUNT = 64  # faces to measure on

# %%
import matplotlib.pyplot as plt
import torch

from dsr.checkpoint import load_dsr
from dsr.degradation import RealisticDegradation, bicubic_enlarge, canonical_reduce, round_to_8bit
from dsr.quality import psnr, ssim
from facial_rec.embedder import load_embedder
from facial_rec.faceset import FaceSet
from pipeline.degradations import to_tensor
from pipeline.pictures import spread_evenly
from pipeline.walkthrough import materials, read_faces

# The modules above draw into files; from here on pictures go into the notebook.
# %matplotlib inline

given = materials(FACES, EDGEFACE, DSR)
dsr, info = load_dsr(given.dsr)
embedder = load_embedder(given.edgeface)
print(given.note)
print(f"DSR: {sum(p.numel() for p in dsr.parameters()):,} parameters, from {info.path}")

# %% [markdown]
# ## The faces
#
# People of the test split, on whom nothing was trained. Inside the code a picture is a float tensor `(3, 112, 112)`,
# RGB, from 0 to 1.

# %%
names = spread_evenly([face.name for face in FaceSet(given.test).faces], COUNT)
high = to_tensor(read_faces(given.test, names))
print(f"{len(names)} faces: {tuple(high.shape)}, from {high.min():.2f} to {high.max():.2f}")


def show(ax, image, title=""):
    """One picture `(3, H, W)`."""
    ax.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.axis("off")


# %% [markdown]
# ## One face, every size
#
# From left to right: the small face as it comes in, enlarged by bicubic interpolation, enlarged by the DSR, and the
# truth. `canonical_reduce` is the project's way of making a small face: antialiased bicubic, rounded to 8 bit.
#
# The DSR's picture is a guess that fits the pixels. It is **not** a picture of what the person looks like.

# %%
fig, axes = plt.subplots(len(SIZES), 4, figsize=(7, 1.8 * len(SIZES)), squeeze=False, layout="constrained")
with torch.no_grad():
    for row, size in zip(axes, SIZES, strict=True):
        low = canonical_reduce(high[:1], size)
        enlarged, restored = bicubic_enlarge(low), round_to_8bit(dsr(low))
        show(row[0], low[0], f"{size} x {size}")
        show(row[1], enlarged[0], f"bicubic, {float(psnr(enlarged, high[:1])):.1f} dB")
        show(row[2], restored[0], f"DSR, {float(psnr(restored, high[:1])):.1f} dB")
        show(row[3], high[0], "truth")
plt.show()

# %% [markdown]
# ## Where it changes the picture
#
# The network's output is added to the bicubic picture, so what it contributes can be looked at by itself: the mean,
# over all faces, of how much each pixel is moved. Beside it, how far from the truth each pixel is before and after.

# %%
size = 16
with torch.no_grad():
    low = canonical_reduce(high, size)
    enlarged, restored = bicubic_enlarge(low), round_to_8bit(dsr(low))
maps = {
    "what the DSR adds": (restored - enlarged).abs().mean((0, 1)),
    "error of bicubic": (enlarged - high).abs().mean((0, 1)),
    "error of the DSR": (restored - high).abs().mean((0, 1)),
}
top = max(float(image.max()) for image in maps.values())
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, (title, image) in zip(axes, maps.items(), strict=True):
    shown = ax.imshow(image.numpy(), vmin=0, vmax=top, cmap="magma")
    ax.set_title(f"{title}, {size} pixels", fontsize=10)
    ax.axis("off")
fig.colorbar(shown, ax=axes, label="mean absolute difference")
plt.show()

# %% [markdown]
# ## Three measures, by size
#
# - **PSNR** (dB, more is better): how far pixels are from the truth.
# - **SSIM** (up to 1): how alike small patches are.
# - **Identity loss** (less is better): 1 - cosine between the embeddings of the enlarged and the true picture.
#
# A DSR that is good for recognition lowers the third; a blurred picture can have a high PSNR and belong to nobody.


# %%
@torch.no_grad()
def measure(images):
    """Means of the three measures over all faces."""
    cosine = torch.nn.functional.cosine_similarity(embedder(images), embedder(high))
    return float(psnr(images, high).mean()), float(ssim(images, high).mean()), float(1 - cosine.mean())


curves = {"bicubic": [], "DSR": []}
for size in SIZES:
    low = canonical_reduce(high, size)
    curves["bicubic"].append(measure(bicubic_enlarge(low)))
    with torch.no_grad():
        curves["DSR"].append(measure(round_to_8bit(dsr(low))))

fig, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for column, (ax, title) in enumerate(zip(axes, ("PSNR, dB", "SSIM", "identity loss"), strict=True)):
    for name, values in curves.items():
        ax.plot(SIZES, [value[column] for value in values], "o-", label=name)
    ax.set(title=title, xlabel="size of the small face, pixels")
    ax.legend()
plt.show()

# %% [markdown]
# ## What it was not trained for
#
# A camera does not reduce pictures as neatly as `canonical_reduce`: it blurs, shakes, adds noise and compresses. Here
# is the same face, degraded like that at rising severity. A DSR that has seen only clean reductions takes noise for
# features and often makes things worse than bicubic.

# %%
fig, axes = plt.subplots(3, 3, figsize=(5.4, 5.4), layout="constrained")
with torch.no_grad():
    for row, severity in zip(axes, (0.25, 0.5, 1.0), strict=True):
        low = RealisticDegradation(severity)(high[:1], 16, torch.Generator().manual_seed(0))
        enlarged, restored = bicubic_enlarge(low), round_to_8bit(dsr(low))
        show(row[0], low[0], f"severity {severity}")
        show(row[1], enlarged[0], f"bicubic, {float(psnr(enlarged, high[:1])):.1f} dB")
        show(row[2], restored[0], f"DSR, {float(psnr(restored, high[:1])):.1f} dB")
plt.show()

# %% [markdown]
# ## What to take from this
#
# - Look at the differences and not only at the pictures: what is added is small, and lies where faces differ.
# - The gain shrinks as the face grows: at 32 pixels there is little left to guess.
# - Measured on clean reductions, a DSR says nothing about your camera. Train with `--degradation mixed` and measure
#   with `--degradation realistic-medium` before you believe it.
