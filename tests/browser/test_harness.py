"""What the browser tests rely on: the network ends here, errors are seen, pixels are read, nothing is left running."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from tests.browser import chromium, jupyter

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_what_would_leave_the_machine_is_stopped_and_told(browser: Browser) -> None:
    with chromium.context(browser) as (context, notice):
        page = context.new_page()
        page.goto("data:text/html,<p>here</p>")
        reached = page.evaluate("() => fetch('https://example.com/x.js').then(() => true, () => false)")
        assert not reached
        assert notice.left == ["https://example.com/x.js"]


def test_errors_of_a_page_are_seen(browser: Browser) -> None:
    with chromium.context(browser) as (context, notice):
        page = context.new_page()
        page.goto("data:text/html,<script>console.error('said'); setTimeout(() => { throw Error('thrown') })</script>")
        page.wait_for_timeout(100)
        assert len(notice.errors) == 2
        assert "said" in notice.errors[0]
        assert "thrown" in notice.errors[1]


def test_pixels_are_those_that_were_painted(browser: Browser) -> None:
    with chromium.context(browser) as (context, _):
        page = context.new_page()
        page.goto("data:text/html,<canvas width=300 height=200>")
        page.evaluate("""() => {
          const paint = document.querySelector("canvas").getContext("2d");
          paint.fillStyle = "rgb(10, 20, 30)"; paint.fillRect(0, 0, 300, 200);
          paint.fillStyle = "rgb(200, 100, 50)"; paint.fillRect(20, 10, 5, 3);
        }""")
        expected = np.full((200, 300, 4), (10, 20, 30, 255), np.uint8)
        expected[10:13, 20:25] = (200, 100, 50, 255)
        np.testing.assert_array_equal(chromium.pixels(page.locator("canvas")), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("_there_is_a_browser")
def test_a_server_ends_with_all_it_started_when_a_test_fails(tmp_path: Path) -> None:
    family: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError), jupyter.serve(tmp_path / "server") as server:
        server.start_kernel()
        family += [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(family) > 1
        raise ZeroDivisionError
    assert not [process for process in family if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
