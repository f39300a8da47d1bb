"""Evaluations whose process is killed, and that two processes make at once: the figures are those of a serial one."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from tests.evaluation.killed_worker import COUNT, run
from tests.store import processes
from workbench.evaluation.harness import Evaluation
from workbench.schema import InputError

KILLS = 3
GOOD = {f"image {number}" for number in range(COUNT) if number != 5}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """What nobody interrupted, in bytes, and the number of moments at which it could have been."""
    folder = tmp_path_factory.mktemp("serial")
    found = run(folder / "rows", folder / "log")
    assert [problem.name for problem in found.problems] == ["image 5"]
    assert set(_evaluated(folder / "log")) == GOOD
    return _summary(found), int((folder / "log").read_text().splitlines()[-1].removeprefix("moments "))


def _summary(found: Evaluation) -> str:
    return json.dumps([found.frame().to_dict(), found.images().to_dict(), str(found)])


def _evaluated(log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("image")]


@pytest.mark.parametrize("index", range(KILLS))
def test_of_two_processes_one_is_killed_and_the_summary_is_that_of_a_serial_run(
    index: int, serial: tuple[str, int], tmp_path: Path
) -> None:
    expected, moments = serial
    rows, start = tmp_path / "rows", processes.barrier(2)
    kill_at = int(moments * (index + random.Random(index).random()) / KILLS)
    killed = processes.start(run, rows, tmp_path / "first", kill_at, start)
    other = processes.start(run, rows, tmp_path / "second", None, start)
    killed.join()
    other.join()
    # The other may have done so much before that there were fewer moments left than that.
    assert killed.exitcode in (-signal.SIGKILL, 0)
    assert other.exitcode == 0
    found = run(rows, tmp_path / "third")
    assert _summary(found) == expected
    assert _evaluated(tmp_path / "third") == [], "nothing is evaluated again that is there"


@pytest.mark.parametrize("index", range(KILLS))
def test_after_a_kill_only_what_is_missing_is_evaluated(index: int, serial: tuple[str, int], tmp_path: Path) -> None:
    expected, moments = serial
    kill_at = int(moments * (index + random.Random(index).random()) / KILLS)
    killed = processes.start(run, tmp_path / "rows", tmp_path / "first", kill_at)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    before, found = _evaluated(tmp_path / "first"), run(tmp_path / "rows", tmp_path / "second")
    after = _evaluated(tmp_path / "second")
    assert _summary(found) == expected
    # At most the batch under way is evaluated again.
    assert set(before) | set(after) == GOOD
    assert len(set(before) & set(after)) <= 2


def test_two_processes_at_once_count_nothing_twice(serial: tuple[str, int], tmp_path: Path) -> None:
    start = processes.barrier(2)
    both = [processes.start(run, tmp_path / "rows", tmp_path / log, None, start) for log in ("first", "second")]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    found = run(tmp_path / "rows", tmp_path / "third")
    assert _summary(found) == serial[0]
    assert _evaluated(tmp_path / "third") == []


def test_an_image_that_cannot_be_evaluated_is_listed_and_strict_refuses_it(tmp_path: Path) -> None:
    run(tmp_path / "rows", tmp_path / "first")
    again = run(tmp_path / "rows", tmp_path / "second")
    assert [problem.message for problem in again.problems] == ["ValueError: poison"]
    with pytest.raises(InputError, match="image 5: ValueError: poison"):
        run(tmp_path / "rows", tmp_path / "third", strict=True)
