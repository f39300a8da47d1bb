from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import context
from tests.evaluation.test_harness import run
from tests.evaluation.test_report_page import hostile
from workbench.evaluation.report_page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_the_page_runs_nothing_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    """In Chromium, with names, words and messages that would be scripts."""
    pages = [
        write_report(hostile(tmp_path / "hostile"), tmp_path / "hostile.html"),
        write_report(run(tmp_path / "plain", ["oracle", "random"]), tmp_path / "plain.html"),
    ]
    with context(browser, viewport={"width": 1000, "height": 800}) as (opened, notice):
        for path in pages:
            page = opened.new_page()
            asked: list[str] = []
            page.on("dialog", lambda dialog, asked=asked: (asked.append(dialog.message), dialog.dismiss()))
            page.goto(path.as_uri())
            page.wait_for_timeout(200)
            assert page.locator("script").count() == 0
            assert page.locator("img").evaluate_all("images => images.every(one => one.naturalWidth > 0)")
            assert page.locator("h1").evaluate("one => getComputedStyle(one).fontFamily").startswith("system-ui")
            assert page.evaluate("document.documentElement.scrollWidth") <= 1000
            assert asked == []
        assert "<script>alert(1)</script>" in opened.pages[0].locator("h1").inner_text()
        assert (notice.errors, notice.left) == ([], [])
