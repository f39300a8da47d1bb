from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.evaluation.examples import Figures
from workbench.evaluation.parts import Parts, Row, arrow
from workbench.numerics.boundaries import Edges
from workbench.schema import InputError, StoreError, WorkbenchWarning

RECORD = {"protocol": {"blur": 1.0}}


def row(name: str, value: int = 1) -> Row:
    counts = np.zeros((3, 3), dtype=np.int64)
    counts[0, 1], counts[1, 1] = value, 10**9
    figures = Figures(counts, 0.5, float("nan"), Edges(1, 2, 3, 4), np.arange(6, dtype=np.uint8).reshape(2, 3))
    return Row(name, "", ("dog", "grüße"), figures, ("a note",))


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    parts = Parts.open(tmp_path / "a", RECORD)
    parts.write([row("x"), Row("bad", "it is <b>truncated</b>")])
    good, bad = parts.rows(["x", "bad"], previews=True)
    assert good.figures is not None
    assert (good.figures.counts == row("x").figures.counts).all()  # type: ignore[union-attr]
    assert np.isnan(good.figures.ap_stacked)
    assert good.figures.preview.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (good.targets, good.notes, good.figures.edges) == (("dog", "grüße"), ("a note",), (1, 2, 3, 4))
    assert bad == Row("bad", "it is <b>truncated</b>")
    (plain, _) = parts.rows(["x", "bad"])
    assert plain.figures is not None
    assert plain.figures.preview.size == 0


def test_nothing_is_counted_twice(tmp_path: Path) -> None:
    """Two coordinators that evaluated the same images."""
    one, other = Parts.open(tmp_path / "a", RECORD), Parts.open(tmp_path / "a", RECORD)
    one.write([row("x"), row("y")])
    other.write([row("y"), row("z")])
    assert one.done() == {"x", "y", "z"}
    assert [found.name for found in other.rows(["z", "y", "x", "w"])] == ["z", "y", "x"]


def test_what_failed_is_missing_until_it_has_figures(tmp_path: Path) -> None:
    parts = Parts.open(tmp_path / "a", RECORD)
    parts.write([Row("x", "poison")])
    assert parts.done() == set()
    parts.write([row("x")])
    parts.write([Row("x", "poison again")])
    assert parts.done() == {"x"}
    assert [found.message for found in parts.rows(["x"])] == [""]


def test_a_damaged_part_is_named_and_its_images_are_missing(tmp_path: Path) -> None:
    parts = Parts.open(tmp_path / "a", RECORD)
    parts.write([row("x")])
    (held,) = (tmp_path / "a" / "parts").iterdir()
    parts.write([row("y")])
    held.write_bytes(held.read_bytes()[:-20])
    again = Parts.open(tmp_path / "a", RECORD)
    with pytest.warns(WorkbenchWarning, match=rf"{held.name} is damaged"):
        assert again.done() == {"y"}
    assert [found.name for found in again.rows(["x", "y"])] == ["y"]


def test_what_a_killed_process_left_is_no_part(tmp_path: Path) -> None:
    parts = Parts.open(tmp_path / "a", RECORD)
    (tmp_path / "a" / "parts" / "0-1.parquet.partial").write_bytes(b"half")
    assert parts.done() == set()


def test_a_folder_holds_one_record(tmp_path: Path) -> None:
    Parts.open(tmp_path / "a", RECORD)
    Parts.open(tmp_path / "a", RECORD, {"protocol": "another name"})
    with pytest.raises(InputError, match="of another record"):
        Parts.open(tmp_path / "a", {"protocol": {"blur": 2.0}})
    assert Parts.find(tmp_path / "a")[1:] == (RECORD, {"protocol": "another name"})
    with pytest.raises(StoreError, match="holds no evaluation"):
        Parts.find(tmp_path)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'concept-workbench\[evaluation\]'"):
        arrow()
