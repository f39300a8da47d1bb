from __future__ import annotations

from pathlib import Path

import pytest

LONGEST = ("browser", "tests/test_notebooks.py", "tests/tiny/test_objective.py", "tests/tiny/test_model.py")
"""What takes long begins first, so that the processes end together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one of pytest-xdist's processes, and all that share a Jupyter server, too."""

    def group(item: pytest.Item) -> str:
        return "browser" if item.get_closest_marker("browser") else item.nodeid.partition("::")[0]

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: LONGEST.index(group(item)) if group(item) in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's runs."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs of a test"
