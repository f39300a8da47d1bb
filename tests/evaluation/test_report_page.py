from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.fixtures import Arrays, voc_tree
from tests.evaluation.test_harness import RULES, Bright, Poison, data, run
from workbench.evaluation.captured import Captures
from workbench.evaluation.entries import entry
from workbench.evaluation.harness import evaluate
from workbench.evaluation.harness import run as run_entries
from workbench.evaluation.report_page import page, write_report
from workbench.evaluation.voc import open_voc
from workbench.schema import InputError, StoreError

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x00"


def hostile(tmp_path: Path) -> Any:
    """Names, words, titles and messages that would be markup."""
    labels = {f"{HOSTILE} {number}": np.eye(6) for number in range(4)}
    held = Arrays(labels, name=HOSTILE, classes=("background", HOSTILE), grid=(6, 6))

    class Bad(Bright):
        def maps(self, examples: Any, concepts: Any) -> Any:
            for example, found in zip(examples, super().maps(examples, concepts), strict=True):
                if example.name.endswith("3"):
                    raise ZeroDivisionError(HOSTILE)
                yield found

    return evaluate(held, [Bad(HOSTILE)], protocol=RULES, folder=tmp_path, progress=False)


def test_one_page_with_everything(tmp_path: Path) -> None:
    found = run(tmp_path / "rows", [Poison(), "oracle", "random"])
    text = write_report(found, tmp_path / "page.html").read_text("utf-8")
    for part in ("Figures, in per cent", "Protocol", "IoU of each class", "best, median and worst", "1 failures"):
        assert part in text
    assert "image 4" in text
    assert "ZeroDivisionError: poison" in text
    assert len(re.findall(r"<img alt='[^']*' src='data:image/png;base64,", text)) == 27
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_the_policy_allows_the_pages_own_style_and_nothing_else(tmp_path: Path) -> None:
    text = page([run(tmp_path)], [{}])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "<script" not in text
    assert " style=" not in text


def test_hostile_text_is_text(tmp_path: Path) -> None:
    text = page([hostile(tmp_path)], [{}])
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_folders_give_the_same_figures(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 12
    voc = voc_tree(tmp_path / "voc", {f"2007_00000{number}": mask for number in range(3)})
    found = evaluate(
        open_voc(voc, any_count=True), ["oracle", "random"], protocol="public-head", folder=tmp_path / "rows",
        progress=False, any_count=True,
    )  # fmt: skip
    folders = [one.parts.folder for one in found.results]
    text = write_report(folders, tmp_path / "page.html").read_text("utf-8")
    accuracy = 100 * found.results[1].summary.values["accuracy"]
    assert f"{accuracy:.2f}" in text
    assert "conflict" in text
    assert "0.969" in text


def test_a_data_set_that_is_gone(tmp_path: Path) -> None:
    found = run(tmp_path / "rows")
    text = write_report([one.parts.folder for one in found.results], tmp_path / "page.html").read_text("utf-8")
    assert "is not where it was, or was changed: no images here" in text
    assert "softmax_mean" in text


def test_entries_of_one_method_keep_their_titles(tmp_path: Path) -> None:
    captures = Captures()
    rules = {"plain": RULES, "blurred": RULES.changed(blur=1.0)}
    entries = [entry(Bright(), one, captures, title) for title, one in rules.items()]
    found = run_entries(data(), entries, captures, folder=tmp_path / "rows", progress=False)
    text = write_report([one.parts.folder for one in found.results], tmp_path / "page.html").read_text("utf-8")
    assert "<td class='name'>plain</td>" in text
    assert "<td class='name'>blurred</td>" in text


def test_what_cannot_be_written(tmp_path: Path) -> None:
    found = run(tmp_path / "rows", held=data(3))
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_report(found, tmp_path / "page.txt")
    with pytest.raises(InputError, match="there is no folder"):
        write_report(found, tmp_path / "missing" / "page.html")
    with pytest.raises(StoreError, match="holds no evaluation"):
        write_report([tmp_path], tmp_path / "page.html")
    with pytest.raises(InputError, match="no folder is given"):
        write_report([], tmp_path / "page.html")


@pytest.mark.parametrize(("count", "kinds", "shown"), [(2, ["all"], 2), (4, ["best", "median", "worst"], 3)])
def test_of_few_images_none_is_shown_twice(tmp_path: Path, count: int, kinds: list[str], shown: int) -> None:
    text = write_report(run(tmp_path / "rows", held=data(count)), tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r"<p>(\w+)</p><div class='strip'>", text) == kinds
    names = re.findall(r"<figcaption title='(image \d)", text)
    assert len(names) == len(set(names)) == shown


def test_long_names_are_cut_where_there_is_no_room_and_colours_have_a_key(tmp_path: Path) -> None:
    word = "w" * 400
    held = Arrays(
        {f"{number}{'n' * 300}": np.repeat([[0, 1, 2]], 6, 0) for number in range(3)},
        task="multi", classes=("background", word, "dog"), grid=(6, 3),
    )  # fmt: skip
    rules = RULES.changed(task="multi", mask="argmax")
    found = evaluate(held, Bright(), protocol=rules, folder=tmp_path / "rows", progress=False)
    text = write_report(found, tmp_path / "page.html").read_text("utf-8")
    seen = re.sub(r" (?:title|alt)='[^']*'", "", text)
    assert "w" * 59 + "…" in seen
    assert "w" * 60 not in seen
    assert "n" * 60 not in seen
    assert len(re.findall(r"<span><img class='key' alt='' src='data:image/png;base64,[^']*'>", text)) == 9


def test_rows_of_other_images_are_named_on_the_page(tmp_path: Path) -> None:
    text = page([run(tmp_path, [Poison(), "random"])], [{}])
    assert "Rows are NOT of the same images" in text
