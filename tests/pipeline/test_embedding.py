"""pipeline.embedding: every view of every image, from the cache or anew, and each network runs no more than it must."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from common.errors import UserError
from common.images import ImageStore, RgbImage
from dsr.degradation import bicubic_enlarge, canonical_reduce, round_to_8bit
from dsr.losses import LpipsLoss
from dsr.quality import psnr, ssim
from facial_rec.sources import StoreSource
from pipeline import entries
from pipeline.cache import EmbeddingCache
from pipeline.degradations import View, reduce, to_tensor
from pipeline.embedding import Chain, ImageEmbeddings, embed_images
from pipeline.networks import load_chain, with_lpips

VIEWS = [
    View("hr"),
    View("bicubic", 16),
    View("dsr", 16),
    View("dsr", 8, "realistic-severe", 3),
    View("bicubic", 8, "realistic-severe", 3),
    View("bicubic", 16, "inter_area"),
]


class Counting:
    """A network that counts the images it sees."""

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.network, self.batches = network, list[int]()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.network(images)

    @property
    def images(self) -> int:
        return sum(self.batches)


class CountingSource(StoreSource):
    """A source that counts the images it decodes."""

    decoded = 0

    def read(self, name: str) -> RgbImage:
        self.decoded += 1
        return super().read(name)


@pytest.fixture
def source(people: Path) -> CountingSource:
    return CountingSource(ImageStore(people))


@pytest.fixture
def chain(recogniser: Callable[[torch.Tensor], torch.Tensor]) -> Chain:
    return Chain(
        {"pooled": Counting(recogniser), "squared": Counting(lambda images: recogniser(images.square()))},
        Counting(lambda low: bicubic_enlarge(low).square()),
        batch_size=5,
        fingerprints={"pooled": "1" * 64, "squared": "2" * 64},
        dsr_fingerprint="3" * 64,
    )


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache.sqlite")


def seen(chain: Chain) -> list[int]:
    networks: list[Any] = [*chain.embedders.values(), chain.dsr]
    return [network.images for network in networks]


def forget(chain: Chain) -> None:
    networks: list[Any] = [*chain.embedders.values(), chain.dsr]
    for network in networks:
        network.batches.clear()


def assert_equal(one: ImageEmbeddings, other: ImageEmbeddings, tolerance: float = 0.0) -> None:
    assert one.vectors.keys() == other.vectors.keys()
    assert one.quality.keys() == other.quality.keys()
    for key, vectors in one.vectors.items():
        np.testing.assert_allclose(vectors, other.vectors[key], rtol=0, atol=tolerance)
    for view, figures in one.quality.items():
        assert figures.keys() == other.quality[view].keys()
        for name, values in figures.items():
            np.testing.assert_allclose(values, other.quality[view][name], rtol=0, atol=tolerance)


def test_every_view_equals_a_plain_recomputation(source: CountingSource, chain: Chain) -> None:
    names = list(source.names)[3:10]
    found = embed_images(chain, source, names, VIEWS)
    assert set(found.vectors) == {(name, view) for name in ("pooled", "squared") for view in VIEWS}
    assert set(found.quality) == set(VIEWS[1:])
    for row, name in enumerate(names):
        hr = to_tensor([source.read(name)])
        for view in VIEWS:
            shown = hr
            if view.size is not None:
                low = reduce(hr, [source.fingerprint(name)], view.size, view.degradation, view.seed)
                shown = bicubic_enlarge(low)
                shown = round_to_8bit(shown.square()) if view.method == "dsr" else shown
                figures = found.quality[view]
                assert figures["psnr"][row] == pytest.approx(float(psnr(shown, hr)))
                assert figures["ssim"][row] == pytest.approx(float(ssim(shown, hr)), abs=1e-6)
            expected = chain.embedders["squared"](shown)[0]
            np.testing.assert_allclose(found.vectors["squared", view][row], expected, atol=1e-6)
    assert found.vectors["pooled", VIEWS[0]].dtype == np.float32


def test_networks_run_once_an_image_and_view(source: CountingSource, chain: Chain) -> None:
    embed_images(chain, source, source.names, [*VIEWS, VIEWS[1]])
    assert seen(chain) == [18 * 6, 18 * 6, 18 * 2], "the DSR once for both recognisers"
    assert source.decoded == 18
    assert isinstance(chain.dsr, Counting)
    assert chain.dsr.batches == [5, 5, 5, 5, 5, 5, 3, 3]


def test_a_warm_cache_gives_the_same_bits_and_runs_nothing(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, people: Path
) -> None:
    cold = embed_images(chain, source, source.names, VIEWS, cache)
    forget(chain)
    other = CountingSource(ImageStore(people))
    assert_equal(embed_images(chain, other, source.names, VIEWS, cache), cold)
    assert seen(chain) == [0, 0, 0]
    assert other.decoded == 0
    assert_equal(embed_images(chain, source, source.names, VIEWS), cold)


def test_only_what_is_missing_is_computed_in_full_batches(
    source: CountingSource, chain: Chain, cache: EmbeddingCache
) -> None:
    names = list(source.names)
    whole = embed_images(chain, source, names, VIEWS)
    embed_images(chain, source, names[::3], VIEWS[:3], cache)
    forget(chain)
    source.decoded = 0
    assert_equal(embed_images(chain, source, names, VIEWS, cache), whole, 1e-5)
    # Six images lack three views, twelve lack all.
    assert seen(chain) == [6 * 3 + 12 * 6] * 2 + [6 * 1 + 12 * 2]
    assert source.decoded == 18
    assert isinstance(chain.dsr, Counting)
    assert sorted(chain.dsr.batches) == [1, 2, 2, 5, 5, 5, 5, 5]


def test_another_recogniser_runs_alone(source: CountingSource, chain: Chain, cache: EmbeddingCache) -> None:
    embed_images(replace(chain, embedders={"pooled": chain.embedders["pooled"]}), source, source.names, VIEWS, cache)
    forget(chain)
    embed_images(chain, source, source.names, VIEWS, cache)
    assert seen(chain) == [0, 18 * 6, 18 * 2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fingerprints": {"pooled": "9" * 64, "squared": "2" * 64}}, [108, 0, 36]),
        ({"fingerprints": {"squared": "2" * 64}}, [108, 0, 36]),
        ({"dsr_fingerprint": "9" * 64}, [36, 36, 36]),
        ({"dsr_fingerprint": None}, [36, 36, 36]),
        ({}, [0, 0, 0]),
    ],
)
def test_other_weights_are_not_taken_for_the_old_ones(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, change: dict[str, Any], expected: list[int]
) -> None:
    embed_images(chain, source, source.names, VIEWS, cache)
    forget(chain)
    for _ in range(2 if None in change.values() else 1):  # what has no fingerprint is not kept either
        forget(chain)
        embed_images(replace(chain, **change), source, source.names, VIEWS, cache)
        assert seen(chain) == expected


def test_another_picture_seed_and_code_are_not_taken_for_the_old_ones(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View("bicubic", 8, "realistic-mild", 1)
    embed_images(chain, source, source.names, [view], cache)

    def computed(source: StoreSource, view: View) -> int:
        forget(chain)
        embed_images(chain, source, source.names, [view], cache)
        return seen(chain)[0]

    assert computed(source, view) == 0
    assert computed(source, replace(view, seed=2)) == 18
    (people / "P0" / "P0_0001.png").write_bytes((people / "P1" / "P1_0002.png").read_bytes())
    renamed = (people / "P2" / "P2_0001.png").rename(people / "P2" / "P2_0009.png")
    changed = StoreSource(ImageStore(people))
    assert renamed.name in {Path(name).name for name in changed.names}
    assert computed(changed, view) == 0, "both pictures were seen before, under other names"
    (people / "P0" / "P0_0001.png").write_bytes((people / "P1" / "P1_0002.png").read_bytes() + b"\0")
    assert computed(StoreSource(ImageStore(people)), view) == 1
    monkeypatch.setattr(entries, "CODE_VERSION", entries.CODE_VERSION + 1)
    assert computed(StoreSource(ImageStore(people)), view) == 18


def test_the_seed_of_a_view_that_draws_nothing_does_not_matter(
    source: CountingSource, chain: Chain, cache: EmbeddingCache
) -> None:
    embed_images(chain, source, source.names, [View("bicubic", 8)], cache)
    forget(chain)
    embed_images(chain, source, source.names, [View("bicubic", 8, seed=7)], cache)
    assert seen(chain) == [0, 0, 0]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, people: Path
) -> None:
    names = list(source.names)
    whole = embed_images(chain, source, names, VIEWS)
    broken = people / names[12]
    content = broken.read_bytes()
    fresh = CountingSource(ImageStore(people))
    broken.write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not a PNG"):
        embed_images(chain, fresh, names, VIEWS, cache)
    broken.write_bytes(content)
    forget(chain)
    fresh = CountingSource(ImageStore(people))
    assert_equal(embed_images(chain, fresh, names, VIEWS, cache), whole, 1e-6)
    assert fresh.decoded == 8, "two batches of five had been kept"


def test_names_may_repeat_and_come_in_any_order(source: CountingSource, chain: Chain) -> None:
    names = list(source.names)
    plain = embed_images(chain, source, names, VIEWS[:2]).vectors["pooled", VIEWS[1]]
    mixed = embed_images(chain, source, [names[4], names[0], names[4]], VIEWS[:2]).vectors["pooled", VIEWS[1]]
    np.testing.assert_allclose(mixed, plain[[4, 0, 4]], atol=1e-6)
    assert source.decoded == 18 + 2


def test_quality_can_be_left_out(source: CountingSource, chain: Chain) -> None:
    found = embed_images(chain, source, source.names, VIEWS, quality=False)
    assert found.quality == {view: {} for view in VIEWS[1:]}


def test_progress_has_rate_and_time_left(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, capsys: pytest.CaptureFixture[str]
) -> None:
    embed_images(chain, source, source.names, VIEWS, cache, description="two protocols")
    written = capsys.readouterr().err
    assert "two protocols: 100%" in written
    assert "108/108" in written
    assert "image/s" in written
    embed_images(chain, source, source.names, VIEWS, cache)
    assert not capsys.readouterr().err, "nothing to compute, nothing to show"


def test_dsr_without_a_dsr_is_refused(source: CountingSource, chain: Chain) -> None:
    with pytest.raises(UserError, match="needs a DSR, and none was loaded: give --dsr"):
        embed_images(replace(chain, dsr=None), source, source.names, VIEWS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_recogniser_that_gives_nan_is_named_and_not_kept(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, value: float
) -> None:
    broken = replace(chain, embedders={"pooled": lambda images: torch.full((len(images), 4), value)})
    with pytest.raises(UserError, match="pooled gave NaN or infinite embeddings"):
        embed_images(broken, source, source.names, VIEWS, cache)
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (0,)
    connection.close()


def test_a_recogniser_of_another_shape_is_named(source: CountingSource, chain: Chain) -> None:
    with pytest.raises(UserError, match=r"odd gave \(5, 3, 112, 112\) for 5 images"):
        embed_images(replace(chain, embedders={"odd": lambda images: images}), source, source.names, VIEWS)


def test_embeddings_of_different_lengths_are_refused(
    source: CountingSource, chain: Chain, cache: EmbeddingCache
) -> None:
    hr = [View("hr")]
    embed_images(
        replace(chain, embedders={"pooled": lambda i: i.flatten(1)[:, :4]}), source, source.names[:9], hr, cache
    )
    with pytest.raises(UserError, match=r"pooled has embeddings of different lengths: \[4, 147\]. Delete .*sqlite"):
        embed_images(chain, source, source.names, hr, cache)


def test_load_chain_knows_the_checksums(edgeface: Path, dsr: Path, source: CountingSource, tmp_path: Path) -> None:
    chain, checksums = load_chain([str(edgeface)], str(dsr))
    assert chain.fingerprints == {"tiny_face": checksums["tiny_face.pt"]}
    assert chain.dsr_fingerprint == checksums["tiny_dsr.pt"]
    with EmbeddingCache(tmp_path / "x.sqlite") as cache:
        cold = embed_images(chain, source, source.names, VIEWS, cache)
        again, _ = load_chain([str(edgeface)], str(dsr))
        assert_equal(embed_images(again, source, source.names, VIEWS, cache), cold)
    assert_equal(embed_images(replace(chain, batch_size=4), source, source.names, VIEWS), cold, 1e-4)
    assert load_chain([str(edgeface)], "none")[0].dsr_fingerprint is None


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """Torchvision's AlexNet with random weights, without the layers that LPIPS does not use."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in torchvision.models.alexnet().state_dict().items()}
    path = tmp_path / "alexnet.pth"
    torch.save({key: 0.05 * torch.randn(shape) for key, shape in shapes.items() if key.startswith("features.")}, path)
    return path


def test_a_file_that_changes_meanwhile_is_refused(people: Path) -> None:
    source = StoreSource(ImageStore(people))
    name, other = source.names[:2]
    source.fingerprint(name)
    shutil.copyfile(people / other, people / name)
    with pytest.raises(UserError, match=f"{name} changed while it was used"):
        source.read(name)


def test_lpips_is_measured_where_its_backbone_is(
    source: CountingSource, chain: Chain, cache: EmbeddingCache, backbone: Path
) -> None:
    seeing = with_lpips(chain, backbone)
    found = embed_images(seeing, source, source.names, VIEWS[:2], cache)
    network = LpipsLoss(backbone)
    hr = to_tensor([source.read(name) for name in source.names])
    expected = network.distances(bicubic_enlarge(canonical_reduce(hr, 16)), hr)
    np.testing.assert_allclose(found.quality[VIEWS[1]]["lpips"], expected, atol=1e-5)
    forget(chain)
    assert_equal(embed_images(seeing, source, source.names, VIEWS[:2], cache), found)
    assert seen(chain) == [0, 0, 0]
    with pytest.raises(UserError, match=r"none\.pth is missing: expected torchvision's alex weights"):
        with_lpips(chain, backbone.parent / "none.pth")
