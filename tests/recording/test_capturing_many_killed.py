"""Runs of many images whose process is killed, and that two processes make at once: all in processes of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xarray as xr

import workbench as wb
from tests.recording.many_worker import COUNT, capture
from workbench import store
from workbench.schema import StoreError

KILLS = 3
PASSES = 2 * COUNT
"""Of two timesteps each."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, int]:
    """What nobody interrupted, and the number of moments at which it could have been."""
    folder = tmp_path_factory.mktemp("straight")
    threads = torch.get_num_threads()
    try:
        ds = capture(folder / "home", folder / "log").compute()
    finally:
        torch.set_num_threads(threads)
    lines = (folder / "log").read_text().splitlines()
    assert lines.count("pass") == PASSES
    return ds, int(lines[-1].removeprefix("moments "))


def _start(folder: Path, log: str, kill_at: int | str = "", meet: Path | str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.recording.many_worker", folder / "home", folder / log, kill_at, meet]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(one) for one in command], cwd=root, env=environment)


def _passes(folder: Path, *logs: str) -> int:
    return sum((folder / log).read_text().splitlines().count("pass") for log in logs if (folder / log).exists())


def _assert_as_if_nothing_had_happened(home: Path, expected: xr.Dataset) -> None:
    key = expected.attrs["key"]
    found = wb.open(key, home, verify=True).compute()
    xr.testing.assert_identical(found.assign_attrs(created=expected.attrs["created"]), expected)
    assert not store.damage(key, home)
    assert sorted(run.key for run in store.runs(home)) == sorted([key, *expected.run.values.tolist()])
    assert not list((home / "partial").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("index", range(KILLS))
def test_what_is_killed_goes_on_and_ends_as_if_nothing_had_happened(
    index: int, straight: tuple[xr.Dataset, int], tmp_path: Path
) -> None:
    expected, moments = straight
    kill_at = int(moments * (index + random.Random(index).random()) / KILLS)
    killed = _start(tmp_path, "first", kill_at)
    assert killed.wait() == -signal.SIGKILL
    for run in store.runs(tmp_path / "home"):
        if run.kind == "capture":
            store.verify(run.key, tmp_path / "home")
    try:
        held = wb.open(expected.attrs["key"], tmp_path / "home").compute()
    except StoreError:
        held = expected.isel(item=[])
    xr.testing.assert_equal(held.output, expected.output.isel(item=slice(held.sizes["item"])))
    before = _passes(tmp_path, "first")
    (tmp_path / "meet").mkdir()
    both = [_start(tmp_path, log, meet=tmp_path / "meet") for log in ("second", "third")]
    assert [process.wait() for process in both] == [0, 0]
    # At most the pass that was under way is made again.
    assert PASSES - before <= _passes(tmp_path, "second", "third") <= PASSES - before + 1
    _assert_as_if_nothing_had_happened(tmp_path / "home", expected)
