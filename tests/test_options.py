"""Inputs of a pipeline as the command line is given them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench import cli
from workbench.options import read_inputs, read_per_image
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'name,concepts,prompt\nfirst,"dog, green grass",a dog\nsecond,sky,\n'),
        ("x.TSV", "\ufeffname\tconcepts\tprompt\nfirst\tdog,green grass\ta dog\nsecond\tsky\t\n"),
        (
            "x.json",
            '[{"name": "first", "concepts": ["dog", "green grass"], "prompt": "a dog"},'
            ' {"name": "second", "concepts": "sky", "prompt": ""}]',
        ),
    ],
)
def test_words_and_prompts_of_each_image(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    concepts, prompts = read_per_image(tmp_path / name)
    assert concepts == {"first": ["dog", "green grass"], "second": ["sky"]}
    assert prompts == {"first": "a dog", "second": ""}


def test_one_column_alone_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,prompt\na,dog\n")
    assert read_per_image(tmp_path / "x.csv") == ({}, {"a": "dog"})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.txt", "name\n", "expected a .csv, .tsv or .json file"),
        ("x.csv", None, "cannot be read"),
        ("x.csv", 'name,prompt\n"a', "cannot be read"),
        ("x.json", "{", "cannot be read"),
        ("x.json", '{"a": "dog"}', "holds no rows"),
        ("x.json", "[1]", "holds no rows"),
        ("x.csv", "name,prompt\n", "holds no rows"),
        ("x.csv", "name\na\n", "row 1 of .* has the name 'a'"),
        ("x.csv", "file,prompt\na,dog\n", "has the column 'file'"),
        ("x.csv", "name,prompt\na,dog,cat\n", "has the column None"),
        ("x.csv", "name,prompt\na,dog\na,cat\n", "row 2 of .* has the name 'a' again"),
        ("x.csv", "name,prompt\na,dog\nb\n", "of 'b' and others, one alone has prompt"),
        ("x.json", '[{"name": 3, "prompt": ""}]', "has the name 3"),
        ("x.json", '[{"name": "a", "prompt": ""}, {"name": "b", "concepts": ["x"]}]', "of 'b' and others"),
    ],
)
def test_a_table_that_is_none_is_refused(name: str, text: str | None, says: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_per_image(tmp_path / name)
