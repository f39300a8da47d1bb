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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_sees_all_of_the_table_and_can_read_it(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """At the width of a laptop nothing is cut off, no word is broken, and text stands out from its ground."""
    path = write_report(run(tmp_path / "rows", ["oracle", "background", "prior"]), tmp_path / "page.html")
    with context(browser, viewport={"width": 1200, "height": 800}, color_scheme=scheme) as (opened, notice):
        page = opened.new_page()
        page.goto(path.as_uri())
        assert page.locator(".wide").evaluate_all("all => all.every(one => one.scrollWidth <= one.clientWidth)")
        heads = page.locator(".figures th").evaluate_all(
            "all => all.filter(one => !one.innerText.includes(' ') && one.innerText).map(one => one.offsetHeight)"
        )
        assert len(set(heads)) == 1
        assert page.locator("th").evaluate_all("all => all.every(one => one.scrollWidth <= one.offsetWidth)")
        light = """one => getComputedStyle(one).color.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)"""
        ground = light.replace("color.", "backgroundColor.")
        body = page.locator("body")
        assert abs(body.evaluate(light) - body.evaluate(ground)) > 500
        assert (body.evaluate(ground) < 200) == (scheme == "dark")
        assert (notice.errors, notice.left) == ([], [])
