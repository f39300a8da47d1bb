"""Runs whose process is killed at any moment, and runs that several processes want at once.

``WORKBENCH_KILLS`` says how many runs are killed; ``make soak`` kills 200.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import workbench as wb
from tests.store import processes
from tests.store.replay import overflowing, produce, save
from workbench import store
from workbench.store.contents import Folder
from workbench.store.manifest import read_manifest

RUNS = int(os.environ.get("WORKBENCH_KILLS", "20"))
WITH_MODEL = max(1, RUNS // 20)
QUICK = 2
"""How many of them are not left to the slow tests."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that nobody interrupted, and the number of moments at which it could have been."""
    home = tmp_path_factory.mktemp("straight")
    lines = _log(_ended(_start(home)), home)
    return home, int(lines[-2].removeprefix("moment "))


def _start(home: Path, kill_at: int | None = None) -> BaseProcess:
    (home / "log").unlink(missing_ok=True)
    return processes.start(produce, home, home / "log", kill_at)


def _ended(process: BaseProcess, kill_after: float | None = None) -> bool:
    """Wait for a process, or kill it; whether it was killed."""
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _log(killed: bool, home: Path) -> list[str]:
    lines = (home / "log").read_text().splitlines() if (home / "log").exists() else []
    assert killed or lines[-1:] == ["complete"]
    return lines


def _number(lines: list[str], word: str) -> int:
    return max([int(line.split()[1]) for line in lines if line.startswith(word)], default=0)


def _files(home: Path) -> dict[str, Any]:
    return read_manifest(Folder(home / "runs" / "run.zarr")).files


@pytest.mark.parametrize(
    "index",
    [pytest.param(index, marks=pytest.mark.slow if index >= QUICK else ()) for index in range(RUNS - WITH_MODEL)],
)
def test_a_killed_run_resumes_and_ends_as_if_nothing_had_happened(
    index: int, straight: tuple[Path, int], tmp_path: Path
) -> None:
    uninterrupted, moments = straight
    rng = random.Random(index)
    # Before an event of the file system, in this test's share of all of them: together they cover a run's whole life.
    kill_at = int(moments * (index + rng.random()) / (RUNS - WITH_MODEL + 1))
    killed = _ended(_start(tmp_path, kill_at))
    assert killed
    lines = _log(killed, tmp_path)
    known = _number(lines, "committed")
    # And then at any time at all.
    for _ in range(rng.randrange(3)):
        killed = _ended(_start(tmp_path), kill_after=rng.random() / 2)
        lines = _log(killed, tmp_path)
        assert not any(line.startswith("found") for line in lines) or _number(lines, "found") >= known
        known = max(known, _number(lines, "committed"))
        for run in store.runs(tmp_path):
            store.verify(run.key, tmp_path)
    lines = _log(_ended(_start(tmp_path)), tmp_path)
    assert _number(lines, "found") >= known, "a committed piece was lost"
    store.verify("run", tmp_path)
    assert _files(tmp_path) == _files(uninterrupted)
    assert not list((tmp_path / "partial").iterdir())


def _generate(home: Path) -> xr.Dataset:
    import torch

    from tests.tiny_random import flux_pipeline

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on it
    try:
        pipe = flux_pipeline()
        made = {"size": (64, 64), "steps": 6, "samples": 2, "home": home, "progress": False}
        return wb.generate("a dog", ["dog", "sky"], model=pipe, **made)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(WITH_MODEL))
def test_a_killed_generation_resumes_and_ends_as_if_nothing_had_happened(index: int, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    code = f"from pathlib import Path\nfrom tests.store.test_killing import _generate\n_generate(Path({str(home)!r}))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    lines = random.Random(index).randrange(1, 20)
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while process.poll() is None:
        journals = list((home / "partial").glob("*/journal"))
        if journals and len(journals[0].read_text().splitlines()) >= lines:
            process.kill()
        time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL
    assert wb.runs(home) == []
    made, resumed = _generate(tmp_path / "straight").load(), _generate(home).load()
    store.verify(wb.runs(home)[0].key, home)
    for ds in (made, resumed):
        del ds.attrs["created"]
    xr.testing.assert_identical(made, resumed)


@pytest.mark.slow
def test_of_eight_processes_one_computes_and_the_others_wait(tmp_path: Path) -> None:
    logs = [tmp_path / f"log {index}" for index in range(8)]
    start = processes.barrier(8)
    together = [processes.start(produce, tmp_path, log, None, start) for log in logs]
    assert not any(_ended(process) for process in together)
    found = sorted(_number(log.read_text().splitlines(), "found") for log in logs)
    computed = sorted(_number(log.read_text().splitlines(), "computed") for log in logs)
    assert computed == [0] * 7 + [30]
    assert found == [0] + [30] * 7
    assert [run.key for run in store.runs(tmp_path)] == ["run"]
    xr.testing.assert_identical(store.open("run", tmp_path, verify=True), save(overflowing("generate"), tmp_path / "x"))
    assert not list((tmp_path / "partial").iterdir())


def test_when_the_one_that_computes_is_killed_another_goes_on(tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    first = _start(tmp_path, 400)
    logs = [tmp_path / f"log {index}" for index in range(3)]
    while not (tmp_path / "log").exists() or "committed" not in (tmp_path / "log").read_text():
        time.sleep(0.002)
    others = [processes.start(produce, tmp_path, log) for log in logs]
    assert _ended(first)
    assert not any(_ended(process) for process in others)
    before = _number((tmp_path / "log").read_text().splitlines(), "committed")
    computed = sorted(_number(log.read_text().splitlines(), "computed") for log in logs)
    assert computed[:2] == [0, 0]
    assert 0 < computed[2] <= 30 - before
    store.verify("run", tmp_path)
