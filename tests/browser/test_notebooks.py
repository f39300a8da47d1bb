"""Views in a notebook as it is lived in: themes, widths, many views, dead kernels, reopened files, two datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import synthetic
from tests.browser import chromium
from tests.browser.jupyter import ROOT
from tests.browser.views import View, check_maps
from tests.store.replay import save
from workbench import store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.jupyter import Server

pytestmark = pytest.mark.browser

SETUP = """
import numpy as np
import xarray as xr
import workbench as wb
from workbench.tiny import scenes
from tests import synthetic
ds = synthetic.dataset(signal=2.0, grid=(6, 8))
"""
PLAIN: dict[str, Any] = {"opacity": 1.0, "picture": False}
SCREENSHOTS = ROOT / "build" / "screenshots"
KNOWN = ("reading 'schema'", "filebrowser:open-path")
"""What Notebook 7 logs by itself, in an empty notebook."""


@pytest.fixture(scope="module", autouse=True)
def _made(lab: chromium.Notebook) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    lab.run(SETUP)


@pytest.fixture
def views(lab: chromium.Notebook) -> Iterator[None]:
    """Afterwards no view is left."""
    yield
    lab.run("import ipywidgets\nipywidgets.Widget.close_all()")
    lab.clear()


def _contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two colours (WCAG 2)."""

    def light(colour: list[float]) -> float:
        parts = [part / 255 for part in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = """
(root) => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest("option, [disabled]")) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    found.push([node.textContent.trim().slice(0, 30), numbers(ink), ground(element)]);
  }
  return found;
}
"""


@pytest.mark.usefixtures("views")
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_every_text_can_be_read(lab: chromium.Notebook, theme: str) -> None:
    lab.theme(f"JupyterLab {theme}")
    lab.run("wb.explore(ds, state={'open': ['overview', 'heads', 'patch', 'options'], 'pin': [2, 3]})")
    view = View(lab.page.locator(".wb-view"))
    view.root.locator("[data-cell]").first.wait_for()
    texts = view.root.evaluate(TEXTS)
    assert len(texts) > 40
    faint = {text: round(_contrast(ink, ground), 2) for text, ink, ground in texts if _contrast(ink, ground) < 4.5}
    assert not faint
    lab.theme("JupyterLab Light")


@pytest.mark.slow
def test_themes_may_follow_one_another_at_once(lab: chromium.Notebook) -> None:
    for _ in range(2):
        lab.theme("JupyterLab Dark")
        lab.theme("JupyterLab Light")
    lab.page.wait_for_timeout(400)
    assert lab.notice.errors == []


SCENE = """
scene = scenes.render(2988)
made = synthetic.dataset(
    concepts=scene.words, dual=5, single=3, heads=4, grid=(16, 16), timesteps=range(900, 0, -100), truth=True
)
coarse = np.stack([scene.mask(word)[4::8, 4::8] for word in scene.words])
more = xr.DataArray(coarse, dims=("concept", "y", "x")) * xr.DataArray(range(8), dims="layer")
real = made.assign(
    image=made.image.copy(data=scene.image),
    truth=made.truth.copy(data=np.stack([scene.mask(word) for word in scene.words])),
    output=(made.output + more / 4).transpose(*made.output.dims).astype("float32"),
    output_total=(made.output_total + more).transpose(*made.output_total.dims).astype("float32"),
)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("views")
def test_it_fits_narrow_and_wide_pages_and_is_pictured(lab: chromium.Notebook) -> None:
    lab.run(SCENE)
    lab.run("wb.explore(real, state={'open': ['overview', 'heads', 'patch', 'options'], 'pin': [5, 5]})")
    view = View(lab.page.locator(".wb-view"))
    view.root.locator("[data-head]").first.wait_for()
    for width in (700, 1900, 1400):
        lab.page.set_viewport_size({"width": width, "height": 2200})
        if width == 700:
            lab.page.evaluate("jupyterapp.shell.collapseLeft()")
        lab.page.wait_for_timeout(400)
        view.settle()
        over = view.root.evaluate("root => [root.scrollWidth - root.clientWidth, root.clientWidth]")
        assert over[0] <= 0
        outside = view.root.evaluate(OUTSIDE)
        assert not outside, f"at {width} pixels these reach out of the view: {outside}"
        for theme in ("Light", "Dark") if width == 1400 else ("Light",):
            lab.theme(f"JupyterLab {theme}")
            lab.page.wait_for_timeout(200)
            view.root.screenshot(path=SCREENSHOTS / f"explore-{width}-{theme.lower()}.png")
    lab.theme("JupyterLab Light")
    view.set(open=[], pin=None)
    view.root.screenshot(path=SCREENSHOTS / "explore-folded.png")
    lab.page.set_viewport_size({"width": 1400, "height": 1000})


OUTSIDE = """
(root) => {
  const box = root.getBoundingClientRect();
  return [...root.querySelectorAll("*")]
    .filter((one) => one.checkVisibility() && !one.ownerSVGElement && !one.closest(".wb-scroll, .wb-heads, pre"))
    .filter((one) => one.getBoundingClientRect().right > box.right + 1)
    .map((one) => `${one.tagName}.${one.getAttribute("class")}`);
}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("views")
def test_ten_views_all_answer(lab: chromium.Notebook) -> None:
    ds = synthetic.dataset(signal=2.0, grid=(6, 8))
    for _ in range(10):
        lab.run(f"wb.explore(ds, state={PLAIN})")
    found = lab.page.locator(".wb-view")
    lab.page.wait_for_function("document.querySelectorAll('.wb-view').length === 10")
    for index in range(10):
        view = View(found.nth(index))
        view.control("layers-window").scroll_into_view_if_needed()
        view.press("layers-window", "ArrowRight", 1 + index % 2)
        check_maps(view, ds.wb.heatmap(layers=slice(2 + index % 2, 3 + index % 2)))


@pytest.mark.usefixtures("views")
def test_closing_a_view_frees_what_it_held(lab: chromium.Notebook) -> None:
    lab.run(f"import gc, weakref\nview = wb.explore(ds, state={PLAIN}, )\nview")
    View(lab.page.locator(".wb-view"))
    lab.page.wait_for_selector(".wb-view[data-cube=ready]")
    lab.run("held = [weakref.ref(one) for one in gc.get_objects() if type(one).__name__ == 'Answers']\nassert held")
    lab.run("view.close()\ngc.collect()\nassert not [one() for one in held if one()]")
    lab.page.wait_for_function("document.querySelectorAll('.wb-view').length === 0")


@pytest.mark.slow
@pytest.mark.usefixtures("views")
def test_two_datasets_follow_one_set_of_controls(lab: chromium.Notebook) -> None:
    lab.run(
        "other = synthetic.dataset(seed=1, dual=6, single=3, grid=(6, 8), timesteps=(800.0, 510.0, 260.0), signal=2.0)"
    )
    lab.run(f"wb.compare(ds, other.assign_attrs(model='another'), state={PLAIN | {'limits': [0.0, 1.0]}})")
    lab.page.wait_for_function("document.querySelectorAll('.wb-view').length === 2")
    first, second = (View(lab.page.locator(".wb-view").nth(index)) for index in (0, 1))
    assert not second.control("layers-window").is_visible()
    first.press("layers-window", "ArrowRight", 2)
    first.press("timesteps-high", "ArrowRight")
    arrived = "root => root.workbench.state.layers[0] === 6 && root.workbench.state.timesteps[0] === 510"
    lab.page.wait_for_function(arrived, arg=second.root.element_handle())
    for view in (first, second):
        view.settle()
    assert "6–8" in second.root.locator(".wb-controls").inner_text()
    level = [view.canvas("picture").bounding_box() for view in (first, second)]
    assert level[0]["y"] == level[1]["y"]
    ds = synthetic.dataset(signal=2.0, grid=(6, 8))
    other = synthetic.dataset(seed=1, dual=6, single=3, grid=(6, 8), timesteps=(800.0, 510.0, 260.0), signal=2.0)
    check_maps(first, ds.wb.heatmap(layers=slice(3, 4), timesteps=slice(500, 250)), limits=(0, 1))
    check_maps(second, other.wb.heatmap(layers=slice(6, 8), timesteps=slice(510, 260)), limits=(0, 1))
    second.hover_patch(2, 5)
    places = [view.root.locator(".wb-readout").inner_text().split(":")[0] for view in (first, second)]
    assert places == ["Row 2, column 5"] * 2
    assert not second.root.locator("details[data-section=options]").count()
    second.click_patch(4, 4)
    lab.page.wait_for_function("root => root.workbench.state.pin?.[0] === 4", arg=first.root.element_handle())
    for view in (first, second):
        view.root.locator("details[data-section=patch][open] .wb-bar-row").first.wait_for()
    compared = lab.page.locator(".wb-compare")
    minus = compared.locator("img").last
    for width in (1400, 700):
        lab.page.set_viewport_size({"width": width, "height": 1000})
        if width == 700:
            lab.page.evaluate("jupyterapp.shell.collapseLeft()")
        lab.page.wait_for_timeout(300)
        assert compared.evaluate("grid => getComputedStyle(grid).gridTemplateColumns.split(' ').length") == 2
        around, inner = compared.bounding_box(), minus.bounding_box()
        assert around is not None
        assert inner is not None
        assert inner["x"] + inner["width"] <= around["x"] + around["width"]
        assert inner["y"] >= max(
            view.root.bounding_box()["y"] + view.root.bounding_box()["height"] for view in (first, second)
        )
    boxes = [view.root.bounding_box() for view in (first, second)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    for view in (first, second):
        assert not view.root.evaluate(OUTSIDE)


@pytest.mark.usefixtures("views")
def test_a_stored_run_can_be_picked(lab: chromium.Notebook, server: Server) -> None:
    home = server.folder.parent / "runs"
    for run in store.runs(home):  # other tests leave runs there
        store.discard(run.key, home)
    for index, concepts in enumerate([("dog", "sky"), ("<b>cat</b>", "hill"), ("cat", "lake")]):
        save(synthetic.dataset(concepts=concepts, seed=index, signal=2.0), home, f"run{index}")
    lab.run("choice = wb.explore()\nchoice")
    runs = lab.page.locator(".wb-picker-run")
    lab.page.get_by_text("3 stored runs").wait_for()
    assert runs.count() == 3
    runs.last.scroll_into_view_if_needed()
    assert not lab.page.locator(".wb-picker b").count()
    lab.page.wait_for_function("[...document.querySelectorAll('.wb-picker img')].every((one) => one.naturalWidth > 0)")
    lab.page.locator(".wb-picker").screenshot(path=SCREENSHOTS / "picker.png")
    search = lab.page.locator(".wb-picker-search")
    search.fill("cat")
    lab.page.get_by_text("2 of 3 stored runs").wait_for()
    search.fill("cat lake")
    search.press("ArrowDown")
    lab.page.keyboard.press("Enter")
    view = View(lab.page.locator(".wb-view"))
    view.set(**PLAIN)
    check_maps(view, synthetic.dataset(concepts=("cat", "lake"), seed=2, signal=2.0).wb.heatmap())
    search.fill("dog")
    runs.locator("visible=true").first.click()
    lab.page.locator(".wb-view .wb-name", has_text="dog").first.wait_for()
    assert lab.page.locator(".wb-view").count() == 1
    lab.run("some = wb.explore(wb.runs()[:1])\nsome")
    lab.page.get_by_text("1 stored run", exact=True).wait_for()


@pytest.mark.slow
@pytest.mark.usefixtures("views")
def test_runs_of_experiments_are_folded_below_their_run(lab: chromium.Notebook, server: Server) -> None:
    home = server.folder.parent / "runs"
    for run in store.runs(home):
        store.discard(run.key, home)
    for index, concepts in enumerate([("dog", "sky"), ("cat", "lake")]):
        save(synthetic.dataset(concepts=concepts, seed=index, signal=2.0), home, f"run{index}")
    for index in range(3):
        made = synthetic.dataset(concepts=("cat", "lake"), seed=9 + index, signal=2.0)
        made = made.assign_attrs(parent="run1", role="control", edit=f"SkipBlock({index})<b>", interventions=[{}])
        save(made, home, f"made{index}")
    lab.run("choice = wb.explore()\nchoice")
    picker = lab.page.locator(".wb-picker").last
    picker.get_by_text("2 stored runs", exact=True).wait_for()
    cards, fold = picker.locator(".wb-picker-run"), picker.locator(".wb-picker-fold")
    assert cards.locator("visible=true").count() == 2
    assert fold.text_content() == "3 runs of an experiment"
    assert fold.get_attribute("aria-expanded") == "false"
    search = picker.locator(".wb-picker-search")
    search.fill("cat")
    picker.get_by_text("1 of 2 stored runs").wait_for()
    for key, expanded, shown in (("Enter", "true", 4), ("ArrowLeft", "false", 1), ("ArrowRight", "true", 4)):
        search.focus()
        lab.page.keyboard.press("ArrowDown")
        lab.page.keyboard.press("ArrowDown")
        assert fold.evaluate("fold => fold === document.activeElement")
        lab.page.keyboard.press(key)
        assert fold.get_attribute("aria-expanded") == expanded
        assert cards.locator("visible=true").count() == shown
    assert not picker.locator("b").count()
    search.fill("")
    picker.get_by_text("2 stored runs", exact=True).wait_for()
    fold.click()
    assert cards.locator("visible=true").count() == 2
    search.fill("skipblock(1)<b>")
    picker.get_by_text("1 of 2 stored runs").wait_for()
    card = cards.locator("visible=true").last
    assert "control, edited: SkipBlock(1)<b>" in card.inner_text()
    assert cards.locator("visible=true").count() == 2, "the run that it belongs to, and the one that is looked for"
    card.click()
    heading = lab.page.locator(".wb-view .wb-title").last
    heading.get_by_text("edited: SkipBlock(1)<b>").wait_for()
    assert not lab.page.locator(".wb-view b:has-text('SkipBlock')").count()
    picker.screenshot(path=SCREENSHOTS / "picker-experiment.png")


@pytest.mark.slow
@pytest.mark.usefixtures("views")
def test_a_dead_kernel_leaves_the_view_usable(lab: chromium.Notebook) -> None:
    ds = synthetic.dataset(signal=2.0, grid=(6, 8))
    lab.run(f"wb.explore(ds, state={PLAIN})")
    view = View(lab.page.locator(".wb-view"))
    lab.page.wait_for_selector(".wb-view[data-cube=ready]")
    lab.restart()
    view.press("layers-window", "ArrowRight")
    check_maps(view, ds.wb.heatmap(layers=slice(2, 3)))
    view.unfold("overview")
    view.root.get_by_text("run the cell again").first.wait_for()
    lab.run(SETUP)
    lab.run(f"wb.explore(ds, state={PLAIN})")
    again = View(lab.page.locator(".wb-view").last)
    check_maps(again, ds.wb.heatmap())


@pytest.mark.slow
def test_a_reopened_notebook_says_what_to_do(lab: chromium.Notebook, server: Server) -> None:
    lab.clear()
    lab.run(f"wb.explore(ds, state={PLAIN})")
    View(lab.page.locator(".wb-view"))
    lab.save()
    saved = json.loads((server.folder / "shared.ipynb").read_text())
    assert "widgets" in saved["metadata"]
    copy = server.folder / "reopened.ipynb"
    copy.write_text(json.dumps(saved))
    reopened = chromium.Notebook.open(lab.page.context.new_page(), server, lab.notice, copy)
    view = reopened.page.locator(".wb-view")
    view.get_by_text("Run the cell for the live view").wait_for()
    assert view.locator("canvas:visible, button:visible").count() == 0, "what is dead or empty is not shown"
    reopened.page.locator(".jp-RenderedImage:visible").wait_for()
    view.screenshot(path=SCREENSHOTS / "reopened.png")
    reopened.close()
    reopened.page.close()


@pytest.mark.slow
def test_it_works_in_notebook_7(browser: Browser, server: Server) -> None:
    ds = synthetic.dataset(signal=2.0, grid=(6, 8))
    with chromium.context(browser, viewport={"width": 1400, "height": 1000}) as (context, notice):
        page = context.new_page()
        notebook = chromium.Notebook.open(page, server, notice, server.write("seven"), "notebook")
        notebook.run(SETUP)
        notebook.run(f"wb.explore(ds, state={PLAIN})")
        view = View(page.locator(".wb-view"))
        view.press("layers-window", "ArrowRight")
        view.press("timesteps-low", "ArrowLeft", 2)
        check_maps(view, ds.wb.heatmap(layers=slice(2, 3), timesteps=750))
        page.keyboard.press("a")  # in command mode this would insert a cell
        assert page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length") == 3
        notebook.close()
        assert [error for error in notice.errors if not any(known in error for known in KNOWN)] == []
        assert notice.left == []
