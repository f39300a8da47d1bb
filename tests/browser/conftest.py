from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.browser import chromium, jupyter

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE: Final = Path(__file__).parent


class Shared:
    """What the browser tests make once and share: made when first asked for, ended after the last of them.

    Session fixtures would live on while other tests run, whose event loops that of the browser gets in the way of.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[str, Any] = {}

    def get(self, name: str, make: Callable[[], AbstractContextManager[Any]]) -> Any:
        """What was made under that name."""
        if name not in self._made:
            self._made[name] = self._stack.enter_context(make())
        return self._made[name]

    def end(self) -> None:
        """End everything."""
        self._made.clear()
        self._stack.close()


SHARED: Final = Shared()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End what is shared when no test of this folder follows."""
    if nextitem is None or not nextitem.path.is_relative_to(HERE):
        SHARED.end()


@pytest.fixture(scope="session")
def _there_is_a_browser() -> None:
    if reason := chromium.missing():
        pytest.fail(reason) if chromium.required() else pytest.skip(reason)


@pytest.fixture(scope="module")
def server(_there_is_a_browser: None, tmp_path_factory: pytest.TempPathFactory) -> jupyter.Server:
    """JupyterLab and Notebook 7."""
    return SHARED.get("server", lambda: jupyter.serve(tmp_path_factory.mktemp("jupyter")))


@pytest.fixture(scope="module")
def browser(_there_is_a_browser: None) -> Browser:
    """Chromium."""
    return SHARED.get("browser", chromium.launch)


@contextmanager
def _notebook(browser: Browser, server: jupyter.Server) -> Iterator[chromium.Notebook]:
    with chromium.context(browser) as (context, notice):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        notebook = chromium.Notebook.open(context.new_page(), server, notice, server.write("shared"))
        yield notebook
        notebook.close()


@pytest.fixture(scope="module")
def lab(browser: Browser, server: jupyter.Server) -> Iterator[chromium.Notebook]:
    """An empty notebook in JupyterLab, its kernel with the packages; nothing may go wrong in it."""
    notebook = SHARED.get("notebook", lambda: _notebook(browser, server))
    notebook.page.set_viewport_size({"width": 1400, "height": 1000})
    for noticed in (notebook.notice.errors, notebook.notice.left):
        noticed.clear()
    notebook.run("import json\nimport numpy as np\nimport workbench as wb\nfrom tests import synthetic")
    yield notebook
    notebook.clear()
    assert notebook.notice.errors == []
    assert notebook.notice.left == []
