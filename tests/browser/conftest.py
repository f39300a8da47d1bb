from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium, jupyter

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def _there_is_a_browser() -> None:
    if reason := chromium.missing():
        pytest.fail(reason) if chromium.required() else pytest.skip(reason)


@pytest.fixture(scope="session")
def server(_there_is_a_browser: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Server]:
    """JupyterLab and Notebook 7, shared by all browser tests."""
    with jupyter.serve(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(_there_is_a_browser: None) -> Iterator[Browser]:
    """Chromium. It belongs to a module because its event loop gets in the way of other tests' loops."""
    with chromium.launch() as running:
        yield running
