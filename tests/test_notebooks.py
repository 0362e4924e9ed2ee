"""The notebooks: both files of a pair agree, no output is kept, and each runs from top to bottom on a tiny set."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from common.errors import UserError
from common.files import read_json
from common.images import write_png
from facial_rec.faceset import FaceSet
from pipeline import walkthrough
from pipeline.networks import DEFAULT_DSR, DEFAULT_EDGEFACE

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for what all notebooks make, so that they share faces and networks."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("notebooks")
        patch.setenv("DSR_TINY", "1")
        patch.setenv("DSR_NOTEBOOKS", str(folder))
        yield folder


def test_every_notebook_is_a_pair() -> None:
    assert [path.stem for path in SCRIPTS] == sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    assert len(SCRIPTS) == 5
    readme = (FOLDER / "README.md").read_text()
    assert not [path.stem for path in SCRIPTS if f"`{path.stem}`" not in readme]


@every_notebook
def test_the_pair_agrees(script: Path) -> None:
    cure = f"run: .venv/bin/jupytext --to ipynb --update notebooks/{script.name}"
    assert cells(script) == cells(script.with_suffix(".ipynb")), cure


@every_notebook
def test_no_output_is_kept(script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert "signature" not in notebook.metadata
    assert all(cell.metadata.keys() <= {"lines_to_next_cell"} for cell in notebook.cells)  # blank lines in the .py


@every_notebook
def test_it_says_what_it_shows_and_has_one_cell_to_change(script: Path) -> None:
    text = [source for _, source in cells(script)]
    assert "**It shows**" in text[0]
    assert "**It does not show**" in text[0].replace("\n", " ")
    heading = next(index for index, source in enumerate(text) if source.startswith("## Your data"))
    assert text[heading + 1].startswith("FACES = None")


@every_notebook
def test_it_runs(script: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = runpy.run_path(str(script))
    assert "Nothing here means anything" in capsys.readouterr().out
    assert shown["given"].train.is_relative_to(tiny)
    assert plt.get_fignums()
    plt.close("all")


@pytest.mark.parametrize(("name", "what"), [("gamma_comparison", "gamma"), ("loss_comparison", "losses")])
def test_results_may_be_given_as_text(name: str, what: str, tiny: Path, tmp_path: Path) -> None:
    text, _, _ = (FOLDER / f"{name}.py").read_text().partition("# ## A study of your own")
    results = FOLDER / "results" / f"{what}.json"
    script = tmp_path / "given.py"
    script.write_text(text.replace("RESULTS = None", f"RESULTS = {str(results)!r}"))
    assert runpy.run_path(str(script))["measured"] == read_json(results)
    plt.close("all")


def test_the_ipynb_runs_in_a_kernel(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND")  # the kernel has its own
    notebook = nbformat.read(FOLDER / "inference.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tiny)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 3


def test_own_faces_are_split_by_person_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DSR_NOTEBOOKS", str(tmp_path / "made"))
    monkeypatch.delenv("DSR_TINY", raising=False)
    for person in range(10):
        for photo in range(2):
            walkthrough.write_png(
                tmp_path / "mine" / f"p{person}" / f"{photo}.png", walkthrough._pattern(person, photo)
            )
    given = walkthrough.materials(tmp_path / "mine", edgeface="mine.pt")
    people = [set(FaceSet(root).subjects) for root in (given.train, given.val, given.test)]
    assert [len(group) for group in people] == [6, 2, 2]
    assert len(set.union(*people)) == 10
    assert (given.edgeface, given.dsr) == ("mine.pt", DEFAULT_DSR)
    assert "Splitting" in capsys.readouterr().out
    again = walkthrough.materials(given.train.parent)  # splits that are there already are taken as they are
    assert (again.train, again.val, again.test) == (given.train, given.val, given.test)
    assert (again.edgeface, again.dsr) == (DEFAULT_EDGEFACE, DEFAULT_DSR)
    walkthrough.materials(tmp_path / "mine")
    assert "Splitting" not in capsys.readouterr().out
    walkthrough.write_png(tmp_path / "mine" / "p0" / "0.png", walkthrough._pattern(0, 7))  # aligned anew
    anew = walkthrough.materials(tmp_path / "mine")
    assert "Splitting" in capsys.readouterr().out
    assert anew.train != given.train


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_mark_changes_with_the_images(tmp_path: Path, split: str) -> None:
    places = {name: tmp_path / name for name in walkthrough.SPLITS}
    for place in places.values():
        write_png(place / "a" / "1.png", walkthrough._pattern(0, 0))
    given = walkthrough.Materials(**places, edgeface="", dsr="", note="")
    before = given.mark
    assert given.mark == before
    write_png(places[split] / "a" / "1.png", walkthrough._pattern(0, 1))
    assert given.mark != before


def test_examples_need_two_people(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "1.png", np.zeros((112, 112, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="expected two people with 3 photos each, found 0"):
        walkthrough.example_faces(tmp_path)
