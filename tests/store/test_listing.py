from __future__ import annotations

from pathlib import Path

import pytest

from workbench.store import listing
from workbench.store.listing import Family, Run, Runs, families


def run(key: str, day: int = 1, **more: str) -> Run:
    path = Path("runs", f"{key}.zarr")
    return Run(key, "capture", "made-up", ("dog", "sky"), "", f"2025-01-{day:02}T00:00:00+00:00", 1000, path, **more)


MINE = [run("new", 9), run("old", 1)]
MADE = [
    run("base", 8, role="baseline", parent="old"),
    run("skip", 8, role="edit", parent="old", edit="SkipBlock(3)"),
    run("rand", 8, role="control", parent="old", edit="SkipBlock(<4>)"),
]
ALONE = [run("b", 5, role="baseline"), run("e", 6, role="edit", parent="b", edit="SkipBlock(1)")]


def _keys(found: list[Family]) -> list[tuple[str, list[str]]]:
    return [(family.head.key, [run.key for run in family.derived]) for family in found]


def test_runs_of_experiments_lie_below_the_run_that_they_belong_to() -> None:
    assert _keys(families([*MADE, *ALONE, *MINE])) == [
        ("new", []),
        ("old", ["base", "skip", "rand"]),
        ("b", ["e"]),
    ]


def test_an_experiment_without_a_run_of_the_users_is_headed_by_its_baseline() -> None:
    assert _keys(families(MADE)) == [("base", ["skip", "rand"])]
    assert _keys(families(MADE[1:])) == [("skip", ["rand"])]
    assert families(MADE)[0].made == MADE


def test_an_experiment_from_a_run_of_an_experiment_lies_below_the_same_one() -> None:
    deeper = run("deep", 9, role="edit", parent="skip")
    assert _keys(families([*MINE, *MADE, deeper])) == [("new", []), ("old", ["base", "skip", "rand", "deep"])]


@pytest.mark.parametrize("parents", [("p", "q"), ("q", "p"), ("p", "p")])
def test_parents_that_go_round_end(parents: tuple[str, str]) -> None:
    found = families([run("p", role="edit", parent=parents[0]), run("q", role="edit", parent=parents[1])])
    assert sorted(run.key for family in found for run in family.made) == ["p", "q"]


def test_the_table_counts_them_and_says_what_was_edited() -> None:
    lines = repr(Runs([*MINE, *MADE])).splitlines()
    assert [line.split()[0] for line in lines] == ["key", "new", "old", "+"]
    assert lines[3] == "  + 3 runs of an experiment, 3.0 kB"
    mine = run("mine", edit="SkipBlock(7)")
    lines = repr(Runs([mine, *MINE])).splitlines()
    assert lines[0].endswith("edit")
    assert lines[1].endswith("1.0 kB  SkipBlock(7)")


def test_every_run_has_a_row_when_asked_for() -> None:
    lines = Runs([*MINE, *MADE]).table(every=True).splitlines()
    assert [line.split()[0] for line in lines] == ["key", "new", "old", "base", "skip", "rand"]
    assert [line.startswith("  ") for line in lines] == [False, False, False, True, True, True]
    assert [line.rpartition("kB")[2].strip() for line in lines[3:]] == [
        "baseline",
        "SkipBlock(3)",
        "control: SkipBlock(<4>)",
    ]


def test_the_html_table_escapes_edits() -> None:
    text = Runs([run("mine", edit="<b>"), *MINE, *MADE])._repr_html_()
    assert "3 runs of an experiment" in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_what_is_cut_in_the_table_says_so() -> None:
    long = run("mine", edit="x" * 100)
    assert repr(Runs([long])).endswith("x" * (listing._WIDEST - 1) + "…")


def test_the_size_of_a_run_is_readable() -> None:
    assert [listing.readable(size) for size in (999, 12_345, 1_500_000_000)] == ["999 B", "12.3 kB", "1.5 GB"]
