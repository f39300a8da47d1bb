from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The rounding of MKL products in float32 depends on the processor, and a softmax over large scores enlarges it to 3e-5.
# Tests compare with numbers of another machine and allow 1e-5, so they use the products that are the same on every one.
# MKL reads this at its first call; the processes that tests start inherit it.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

# A busy machine makes no test fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

LONGEST = (
    "browser/test_explore.py",
    "browser/test_ablate.py",
    "browser/test_notebooks.py",
    "test_notebooks.py",
    "test_wheel.py",
    "recording/edits/test_editing.py",
    "tiny/training/test_objective.py",
    "tiny/test_model.py",
    "store/test_killing.py",
)
"""Files that take long begin first, so that the processes of pytest-xdist end together."""


def _file(nodeid: str) -> str:
    """The file of a test, from this folder."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""

    def place(item: pytest.Item) -> int:
        file = _file(item.nodeid)
        return LONGEST.index(file) if file in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, keep together the tests of a file, and all that share the browser.

    ``--dist loadgroup`` would be made for this, but pytest-xdist 3.8 marks groups where pytest 9.2 does not look.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = _file(nodeid)
            return "browser" if file.startswith("browser/") else file

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Let garbage collections pass over what torch, diffusers and the tests' modules have made.

    They stay until the end, and hundreds of tests collect garbage: half a second each would go into looking at them.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders for runs, one after the other; pytest's own ones are counted anew each time, thousands of them."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's runs."""
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("WORKBENCH_HOME", str(home))


@pytest.fixture
def tests_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store runs although a test's own hooks and classes take part, which count passes or break them."""
    monkeypatch.setattr("workbench.models.runtime._HOOKS", ())
    monkeypatch.setattr("workbench.models.runtime.foreign_code", lambda classes: [])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs of a test"
