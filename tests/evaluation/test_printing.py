"""What a reader of a table is told: which images, which figures, which intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.fixtures import Arrays
from tests.evaluation.test_harness import RULES, Bright, Poison, data, run
from workbench.evaluation.protocols import Protocol
from workbench.evaluation.summaries import METRICS, meaning
from workbench.numerics.boundaries import TOLERANCE
from workbench.schema import InputError


def test_figures_are_said_as_the_protocol_counts_them() -> None:
    single = Protocol(void="public", ap_scaling="none")
    multi = Protocol(task="multi", mask="argmax", void="public")
    assert "2 right / (2 labelled + void)" in meaning("accuracy", single)
    assert "void pixels are left out" in meaning("accuracy", Protocol())
    assert "void pixels are left out" in meaning("accuracy", multi)
    assert "background and foreground; void pixels are left out" in meaning("miou_set", single)
    assert "in its union, as the public code has it" in meaning("miou_set", multi)
    assert "the scale of the scores decides" in meaning("ap_stacked", single)
    assert "scaled to 0 .. 1" in meaning("ap_stacked", multi)
    assert "over the classes of an image, then over images" in meaning("ap", multi)
    assert f"{100 * TOLERANCE:g} %" in meaning("boundary_f", multi)
    assert all(meaning(name, single) for name in METRICS)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (4, "±: no interval for so few images (under 5)."),
        (6, "±: half of the 95 % interval over images, exploratory for so few images (under 10); percentile"),
        (12, "±: half of the 95 % interval over images; percentile bootstrap, 1,000 resamples."),
    ],
)
def test_intervals_say_what_they_are_of(tmp_path: Path, count: int, says: str) -> None:
    assert says in str(run(tmp_path, "random", held=data(count)))


def test_another_set_than_the_published_one_is_named(tmp_path: Path) -> None:
    def head(**options: Any) -> str:
        return str(run(tmp_path, "random", held=data(**options), any_count=True)).splitlines()[0]

    assert head() == "arrays: 10 images"
    assert head(expected={"full": 10}) == "arrays: 10 images"
    assert head(expected={"full": 930}) == "arrays: 10 images; NOT the published set, which has 930"
    expected = "arrays: 10 images; published figures are of 930, selected by another rule"
    assert head(expected={"resized": 930}) == expected


class Unreadable(type(data())):  # type: ignore[misc]
    def labels(self, name: str) -> np.ndarray:
        if name == "image 3":
            raise InputError("image 3 has no labels")
        return np.asarray(super().labels(name))


def test_what_failed_and_what_could_not_be_selected_are_two_things(tmp_path: Path) -> None:
    held = Unreadable(data().held)  # type: ignore[attr-defined]
    text = str(run(tmp_path, Poison(), held=held))
    assert text.startswith("arrays: 9 images; 1 failed; 1 more could not be selected")
    assert "failed: image 3: image 3 has no labels" in text


def test_maps_that_are_the_same_everywhere_are_named(tmp_path: Path) -> None:
    text = str(run(tmp_path, ["background", "random"]))
    line = "floor: all background: not defined, and counted as 0: AP stacked in 10 (maps that are the same everywhere)."
    assert line in text
    assert "floor: random: not defined" not in text


def test_every_reading_of_a_table_of_several_protocols_is_there(tmp_path: Path) -> None:
    from workbench.evaluation.captured import Captures
    from workbench.evaluation.entries import entry
    from workbench.evaluation.harness import run as run_entries

    captures = Captures()
    entries = [entry("random", RULES.changed(ap_scaling=how), captures, how) for how in ("minmax", "none")]
    text = str(run_entries(data(), entries, captures, folder=tmp_path, progress=False))
    (line,) = [line for line in text.splitlines() if line.startswith("AP stacked: ")]
    assert "scaled to 0 .. 1" in line
    assert "the scale of the scores decides" in line
    assert "the same with ap_scaling=none" in text


def test_rows_of_other_images_and_few_of_them_are_named(tmp_path: Path) -> None:
    text = str(run(tmp_path, [Poison(), "random"]))
    assert "Rows are NOT of the same images" in text
    assert "Rows are NOT" not in str(run(tmp_path, ["random", "background"]))

    class Nothing(Bright):
        def maps(self, *given: Any) -> Any:
            raise InputError("never")

    text = str(run(tmp_path / "other", [Nothing(), "random"], held=data(12)))
    assert "1,000 resamples; none for rows of under 5 images." in text


def test_names_and_messages_stay_in_their_line(tmp_path: Path) -> None:
    """A file's name may hold a line break, a terminal's escape or the mark that turns text around."""
    name = "a\nb\x1b[2J\u202ec"

    class Failing(Bright):
        def maps(self, *given: Any) -> Any:
            raise InputError("x" * 1000)

    held = Arrays({name: np.eye(6), "שלום 狗": np.eye(6)}, grid=(6, 6))
    text = str(run(tmp_path, Failing(), held=held))
    assert "failed: a\ufffdb\ufffd[2J\ufffdc: xxx" in text
    assert "failed: שלום 狗: xxx" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 700
    with pytest.raises(InputError, match="a\ufffdb"):
        run(tmp_path, Failing(), held=held, strict=True)
