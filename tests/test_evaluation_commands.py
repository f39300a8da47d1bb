from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.fixtures import voc_tree
from workbench import cli


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


FLOORS = ("--method", "oracle", "--method", "random")


@pytest.mark.slow
def test_evaluate_and_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(
        monkeypatch, capsys, "evaluate", "scenes-single", *FLOORS, "--limit", 6, "--folder", tmp_path / "rows", "--json"
    )
    assert code == 0
    (found,) = json.loads(out)
    assert (found["images"], found["available"], found["failures"]) == (6, 197, [])
    values = {(one["method"], one["metric"]): one["value"] for one in found["figures"]}
    assert values["oracle", "accuracy"] > 0.9 > values["random", "accuracy"]
    assert next(iter(found["protocols"].values()))["mask"] == "mean"
    code, out, _ = run(monkeypatch, capsys, "report", *found["folders"], "--output", tmp_path / "page.html")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "page.html"
    assert "ceiling: right class of each patch" in (tmp_path / "page.html").read_text("utf-8")
    code, out, _ = run(monkeypatch, capsys, "evaluate", "scenes-single", *FLOORS, "--limit", 6, "--folder", tmp_path)
    assert (code, "kept in\n" in out, "6 images of 197, spread evenly" in out) == (0, True, True)


def test_explain_computes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = voc_tree(tmp_path / "voc", {"2007_000001": np.ones((9, 9), np.uint8)})
    options = ("--path", folder, "--any-count", "--protocol", "public-head", "--explain")
    code, out, _ = run(monkeypatch, capsys, "evaluate", "voc-single", *options, "--set", "layers=1-3")
    assert code == 0
    assert "disagree on: layers, timestep, concept_norm, reduce, mask" in out
    assert "1-3" in out
    code, out, _ = run(monkeypatch, capsys, "evaluate", "voc-single", *options, "--json")
    assert {one["name"] for one in json.loads(out)["knobs"] if one["verdict"] == "conflict"} >= {"layers", "mask"}


def test_strict_exits_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 12
    folder = voc_tree(tmp_path / "voc", {"2007_000001": mask, "2007_000002": mask}, truncated="2007_000002")
    call = ("evaluate", "voc-single", "--path", folder, "--any-count", "--method", "oracle", "--folder", tmp_path / "r")
    code, out, _ = run(monkeypatch, capsys, *call)
    assert (code, "failed: 2007_000002" in out) == (0, True)
    assert run(monkeypatch, capsys, *call, "--strict")[0] == 1


@pytest.mark.parametrize("data", ["imagenet", "voc-single", "voc-multi"])
def test_explain_needs_no_data_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    code, out, _ = run(monkeypatch, capsys, "evaluate", data, "--protocol", "public-head", "--explain", "--json")
    assert code == 0
    found = json.loads(out)
    assert {one["name"] for one in found["knobs"] if one["verdict"] == "conflict"} >= {"layers"}
    assert len(found["notes"]) > 3


def test_a_method_without_a_figure_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mask = np.full((40, 60), 12, np.uint8)
    folder = voc_tree(tmp_path / "voc", {"2007_000001": mask}, truncated="2007_000001")
    call = ("evaluate", "voc-single", "--path", folder, "--any-count", "--method", "oracle", "--folder", tmp_path / "r")
    code, out, _ = run(monkeypatch, capsys, *call)
    assert (code, "failed: 2007_000001" in out) == (1, True)


@pytest.mark.slow
def test_reproduce(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(monkeypatch, capsys, "reproduce", "table1", "--limit", 2, "--folder", tmp_path, "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert {one["entry"] for one in found["figures"]} >= {"output (ConceptAttention)", "cross attention"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("evaluate", "imagenets"), 2, "unknown data set 'imagenets'; expected one of"),
        (("evaluate", "imagenet"), 2, "calvin-vision.net"),
        (("evaluate", "voc-multi", "--path", "nowhere"), 2, "host.robots.ox.ac.uk"),
        (("evaluate", "scenes-single", "--method", "outputs"), 2, "unknown method 'outputs'"),
        (("evaluate", "scenes-single", "--protocol", "papers"), 2, "expected one of default, paper"),
        (("evaluate", "scenes-single", "--set", "colour=1"), 2, "the knobs are layers"),
        (("evaluate", "scenes-single", "--shard", "3/3"), 2, "expected i/n"),
        (("evaluate", "scenes-single", "--split", "tests"), 2, "expected one of"),
        (("evaluate", "scenes-single", "--model", "no-such-model"), 1, "unknown model 'no-such-model'"),
        (("evaluate", "scenes-single", "--limit", "0", "--method", "random"), 2, "limit is 0"),
        (("reproduce", "table9"), 2, "expected one of table1"),
        (("reproduce", "table1", "--model", "no-such-model"), 1, "unknown model 'no-such-model'"),
        (("reproduce", "table1", "--imagenet", "nowhere.mat"), 2, "calvin-vision.net"),
        (("report", "nowhere"), 1, "holds no evaluation"),
        (("report", "nowhere", "--output", "page.pdf"), 2, "ends in .html"),
    ],
)
def test_wrong_calls(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    found, _, err = run(monkeypatch, capsys, *arguments)
    assert (found, says in err) == (code, True), err
