"""Pictures for reports: the right pixels under the right names, the worst pairs first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.images import ImageStore, RgbImage, decode_image
from facial_rec.pairs import Pair, PairList
from facial_rec.sources import StoreSource
from pipeline.chain import Chain
from pipeline.degradations import View
from pipeline.pictures import most_changed, spread_evenly, write_failures, write_grid

Recogniser = Callable[[torch.Tensor], torch.Tensor]


def enlarge_nearest(low: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(low, size=(112, 112), mode="nearest")


def picture(path: Path) -> RgbImage:
    return decode_image(path.read_bytes(), path.name)


@pytest.fixture
def source(people: Path) -> StoreSource:
    return StoreSource(ImageStore(people))


@pytest.fixture
def chain(recogniser: Recogniser) -> Chain:
    return Chain({"pooled": recogniser}, dsr=enlarge_nearest)


def test_grid_has_four_views_with_their_cosines(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    names = spread_evenly(source.names, 2)
    grids = write_grid(tmp_path, source, chain, "pooled", names, [8, 24])
    assert [grid["size"] for grid in grids] == [8, 24]
    assert [row["name"] for row in grids[0]["rows"]] == names
    tiles = {tile["label"]: tile for tile in grids[0]["rows"][0]["tiles"]}
    assert list(tiles) == ["LR", "bicubic", "DSR", "HR"]
    assert "cosine" not in tiles["LR"]
    assert tiles["HR"]["cosine"] == 1.0
    assert 0.5 < tiles["bicubic"]["cosine"] < 1.0
    assert (picture(tmp_path / tiles["HR"]["file"]) == source.read(names[0])).all()
    lr, dsr = picture(tmp_path / tiles["LR"]["file"]), picture(tmp_path / tiles["DSR"]["file"])
    assert (lr == dsr).all()  # this DSR repeats pixels, as the LR tile does
    assert len(np.unique(lr[::14, ::14].reshape(-1, 3), axis=0)) <= 64


def test_low_resolution_pixels_become_squares_at_every_size(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    (grid,) = write_grid(tmp_path, source, chain, "pooled", source.names[:1], [24])
    lr = picture(tmp_path / grid["rows"][0]["tiles"][0]["file"])
    assert lr.shape == (120, 120, 3)
    assert (lr == lr[::5, ::5].repeat(5, 0).repeat(5, 1)).all()


def test_same_call_writes_the_same_files(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    first = write_grid(tmp_path / "a", source, chain, "pooled", source.names[:3], [8], "realistic-severe", 3)
    again = write_grid(tmp_path / "b", source, chain, "pooled", source.names[:3], [8], "realistic-severe", 3)
    assert first == again
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 3 * 4
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    other = write_grid(tmp_path / "a", source, chain, "pooled", source.names[:3], [8], "realistic-severe", 4)
    assert not {t["file"] for t in first[0]["rows"][0]["tiles"][:3]} & {t["file"] for t in other[0]["rows"][0]["tiles"]}


def test_file_names_tell_no_names(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    write_grid(tmp_path, source, chain, "pooled", source.names[:2], [8])
    assert not any("P0" in path.name for path in tmp_path.iterdir())


def test_without_a_dsr_its_tile_is_left_out(tmp_path: Path, source: StoreSource, recogniser: Recogniser) -> None:
    (grid,) = write_grid(tmp_path, source, Chain({"pooled": recogniser}), "pooled", source.names[:1], [8])
    assert [tile["label"] for tile in grid["rows"][0]["tiles"]] == ["LR", "bicubic", "HR"]
    assert write_grid(tmp_path, source, Chain({"pooled": recogniser}), "pooled", [], [8]) == []


def test_unknown_recogniser_and_size_are_refused(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    with pytest.raises(UserError, match="other is unknown: expected one of pooled"):
        write_grid(tmp_path, source, chain, "other", source.names[:1], [8])
    with pytest.raises(UserError, match="200 pixels"):
        write_grid(tmp_path, source, chain, "pooled", source.names[:1], [200])


def made_pairs(names: list[str]) -> PairList:
    """Every image with the next one: genuine within a person."""
    pairs = [
        Pair(a, b, Path(a).parent.name, Path(b).parent.name, 0, Path(a).parent == Path(b).parent)
        for a, b in pairwise(names)
    ]
    return PairList(tuple(pairs), 1)


def test_worst_pairs_come_first(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    pairs = made_pairs(list(source.names))
    scores = np.linspace(0.0, 0.9, len(pairs)).round(3)
    labels = {"recogniser": "pooled", "protocol": "lr-hr", "method": "dsr", "size": 16}
    accepts, rejects = write_failures(
        tmp_path, source, chain, pairs, scores, 0.35, View("dsr", 16), View("hr"), most=2, **labels
    )
    assert (accepts["kind"], accepts["beyond"], accepts["size"]) == ("false_accept", True, 16)
    impostors = scores[~pairs.genuine]
    assert [pair["score"] for pair in accepts["pairs"]] == sorted(impostors)[:-3:-1]
    assert accepts["count"] == int((impostors >= 0.35).sum())
    assert [pair["score"] for pair in rejects["pairs"]] == sorted(scores[pairs.genuine])[:2]
    pair = accepts["pairs"][0]
    assert (picture(tmp_path / pair["second_file"]) == source.read(pair["second"])).all()
    assert not (picture(tmp_path / pair["first_file"]) == source.read(pair["first"])).all()


def test_where_none_is_wrong_the_closest_are_shown(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    pairs = made_pairs(list(source.names))
    scores = np.where(pairs.genuine, 0.9, 0.1) + np.linspace(0, 0.05, len(pairs))
    found = write_failures(tmp_path, source, chain, pairs, scores, 0.5, View("hr"), View("hr"), most=1)
    assert [(one["beyond"], one["count"], len(one["pairs"])) for one in found] == [(False, 0, 1)] * 2


def test_scores_of_another_length_are_refused(tmp_path: Path, source: StoreSource, chain: Chain) -> None:
    with pytest.raises(UserError, match="one score for each"):
        write_failures(
            tmp_path, source, chain, made_pairs(list(source.names)), np.zeros(2), 0.5, View("hr"), View("hr")
        )


def test_names_are_chosen_without_chance() -> None:
    names = [f"n{i}" for i in range(10)]
    assert spread_evenly(names, 3) == ["n0", "n3", "n6"]
    assert spread_evenly(names, 99) == names
    assert spread_evenly([], 3) == []
    assert most_changed(names, [0, 5, 1, 0, 0, 0, 0, 0, -3, -9], 2) == ["n1", "n2", "n8", "n9"]
    assert most_changed(["a"], [0.3], 2) == ["a"]
    with pytest.raises(ValueError, match="expected a gain"):
        most_changed(names, [1.0], 2)
