from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest

import workbench.evaluation
from workbench import cli
from workbench.evaluation.published import ROWS

GUIDE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Language and text of the guide's blocks of code, in its order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
    return [(language, text) for language, text in found if language in languages]


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_the_guide_runs_from_its_first_block_to_its_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for language, text in blocks("python", "sh"):
        if language == "python":
            exec(compile(text, str(GUIDE), "exec"), space)
        else:
            for line in text.splitlines():
                assert command(monkeypatch, *shlex.split(line)) == 0, line
    printed = capsys.readouterr().out
    for said in ("concept_norm=linear", "two hearts: 2 images", "\ndark ", "disagree on: layers, concept_norm"):
        assert said in printed
    assert "failed" not in re.sub(r"method failed", "", printed)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_commands_that_need_data_have_the_options_that_the_guide_gives_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for _, text in blocks("console"):
        for line in text.splitlines():
            words = shlex.split(line)
            assert command(monkeypatch, *words[:2], "--help") == 0
            known = capsys.readouterr().out
            assert all(word in known for word in words if word.startswith("--")), line


def test_a_method_of_ones_own_takes_no_more_than_twenty_lines() -> None:
    (code,) = [text for _, text in blocks("python") if "class Dark" in text]
    lines = code[code.index("class ") : code.index("found = ")].strip().splitlines()
    assert 5 < len([line for line in lines if line.strip()]) <= 20


def test_the_guide_says_of_published_rows_what_their_numbers_say() -> None:
    text = GUIDE.read_text("utf-8")
    (odd,) = [row for row in ROWS if row.kind == "unexplained"]
    accuracy = odd.accuracy / 100
    assert f"({odd.accuracy} / {odd.miou}; stacked would be {100 * accuracy / (2 - accuracy):.2f})" in text
    assert {row.kind for row in ROWS if row.data.startswith("voc")} == {"set"}
    assert {row.kind for row in ROWS if row.table in ("table3", "table4")} == {"stacked"}


@pytest.mark.slow
def test_a_method_of_ones_own_as_the_documentation_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Run what the package's documentation shows: no more than twenty lines of a class."""
    text = inspect.getdoc(workbench.evaluation) or ""
    code = inspect.cleandoc(text.partition("::\n")[2])
    lines = code[code.index("class ") : code.index("print(")].strip().splitlines()
    assert 5 < len(lines) <= 20
    exec(compile(code.replace("limit=10", "limit=3"), "documentation", "exec"), {})
    printed = capsys.readouterr().out
    assert "\ndark " in printed
    assert "floor: random" in printed
