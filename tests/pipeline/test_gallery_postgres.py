"""pipeline.gallery_postgres, on a real server: it behaves, and finds, as the gallery in SQLite does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import psycopg
import pytest

from common import cli
from common.errors import UserError
from common.images import RgbImage, write_png
from pipeline import benchmark_gallery
from pipeline.benchmark_contenders import Files, Setting
from pipeline.benchmark_timing import time_galleries
from pipeline.gallery import Gallery, Match, Vectors, check_embeddings, open_gallery
from pipeline.recognise import Config, main

DIM = 32
SHA = "ab" * 32

ENROLS = """
import sys, numpy as np
from pipeline.gallery import open_gallery
gallery = open_gallery(sys.argv[1], "ab" * 32, 32)
for turn in range(12):
    gallery.enrol("both", np.eye(32)[turn], {"by": sys.argv[2]})
    gallery.enrol(f"{sys.argv[2]} {turn}", np.eye(32)[:2])
"""


def opened(database: str) -> Gallery:
    return open_gallery(database, SHA, DIM)


def made(person: int, count: int = 1, dim: int = DIM) -> Vectors:
    return check_embeddings(np.random.default_rng(person).standard_normal((count, dim)), dim)


def test_what_is_enrolled_is_found_and_what_is_deleted_is_not(database: str) -> None:
    with opened(database) as gallery:
        assert gallery.search(made(1)) == [[]]
        ids = gallery.enrol(" Ann ", made(1, 3), [{"file": f"{n}.jpg"} for n in range(3)])
        gallery.enrol("Zoë", 7.5 * made(2, 1))
        gallery.enrol("Ann", made(3)[0], {"nul": "\0", "half": "\ud800"})
        assert len(set(ids)) == 3
    with open_gallery(database, SHA, DIM, create=False) as gallery:
        assert len(gallery) == 5
        assert [(one.name, one.embeddings) for one in gallery.people()] == [("Ann", 4), ("Zoë", 1)]
        (best, second), *_ = found = gallery.search(np.concatenate([made(1, 3)[1:2], made(2)]))
        assert (best.name, best.embedding_id, best.metadata) == ("Ann", ids[1], {"file": "1.jpg"})
        assert best.score == pytest.approx(1.0, abs=1e-6)
        assert second.name == "Zoë"
        assert [one.name for one in found[1]] == ["Zoë", "Ann"]
        assert [kept.metadata for kept in gallery.entries("Ann")][-1] == {"nul": "\0", "half": "\ud800"}
        assert gallery.delete("Ann") == 4
        gallery.compact()
        assert [one.name for one in gallery.search(made(1))[0]] == ["Zoë"]
        with pytest.raises(UserError, match="knows nobody called 'Ann'"):
            gallery.delete("Ann")
        with pytest.raises(UserError, match="all zeros"):
            gallery.enrol("Bo", np.zeros(DIM))


def test_a_transaction_is_kept_whole_or_not_at_all(database: str) -> None:
    with opened(database) as gallery, opened(database) as other:
        gallery.enrol("Ann", made(1))
        with suppress(KeyError), gallery.transaction():
            gallery.enrol("Bo", made(2))
            gallery.delete("Ann")
            assert gallery.search(made(2))[0][0].name == "Bo"
            assert other.search(made(2))[0][0].name == "Ann"
            raise KeyError
        with gallery.transaction():
            gallery.enrol("Cy", made(3))
            with suppress(KeyError), gallery.transaction():
                gallery.enrol("Di", made(4))
                raise KeyError
        assert [one.name for one in other.people()] == ["Ann", "Cy"]


def test_two_processes_enrol_at_the_same_time(database: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", ENROLS, database, who]) for who in ("a", "b")]
    assert [process.wait() for process in processes] == [0, 0]
    with opened(database) as gallery:
        people = {one.name: one.embeddings for one in gallery.people()}
        assert people == {"both": 24} | {f"{who} {turn}": 2 for who in "ab" for turn in range(12)}


def test_embeddings_of_another_model_are_refused(database: str) -> None:
    with opened(database) as gallery:
        gallery.enrol("Ann", made(1))
    for sha, dim in (("cd" * 32, DIM), (SHA, DIM + 1)):
        with pytest.raises(UserError, match=r"PostgreSQL database 'test_.*holds embeddings of model abababababab"):
            open_gallery(database, sha, dim)


def test_a_gallery_that_holds_nobody_takes_another_model(database: str) -> None:
    with opened(database) as gallery:
        gallery.enrol("Ann", made(1))
        gallery.delete("Ann")
    for sha, dim in (("cd" * 32, DIM), ("ef" * 32, DIM + 1)):
        with open_gallery(database, sha, dim) as gallery:
            probe = made(2, dim=dim)
            gallery.enrol("Ben", probe)
            assert gallery.search(probe)[0][0].name == "Ben"
            gallery.delete("Ben")
    with open_gallery(database, "ef" * 32, DIM + 1) as gallery:
        gallery.enrol("Cy", made(3, dim=DIM + 1))
    with pytest.raises(UserError, match="holds embeddings of model efefefefefef"):
        opened(database)


def test_a_process_that_had_it_open_does_not_mix_two_models(
    database: str, mixes_no_models: Callable[[str], None]
) -> None:
    mixes_no_models(database)


def test_what_cannot_be_opened_is_named(database: str, postgres: str) -> None:
    with pytest.raises(UserError, match="There is no gallery in PostgreSQL database 'test_"):
        open_gallery(database, SHA, DIM, create=False)
    with pytest.raises(UserError, match=r"no_such_database.*cannot be used"):
        opened(postgres.replace("/postgres?", "/no_such_database?"))
    with pytest.raises(UserError, match=r"cannot be used \(.*Does the server run") as error:
        opened("postgresql://someone:secret@127.0.0.1:1/faces")
    assert "secret" not in str(error.value)
    with pytest.raises(UserError, match="URL cannot be read") as error:
        opened("postgresql://someone:sec%ret@[/faces")
    assert "sec%ret" not in str(error.value)


def test_a_connection_that_breaks_is_named_and_made_again(database: str, postgres: str) -> None:
    def cut() -> None:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test\\_%'")

    def cut_half_way() -> None:
        with gallery.transaction():
            gallery.enrol("Cy", made(3))
            cut()
            gallery.enrol("Di", made(4))

    with opened(database) as gallery:
        gallery.enrol("Ann", made(1))
        cut()
        with pytest.raises(UserError, match="What was enrolled before is kept"):
            gallery.enrol("Bo", made(2))
        assert [one.name for one in gallery.people()] == ["Ann"], "the next call connects again"
        gallery.enrol("Bo", made(2))
        with pytest.raises(UserError, match="What was enrolled before is kept"):
            cut_half_way()
        assert [one.name for one in gallery.people()] == ["Ann", "Bo"], "a transaction is lost as a whole"
    with pytest.raises(UserError, match="cannot be used"):
        gallery.people()  # it was closed
    with opened(database) as gallery:
        assert [one.name for one in gallery.people()] == ["Ann", "Bo"]


def names(found: list[list[Match]]) -> list[list[str]]:
    return [[one.name for one in people] for people in found]


def recall(found: list[list[Match]], exact: list[list[Match]]) -> float:
    """Share of the exact best people that were found."""
    pairs = zip(names(found), names(exact), strict=True)
    return float(np.mean([len({*mine} & {*right}) / len(right) for mine, right in pairs]))


def test_both_stores_give_the_same_top_5(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 unit vectors of 1,500 people, at 128 numbers; the index is used, and finds what looking at all finds."""
    dim, people = 128, 1500
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((people, dim))
    shots = centres[:, None] + 0.7 * chance.standard_normal((people, 2, dim))
    probes = centres[:100] + 0.7 * chance.standard_normal((100, dim))
    with open_gallery(tmp_path / "g.sqlite", SHA, dim) as small, open_gallery(database, SHA, dim) as large:
        for gallery in (small, large):
            with gallery.transaction():
                for person in range(people):
                    gallery.enrol(f"P{person}", shots[person], [{"shot": 0}, {"shot": 1}])
        large.compact()
        monkeypatch.setattr("pipeline.gallery_postgres.EF_SEARCH", 1000)
        exact, found = small.search(probes), large.search(probes)
        print(f"recall@5 at ef_search 1000: {recall(found, exact):.4f}")
        assert names(found) == names(exact)
        for mine, right in zip(chain(*found), chain(*exact), strict=True):
            assert mine.score == pytest.approx(right.score, abs=2e-6)
            assert mine.metadata == right.metadata
        monkeypatch.setattr("pipeline.gallery_postgres.EF_SEARCH", 20)
        few = recall(large.search(probes), exact)
        print(f"recall@5 at ef_search 20: {few:.4f}")
        assert 0.3 < few < 1.0, "the index is used: fewer candidates find less"
        assert names(large.search(probes[:2], top=400)) == names(small.search(probes[:2], top=400))


