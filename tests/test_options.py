"""Inputs of a pipeline as the command line is given them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench import cli
from workbench.options import read_inputs
from workbench.schema import InputError


def test_inputs() -> None:
    given = ["image=a b=c.png", "strength=0.6", "control_mode=2", "_auto_resize=false", "scale=1", "scale=0.5"]
    assert read_inputs(given) == {
        "image": "a b=c.png",
        "strength": 0.6,
        "control_mode": 2,
        "_auto_resize": False,
        "scale": [1, 0.5],
    }
    assert read_inputs(None) is None
    assert read_inputs([]) is None


@pytest.mark.parametrize("given", ["image", "image=", "=photo.png", ""])
def test_inputs_without_a_name_or_a_value(given: str) -> None:
    with pytest.raises(InputError, match=r"expected name=value, such as image=photo\.png"):
        read_inputs([given])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--home", "a", "--home", "b"], "--home"),
        (["--home=a", "--all", "--home=b"], "--home"),
        (["--home", "a", "--home=a"], "--home"),
    ],
)
def test_an_option_that_takes_one_value_is_given_once(words: list[str], name: str) -> None:
    ended = CliRunner().invoke(cli.app, ["runs", *words])
    assert ended.exit_code == 2
    assert f"{name} given more than once; expected one value each" in ended.output


def test_what_an_option_takes_may_look_like_one(tmp_path: Path) -> None:
    wrong = CliRunner().invoke(cli.app, ["prune", "--home", str(tmp_path), "--older-than", "--keep", "--keep", "3"])
    assert "more than once" not in wrong.output
