"""`python -m pipeline.make_bin`: a `.bin` set from images and a pair list."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import cli
from common.errors import UserError
from facial_rec.bin_sets import BinSource
from pipeline import make_bin


def test_make_bin_keeps_pairs_and_files(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.txt").write_text("1\t2\nP0\t1\t2\nP1\t1\t3\nP0\t1\tP1\t1\nP2\t1\tP3\t2\n")
    words = ["--images", str(people), "--pairs", str(tmp_path / "pairs.txt"), "--out", str(tmp_path / "made.bin")]
    cli.run(make_bin.main, make_bin.Config, words)
    assert "4 pairs (2 genuine)" in capsys.readouterr().out
    source = BinSource(tmp_path / "made.bin")
    assert source.pairs.genuine.tolist() == [True, True, False, False]
    assert len(source.names) == 6
    assert source._images["000001"] == (people / "P0" / "P0_0002.png").read_bytes()


def test_make_bin_refuses_bad_images_and_names(people: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("1\nP0\t1\t2\nP0\t1\tP1\t1\n")
    with pytest.raises(UserError, match=r"expected a name that ends in \.bin"):
        make_bin.main(make_bin.Config(people, pairs, tmp_path / "made.pkl"))
    (people / "P1" / "P1_0001.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"P1/P1_0001\.png is not a PNG"):
        make_bin.main(make_bin.Config(people, pairs, tmp_path / "made.bin"))
    assert not (tmp_path / "made.bin").exists()
