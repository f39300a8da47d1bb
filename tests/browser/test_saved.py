"""A saved view: one HTML file, opened with no kernel and no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import synthetic
from tests.browser import chromium
from tests.browser.views import View, check_maps
from workbench.widgets.explore.page import save_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_a_saved_page_still_slices(browser: Browser, tmp_path: Path) -> None:
    ds = synthetic.dataset(concepts=("dog", "<b>grass</b>", "sky"), samples=2, truth=True, signal=2.0, grid=(6, 8))
    path = save_html(ds, tmp_path / "view.html", state={"opacity": 1.0, "picture": False, "open": ["options"]})
    with chromium.context(browser, viewport={"width": 1000, "height": 900}, offline=True) as (context, notice):
        page = context.new_page()
        page.goto(path.as_uri())
        view = View(page.locator(".wb-view"))
        check_maps(view, ds.wb.heatmap())
        view.press("layers-window", "ArrowRight", 2)
        view.press("timesteps-low", "ArrowLeft", 2)
        check_maps(view, ds.wb.heatmap(layers=slice(3, 4), timesteps=750))
        overview = view.unfold("overview")
        overview.locator("[data-cell='2,0']").click()
        view.settle()
        check_maps(view, ds.wb.heatmap(layers=0, timesteps=250))
        view.click_patch(2, 3)
        assert view.state["pin"] == [2, 3]
        view.select("sample", "1")
        overview.get_by_text("does not hold that").wait_for()
        view.select("space", "cross")
        view.select("reduce", "mean_softmax")
        check_maps(view, ds.wb.heatmap(space="cross", layers=0, timesteps=250, samples=1, reduce="mean_softmax"))
        view.unfold("heads").get_by_text("This page has no kernel").wait_for()
        assert "<b>grass</b>" in view.root.inner_text()
        assert not view.root.locator("b", has_text="grass").count()
        assert np.isfinite(float(view.root.locator(".wb-glance").get_attribute("data-value") or "nan"))
        view.select("space", "output")
        view.set(layers=[2, 3], timesteps=[750, 500], pin=None)
        page.wait_for_function("() => location.hash.includes('layers=[2,3]')")
        linked = context.new_page()
        linked.goto(page.url)
        other = View(linked.locator(".wb-view"))
        assert other.state == view.state
        check_maps(
            other, ds.wb.heatmap(layers=slice(2, 3), timesteps=slice(750, 500), samples=1, reduce="mean_softmax")
        )
        linked.evaluate("() => { location.hash = 'layers=[3,3]'; }")
        linked.wait_for_function("root => root.workbench.state.layers[0] === 3", arg=other.root.element_handle())
        linked.evaluate("() => { location.hash = 'layers=[3,77]'; }")
        linked.get_by_text("this page holds no layers [3,77]").wait_for()
        assert other.state["layers"] == [3, 3]
        assert notice.errors == []
        assert notice.left == []
