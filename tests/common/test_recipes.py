"""common.recipes: sections, types, flags beside the file, and every refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from common import cli
from common.errors import UserError
from common.recipes import read_recipe, split_arguments


@dataclass(frozen=True)
class Config:
    """A configuration with a field of every kind."""

    loss: Literal["cosface", "arcface"] = "cosface"
    """Loss."""
    gamma: float | None = None
    """Ratio."""
    rate: float = 0.1
    """Rate."""
    epochs: int = 1
    """Epochs."""
    margin: tuple[float, ...] = ()
    """Margins."""
    root: Path | None = None
    """Faces."""
    name: str = "x"
    """Name."""
    resume: bool = False
    """Go on."""


WHOLE = """
[train]
loss = "arcface"
gamma = 0.5
rate = 1
epochs = 3
margin = [0.5, 1]
root = "some/where"
name = "y"
resume = true
[restart]
epochs = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(WHOLE)
    return path


def test_every_kind_of_value(recipe: Path) -> None:
    expected = Config("arcface", 0.5, 1.0, 3, (0.5, 1.0), Path("some/where"), "y", True)
    found = read_recipe(Config, recipe, "train")
    assert found == expected
    assert isinstance(found.rate, float)
    assert read_recipe(Config, recipe, "restart") == Config(epochs=2)


def test_a_single_section_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[train]\nepochs = 7\n")
    assert read_recipe(Config, tmp_path / "one.toml").epochs == 7


def test_flags_count_before_the_file(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Config] = []

    def main(cfg: Config) -> None:
        seen.append(cfg)

    words = ["--config", str(recipe), "--epochs", "9", "--stage=train", "--no-resume"]
    cli.run(main, Config, words, recipes=True)
    assert seen == [Config("arcface", 0.5, 1.0, 9, (0.5, 1.0), Path("some/where"), "y", False)]
    cli.run(main, Config, ["--epochs", "4"], recipes=True)
    assert seen[1] == Config(epochs=4)
    with pytest.raises(SystemExit) as stopped:
        cli.run(main, Config, ["--config", "nowhere.toml"], recipes=True)
    assert stopped.value.code == 2
    assert "error: nowhere.toml is missing: expected a recipe" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.run(main, Config, ["--config", str(recipe)])  # a program without recipes has no such flag


@pytest.mark.parametrize(
    ("text", "stage", "words"),
    [
        ("epochs = 1", None, r"expected a section for each stage, such as \[train\], found \['epochs'\]"),
        ("", None, r"expected a section for each stage"),
        ("[train]\nepochs = ", None, r"x\.toml is not valid TOML"),
        ("[a]\n[b]\n", None, r"has the sections a, b: give one of them as --stage"),
        ("[a]\n", "b", r"has the sections a: give one of them as --stage"),
        ("[a]\nepoch = 3\n", None, r"x\.toml, \[a\]: epoch is no setting\. There are epochs, gamma"),
        ("[a]\nepochs = 3.5\n", None, r"x\.toml, \[a\] key 'epochs': expected a whole number, found 3\.5"),
        ("[a]\nepochs = true\n", None, r"key 'epochs': expected a whole number, found True"),
        ("[a]\nrate = 'high'\n", None, r"key 'rate': expected a number, found 'high'"),
        ("[a]\ngamma = 'half'\n", None, r"key 'gamma': expected a number, found 'half'"),
        ("[a]\nloss = 'softmax'\n", None, r"key 'loss': expected one of cosface, arcface, found 'softmax'"),
        ("[a]\nmargin = 0.5\n", None, r"key 'margin': expected a list, found 0\.5"),
        ("[a]\nmargin = ['x']\n", None, r"key 'margin': expected a number, found 'x'"),
        ("[a]\nroot = 3\n", None, r"key 'root': expected a path in quotes, found 3"),
        ("[a]\nresume = 1\n", None, r"key 'resume': expected true or false, found 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, stage: str | None, words: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_recipe(Config, tmp_path / "x.toml", stage)


def test_a_stage_without_file_and_a_flag_without_value() -> None:
    with pytest.raises(UserError, match="--stage restart names a section of a recipe: give --config too"):
        split_arguments(["--stage", "restart"])
    with pytest.raises(UserError, match="give --config a recipe file"):
        split_arguments(["--config"])
    assert split_arguments(["--epochs", "3"]) == (None, None, ["--epochs", "3"])