def test_benchmark_times_it_beside_sqlite_and_empties_it(
    database: str, tmp_path: Path, write_onnx: Callable[..., Path]
) -> None:
    write_onnx(tmp_path / "edgeface.onnx", "edgeface")
    setting = Setting(Files(str(tmp_path), str(tmp_path), edgeface="", dsr=""), threads=1)
    with open_gallery(database, benchmark_gallery.SHA256, benchmark_gallery.DIM) as gallery:
        gallery.enrol("left by an interrupted run", np.ones(benchmark_gallery.DIM))
    rows = time_galleries(40, setting, rounds=1, url=database)
    assert [(row.contender.runtime, row.contender.size, row.recall) for row in rows] == [
        ("sqlite", 40, 1.0),
        ("postgresql", 40, 1.0),
    ]
    assert all(row.ms and row.ratio and row.first_search_ms for row in rows)
    with open_gallery(database, benchmark_gallery.SHA256, benchmark_gallery.DIM) as gallery:
        assert not len(gallery)


def test_the_command_line_enrols_and_identifies_as_with_sqlite(
    database: str,
    tmp_path: Path,
    onnx_files: dict[str, str],
    face: Callable[..., RgbImage],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seven people who come again, small and large, and two strangers: the same top 5 from both stores."""

    def recognise(what: str, *words: str) -> None:
        models = ["--edgeface", onnx_files["edgeface"], "--chain", onnx_files["chain"], "--threads", "1"]
        cli.run(main, Config, [what, *models, "--aligned", *words])

    for person in range(9):
        write_png(tmp_path / "known" / f"{person}.png", face(person, 0))
        write_png(tmp_path / "new" / f"{person}.png", face(person, 1, 112 if person % 2 else 20))
    found = {}
    for where in (database, str(tmp_path / "people.sqlite")):
        for person in range(7):
            recognise("enrol", f"P{person}", str(tmp_path / "known" / f"{person}.png"), "--gallery", where)
        capsys.readouterr()
        recognise("identify", str(tmp_path / "new"), "--gallery", where, "--json", "-")
        found[where] = json.loads(capsys.readouterr().out)["faces"]
    ours, small = found.values()
    assert [one["name"] for one in ours] == [f"P{person}" for person in range(7)] + [None, None]
    print("\nface     PostgreSQL: top 5                            SQLite: top 5")
    for mine, right in zip(ours, small, strict=True):
        tops = [[f"{one['name']} {one['score']:+.3f}" for one in each["candidates"]] for each in (mine, right)]
        print(f"{Path(mine['face']['photo']).name}    {'  '.join(tops[0])}    {'  '.join(tops[1])}")
        assert len(mine["candidates"]) == 5
        assert mine["verdict"]["answer"] == right["verdict"]["answer"]
        for one, other in zip(mine["candidates"], right["candidates"], strict=True):
            assert one["name"] == other["name"]
            assert one["score"] == pytest.approx(other["score"], abs=2e-6)
