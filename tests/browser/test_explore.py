"""``explore(ds)`` in JupyterLab: every control paints what the arrays say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.browser import chromium
from tests.browser.views import ROUNDING, View, check_maps, coloured
from workbench.numerics.measures import OVERVIEW

pytestmark = pytest.mark.browser

MADE = """synthetic.dataset(
    concepts=("dog", "<b>a long name of grass</b>", "sky"), samples=2, heads=3, grid=(6, 8), truth=True, signal=2.0,
    missing=[(0, 500.0, 4)],
)"""
"""The dataset of the kernel, and of this process."""
PLAIN: dict[str, Any] = {"opacity": 1.0, "picture": False, "open": ["options"]}
"""What shows the maps' colours alone, and every control."""


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return eval(MADE, {"synthetic": synthetic})


@pytest.fixture(scope="module", autouse=True)
def _made(lab: chromium.Notebook) -> None:
    lab.run(f"ds = {MADE}")


@pytest.fixture
def fresh(lab: chromium.Notebook) -> Iterator[View]:
    """A view of the dataset of its own that shows the maps' colours alone; the kernel calls it ``view``."""
    lab.clear()
    lab.page.mouse.move(0, 0)
    lab.run(f"view = wb.explore(ds, state={PLAIN})\nview")
    yield View(lab.page.locator(".wb-view").last)
    lab.run("view.close()")
    lab.clear()


@pytest.fixture
def view(lab: chromium.Notebook) -> View:
    """A view that shows what a fresh one does: one that tests before this one moved is set back."""
    shown = lab.page.locator(".wb-view")
    lab.page.mouse.move(0, 0)
    if not shown.count():
        lab.run(f"wb.explore(ds, state={PLAIN})")
    view = View(shown)
    view.root.evaluate("root => root.workbench.set(root.first ??= structuredClone(root.workbench.state))")
    view.settle()
    return view


MOVES: dict[str, tuple[Callable[[View], None], dict[str, Any]]] = {
    "nothing": (lambda view: None, {}),
    "last layer": (lambda view: view.press("layers-high", "ArrowRight"), {"layers": slice(1, 3)}),
    "last layer to the end": (lambda view: view.press("layers-high", "End"), {"layers": slice(1, 4)}),
    "first layer": (lambda view: view.press("layers-low", "Home"), {"layers": slice(0, 2)}),
    "layers, both ends": (lambda view: view.press("layers-window", "ArrowRight", 2), {"layers": slice(3, 4)}),
    "first timestep": (lambda view: view.press("timesteps-high", "ArrowRight"), {"timesteps": slice(500, 250)}),
    "last timestep": (lambda view: view.press("timesteps-low", "ArrowLeft", 2), {"timesteps": 750}),
    "sample": (lambda view: view.select("sample", "1"), {"samples": 1}),
    "space": (lambda view: view.select("space", "cross"), {"space": "cross"}),
    "softmax last": (lambda view: view.select("reduce", "mean_softmax"), {"reduce": "mean_softmax"}),
    "one head": (lambda view: _choose_heads(view, 1), {"heads": [1]}),
    "two heads": (lambda view: _choose_heads(view, 0, 2), {"heads": [0, 2]}),
}


def _choose_heads(view: View, *heads: int) -> None:
    strip = view.unfold("heads")
    for index, head in enumerate(heads):
        strip.locator(f"[data-head='{head}']").click(modifiers=["Shift"] if index else [])
    view.settle()


@pytest.mark.parametrize("move", MOVES)
def test_the_maps_follow_the_controls(view: View, ds: xr.Dataset, move: str) -> None:
    act, options = MOVES[move]
    act(view)
    check_maps(view, ds.wb.heatmap(**options))


def test_raw_scores_have_a_diverging_scale(view: View, ds: xr.Dataset) -> None:
    view.select("reduce", "mean")
    maps = ds.wb.heatmap(reduce="mean")
    most = float(np.abs(maps).max())
    check_maps(view, maps, "PuOr_r", (-most, most))


@pytest.mark.parametrize("cmap", ["cividis", "magma"])
def test_colour_maps_are_those_of_matplotlib(view: View, ds: xr.Dataset, cmap: str) -> None:
    view.select("cmap", cmap)
    check_maps(view, ds.wb.heatmap(), cmap)


def test_a_locked_scale_stays_when_the_maps_change(view: View, ds: xr.Dataset) -> None:
    maps = ds.wb.heatmap()
    view.click("lock")
    view.press("layers-window", "ArrowRight", 2)
    check_maps(view, ds.wb.heatmap(layers=slice(3, 4)), limits=(float(maps.min()), float(maps.max())))


def test_the_scale_holds_while_playing(view: View) -> None:
    view.click("play-timesteps")
    view.root.page.wait_for_function(
        "root => root.workbench.state.timesteps[0] === 500", arg=view.root.element_handle(), polling=20
    )
    assert view.state["limits"] == [0, 1]
    view.click("play-timesteps")
    assert view.state["limits"] is None


def test_signed_bars_begin_at_a_zero_line(view: View, ds: xr.Dataset) -> None:
    view.click_patch(2, 3)
    bars = view.unfold("patch").locator(".wb-bar-row")
    bars.first.wait_for()
    assert bars.locator(".wb-bar-zero").count() == 0
    view.select("reduce", "mean")
    scores = ds.wb.heatmap(reduce="mean").isel(y=2, x=3).to_numpy()
    assert scores.min() < 0 < scores.max()
    zeros = bars.locator(".wb-bar-zero")
    zeros.first.wait_for()
    for index, score in enumerate(scores):
        bar, zero = (bars.nth(index).locator(f".wb-bar-{part}").bounding_box() for part in ("fill", "zero"))
        assert bar is not None
        assert zero is not None
        begins = bar["x"] if score > 0 else bar["x"] + bar["width"]
        assert begins == pytest.approx(zero["x"], abs=1.5)


def test_concepts_without_a_panel_are_told_and_shown(lab: chromium.Notebook) -> None:
    names = [f"c{index}" for index in range(15)]
    lab.run(f"view = wb.explore(synthetic.dataset(concepts={names}, signal=2.0, grid=(6, 15)))\nview")
    view = View(lab.page.locator(".wb-view").last)
    rest = view.root.locator(".wb-rest")
    rest.get_by_text("12 of 15 shown, those with the largest areas; the others are strongest at").wait_for()
    largest = view.state["concepts"]
    view.set(concepts=list(range(3, 15)))
    rest.get_by_text("12 of 15 shown; the others are strongest at").wait_for()
    view.click("show-largest")
    assert len(view.state["concepts"]) == 12 == len(largest)
    view.click("show-all")
    assert view.state["concepts"] is None
    assert view.root.locator(".wb-panel[data-kind=concept]").count() == 15
    rest.wait_for(state="hidden")
    lab.run("view.close()")


def test_the_areas_are_the_segmentation(view: View, ds: xr.Dataset) -> None:
    swatches = view.root.locator("[data-concept-chip] .wb-swatch")
    legend = swatches.evaluate_all(
        "all => all.map((one) => getComputedStyle(one).backgroundColor.match(/\\d+/g).map(Number))"
    )
    expected = np.array(legend)[ds.wb.segment().to_numpy()] / 255
    np.testing.assert_allclose(view.colours("segmentation"), expected, atol=ROUNDING)


def test_the_difference_of_two_concepts(view: View, ds: xr.Dataset) -> None:
    view.select("difference-a", "2")
    view.select("difference-b", "0")
    maps = ds.wb.heatmap().transpose("concept", "y", "x").to_numpy()
    difference = maps[2] - maps[0]
    most = float(np.abs(difference).max())
    expected = coloured(difference, (-most, most), "PuOr_r")
    np.testing.assert_allclose(view.colours("difference"), expected, atol=ROUNDING)


def test_panels_can_be_hidden(view: View, ds: xr.Dataset) -> None:
    view.root.locator("[data-control='panel-1']").uncheck()
    view.settle()
    panels = view.root.locator(".wb-panel[data-kind=concept]")
    assert panels.evaluate_all("all => all.map((one) => one.dataset.concept)") == ["dog", "sky"]
    maps = ds.wb.heatmap().transpose("concept", "y", "x").to_numpy()[[0, 2]]
    np.testing.assert_allclose(view.colours("concept", 2), coloured(maps)[1], atol=ROUNDING)


def test_smooth_maps_run_between_the_patches(view: View, ds: xr.Dataset) -> None:
    hard = chromium.pixels(view.canvas("concept", 0)).astype(int)
    view.click("smooth")
    soft = chromium.pixels(view.canvas("concept", 0)).astype(int)
    assert np.abs(np.diff(hard, axis=1)).max() > 4 * np.abs(np.diff(soft, axis=1)).max()
    upsampled = ds.wb.heatmap(upsample="bilinear").isel(concept=0).to_numpy()
    maps = ds.wb.heatmap()
    expected = coloured(upsampled, (float(maps.min()), float(maps.max())))
    rows, columns = (np.linspace(0.1, 0.9, 9) * size for size in upsampled.shape)
    there = soft[
        np.ix_(
            (rows / len(upsampled) * len(soft)).astype(int), (columns / upsampled.shape[1] * soft.shape[1]).astype(int)
        )
    ]
    found = expected[np.ix_(rows.astype(int), columns.astype(int))]
    assert np.abs(there[..., :3] / 255 - found).mean() < 0.03


def test_opacity_blends_maps_with_the_picture(view: View) -> None:
    alone = view.colours("concept", 0)
    view.click("picture")
    np.testing.assert_allclose(view.colours("concept", 0), alone, atol=ROUNDING)
    view.press("opacity", "Home")
    ground = view.colours("concept", 0)
    assert np.ptp(ground, axis=-1).max() < ROUNDING, "the picture under a map is grey"
    assert np.ptp(ground) > 0.1
    view.set(opacity=0.5)
    np.testing.assert_allclose(view.colours("concept", 0), (alone + ground) / 2, atol=ROUNDING)


def test_the_picture_is_the_picture(view: View, ds: xr.Dataset) -> None:
    shown = chromium.pixels(view.canvas("picture"))
    size = ds.sizes["pixel_y"], ds.sizes["pixel_x"]
    at = [((np.arange(n) + 0.5) * have / n).astype(int) for n, have in zip(size, shown.shape, strict=False)]
    np.testing.assert_allclose(shown[np.ix_(*at)][..., :3], ds.image.to_numpy(), atol=40)
    assert np.abs(shown[np.ix_(*at)][..., :3] - ds.image.to_numpy().astype(int)).mean() < 4


def test_the_overview_shows_its_statistic_and_selects(view: View, ds: xr.Dataset) -> None:
    overview = view.unfold("overview")
    view.select("statistic", "entropy")
    cells = overview.locator("[data-cell]")
    maps = ds.wb.heatmap(keep=["timestep", "layer"], layers=slice(None, None)).transpose(
        "timestep", "layer", "concept", "y", "x"
    )
    entropy = OVERVIEW["entropy"]
    expected = np.stack([entropy.value(*entropy(row)) for row in maps.to_numpy()])
    overview.get_by_text("0 decided, 1 undecided").last.wait_for()
    overview.locator("[data-cell='0,0']").wait_for()
    shown = cells.evaluate_all(
        "all => all.map((one) => [...one.dataset.cell.split(','), one.dataset.value].map(Number))"
    )
    for timestep, layer, value in shown:
        assert value == pytest.approx(expected[int(timestep), int(layer)], abs=1e-5)
    overview.locator("[data-cell='2,3']").click()
    view.settle()
    check_maps(view, ds.wb.heatmap(timesteps=250, layers=3))
    overview.locator("[data-cell='0,1']").hover()
    view.root.page.mouse.down()
    overview.locator("[data-cell='1,4']").hover()
    view.root.page.mouse.up()
    view.settle()
    check_maps(view, ds.wb.heatmap(timesteps=slice(750, 500), layers=slice(1, 4)))
    assert view.control("layers-high").get_attribute("aria-valuetext") == "4"


def test_a_section_stays_open_when_something_changes_at_once(fresh: View) -> None:
    """The browser tells of what unfolded a moment later; a change in between must not fold it again."""
    view = fresh
    overview = view.root.locator("details[data-section=overview]")
    overview.evaluate(
        """details => {
            details.querySelector('summary').click()
            const select = details.querySelector('[data-control=statistic]')
            select.value = 'entropy'
            select.dispatchEvent(new Event('change'))
        }"""
    )
    view.settle()
    overview.locator("[data-cell='0,0']").wait_for()
    assert overview.evaluate("details => details.open")
    overview.locator("summary").first.click()
    overview.locator("[data-cell='0,0']").wait_for(state="hidden")


def test_pointing_reads_values_and_keeps_them_true(view: View, ds: xr.Dataset) -> None:
    view.hover_patch(3, 5)
    _check_readout(view, ds.wb.heatmap().isel(y=3, x=5))
    view.set(layers=[4, 4])
    _check_readout(view, ds.wb.heatmap(layers=4).isel(y=3, x=5))


def test_pointing_moves_no_map(view: View) -> None:
    def place() -> list[float]:
        """Where the map is in its view; JupyterLab may scroll the view itself at any time."""
        found: list[float] = view.canvas("concept", 1).evaluate(
            """canvas => {
                const [box, root] = [canvas, canvas.closest('.wb-view')].map(one => one.getBoundingClientRect())
                return [box.x - root.x, box.y - root.y, box.width, box.height]
            }"""
        )
        return found

    before = place()
    view.hover_patch(2, 3, index=1)
    view.root.locator(".wb-readout", has_text="Row 2").wait_for()
    assert place() == pytest.approx(before, abs=0.01)


def test_the_figure_in_the_head_moves_no_map(view: View) -> None:
    """It comes after the first maps, and goes where there is none."""
    view.root.locator(".wb-glance b").wait_for()
    with_it, without = view.root.evaluate(
        """root => [false, true].map((hidden) => {
            const glance = root.querySelector(".wb-glance");
            const before = glance.hidden;
            glance.hidden = hidden;
            const height = root.querySelector(".wb-head").getBoundingClientRect().height;
            glance.hidden = before;
            return height;
        })"""
    )
    assert with_it == without


def _check_readout(view: View, values: xr.DataArray) -> None:
    text = view.root.locator(".wb-readout").inner_text()
    assert text.startswith("Row 3, column 5: ")
    shown = dict(part.rsplit(" ", 1) for part in text.split(": ", 1)[1].split(" · "))
    assert list(shown) == values.sortby(values, ascending=False).concept.to_numpy().tolist()
    for name, value in shown.items():
        assert float(value) == pytest.approx(float(values.sel(concept=name)), abs=1e-3)


def test_a_pinned_patch_runs_over_layers_and_timesteps(fresh: View, ds: xr.Dataset) -> None:
    view = fresh
    view.click_patch(1, 6, "segmentation", None)
    assert view.state["pin"] == [1, 6]
    inspector = view.root.locator("details[data-section=patch]")
    assert inspector.evaluate("details => details.open")
    inspector.locator("svg").first.wait_for()
    assert inspector.locator("svg").count() >= 2
    view.click_patch(1, 6, "segmentation", None)
    assert view.state["pin"] is None


def test_the_number_at_a_glance_is_the_score(view: View, ds: xr.Dataset) -> None:
    view.press("layers-low", "Home")
    expected = float(ds.wb.score(layers=slice(0, 2)).mean_iou)
    view.root.page.wait_for_timeout(300)
    assert float(view.root.locator(".wb-glance").get_attribute("data-value") or "nan") == pytest.approx(
        expected, abs=1e-3
    )


def test_keys_move_play_and_pick(fresh: View, ds: xr.Dataset) -> None:
    view = fresh
    keyboard = view.root.page.keyboard
    view.set(layers=[1, 1], timesteps=[750.0, 750.0], open=[])
    view.root.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowRight"):
        keyboard.press(key)
    view.settle()
    assert (view.state["layers"], view.state["timesteps"]) == ([3, 3], [500.0, 500.0])
    check_maps(view, ds.wb.heatmap(layers=3, timesteps=500))
    keyboard.press("3")
    view.settle()
    assert view.state["focus"] == 2
    for key, section in {"o": "overview", "h": "heads", "i": "patch", "m": "options"}.items():
        keyboard.press(key)
        assert section in view.state["open"]
    keyboard.press("?")
    view.root.locator(".wb-keys").wait_for()
    keyboard.press("Escape")
    assert not view.root.locator(".wb-keys").is_visible()
    keyboard.press("Shift+ArrowRight")
    keyboard.press("Enter")
    view.settle()
    assert view.state["pin"] is not None
    cells = view.root.page.evaluate("jupyterapp.shell.currentWidget.content.model.sharedModel.cells.length")
    assert view.root.page.evaluate("jupyterapp.shell.currentWidget.content.mode") is not None
    assert cells == view.root.page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length")


def test_nothing_is_reached_twice_and_what_takes_the_focus_is_no_picture(view: View) -> None:
    view.set(open=["overview", "heads", "patch", "options"], pin=[1, 1])
    stops = view.root.evaluate(
        "root => [...root.querySelectorAll('button, select, input, summary, [tabindex]')]"
        ".filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility())"
        ".map((one) => [one.title || one.getAttribute('aria-label') || one.dataset.control || one.innerText, one.role])"
    )
    names = [name for name, _ in stops]
    assert len(names) > 30
    assert sorted(names) == sorted(set(names))
    assert "img" not in {role for _, role in stops}
    view.root.locator(".wb-curves").nth(1).wait_for()
    assert view.root.locator(".wb-curves g:has(.wb-edge)").count() == 2 * 3


def test_a_tour_says_what_each_part_shows(view: View) -> None:
    view.set(open=[], pin=None)
    view.control("help").click()
    view.control("tour").click()
    said, parts = [], []
    for _ in range(20):
        parts.append(view.root.locator(".wb-toured").first.get_attribute("class"))
        said.append(view.root.locator(".wb-tour-text").inner_text())
        if view.control("tour-next").inner_text() == "Done":
            break
        view.root.page.keyboard.press("Enter")
    assert [text.split(":")[0] for text in said] == [f"{at} of {len(said)}" for at in range(1, len(said) + 1)]
    assert len(set(parts)) > 3
    assert any("its share of every patch, among all 3 concepts" in text for text in said)
    view.root.page.keyboard.press("Escape")
    assert not view.root.locator(".wb-tour, .wb-toured").first.is_visible()


@pytest.mark.slow
def test_space_plays_over_timesteps(fresh: View) -> None:
    view = fresh
    view.set(timesteps=[750.0, 750.0])
    view.root.focus()
    view.root.page.keyboard.press(" ")
    reached = "([root, timestep]) => root.workbench.state.timesteps[0] === timestep"
    for timestep in (500.0, 250.0, 750.0):
        view.root.page.wait_for_function(reached, arg=[view.root.element_handle(), timestep], timeout=20_000)
    view.root.page.keyboard.press(" ")
    stopped = view.state["timesteps"]
    view.root.page.wait_for_timeout(900)
    assert view.state["timesteps"] == stopped


def test_copied_code_gives_the_numbers_on_screen(fresh: View, lab: chromium.Notebook) -> None:
    view = fresh
    view.set(
        layers=[1, 3],
        timesteps=[500.0, 250.0],
        heads=[0, 2],
        sample=1,
        space="cross",
        concepts=[0, 2],
        difference=[2, 1],
        open=["overview", "heads", "patch"],
        pin=[2, 3],
        statistic="separability",
        head_layer=4,
    )
    view.root.locator("[data-cell]").first.wait_for()
    view.root.locator("[data-head]").first.wait_for()
    view.click("code")
    code = lab.page.evaluate("navigator.clipboard.readText()")
    assert code == view.root.locator("pre.wb-code").inner_text()
    names = ("maps", "areas", "difference", "patch", "overview", "mean_iou")
    said = json.loads(lab.run(f"{code}\nprint(json.dumps([one.values.tolist() for one in ({', '.join(names)})]))"))
    maps, areas, difference, patch, overview, glance = (np.array(values) for values in said)
    shown = view.root.evaluate(
        "root => [root.workbench.maps.shape, [...root.workbench.maps.values], [...root.workbench.labels]]"
    )
    on_screen = np.array(shown[1]).reshape(shown[0])
    np.testing.assert_allclose(maps, on_screen[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(difference, on_screen[2] - on_screen[1], atol=1e-6)
    np.testing.assert_array_equal(areas.ravel(), shown[2])
    assert glance == pytest.approx(float(view.root.locator(".wb-glance").get_attribute("data-value") or "nan"))
    bars = [float(bar.get_attribute("data-value") or "nan") for bar in view.root.locator(".wb-bar-row").all()]
    np.testing.assert_allclose(patch, bars, atol=1e-6)
    for cell in view.root.locator(".wb-matrix [data-cell]").all()[::4]:
        timestep, layer = map(int, (cell.get_attribute("data-cell") or "").split(","))
        assert float(cell.get_attribute("data-value") or "nan") == pytest.approx(overview[timestep, layer], rel=1e-6)
    strip = json.loads(lab.run("print(json.dumps([one.values.tolist() for one in heads.values()]))"))
    low, high = np.min(strip), np.max(strip)
    assert f"each head of layer 4 alone, {low:.3f} to {high:.3f}" in view.unfold("heads").inner_text()
    view.set(layers=[0, 1])
    assert view.state["head_layer"] is None


def test_the_saved_state_restores_the_view(fresh: View, lab: chromium.Notebook, ds: xr.Dataset) -> None:
    view = fresh
    view.press("layers-window", "ArrowRight")
    view.select("cmap", "magma")
    view.click("save")
    with lab.page.expect_download() as saved:
        view.control("save-state").click()
    state = json.loads(saved.value.path().read_text())
    lab.run(f"again = wb.explore(ds, state=json.loads({json.dumps(state)!r}))\nagain")
    restored = View(lab.page.locator(".wb-view").last)
    check_maps(restored, ds.wb.heatmap(layers=slice(2, 3)), "magma")
    assert state["run"]["model"] == "made-up"
    assert restored.state == view.state
    lab.run("again.close()")


def test_a_saved_picture_is_a_picture_of_the_view(fresh: View, lab: chromium.Notebook) -> None:
    view = fresh
    from PIL import Image

    view.click("save")
    with lab.page.expect_download() as saved:
        view.control("save-png").click()
    picture = Image.open(saved.value.path())
    assert picture.format == "PNG"
    assert min(picture.size) > 300
    assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_a_page_can_be_saved_from_the_view(fresh: View, lab: chromium.Notebook, tmp_path: Path) -> None:
    view = fresh
    view.click("save")
    with lab.page.expect_download() as saved:
        view.control("save-page").click()
    assert saved.value.suggested_filename.endswith(".html")
    assert 'id="saved"' in saved.value.path().read_text("utf-8")


def test_two_displays_of_one_view_show_the_same(fresh: View, lab: chromium.Notebook, ds: xr.Dataset) -> None:
    view = fresh
    lab.run("view")
    second = View(lab.page.locator(".wb-view").last)
    assert lab.page.locator(".wb-view").count() == 2
    view.press("layers-window", "ArrowRight")
    second.settle()
    check_maps(second, ds.wb.heatmap(layers=slice(2, 3)))


def test_the_kernel_reads_and_sets_the_state(fresh: View, lab: chromium.Notebook, ds: xr.Dataset) -> None:
    view = fresh
    view.press("layers-high", "ArrowRight")
    lab.page.wait_for_timeout(400)
    assert lab.run("print(view.state['layers'])").strip() == "[1, 3]"
    lab.run("view.state = {**view.state, 'layers': [0, 0]}")
    lab.page.wait_for_function("root => root.workbench.state.layers[1] === 0", arg=view.root.element_handle())
    view.settle()
    check_maps(view, ds.wb.heatmap(layers=0))


def test_text_of_the_dataset_is_never_markup(fresh: View) -> None:
    view = fresh
    for section in ("overview", "heads", "patch"):
        view.unfold(section)
    view.click_patch(0, 0)
    assert "<b>a long name of grass</b>" in view.root.inner_text()
    assert not view.root.locator("b", has_text="grass").count()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("wb.explore(42)", "explore takes the dataset"),
        ("wb.explore(ds.output)", "This is one variable"),
        ("wb.explore(ds[['image']])", "holds no scores"),
        ("wb.explore(ds.drop_vars('image'))", "no picture"),
        ("wb.explore(ds.isel(concept=[0]))", "capture a second concept"),
        ("wb.explore(ds.where(ds.layer != 1))", "there are no scores of"),
        ("wb.explore(ds, state={'layers': [77, 77]})", "The state does not fit"),
    ],
)
def test_what_cannot_be_shown_gives_a_sentence(lab: chromium.Notebook, code: str, sentence: str) -> None:
    lab.run(f"view = {code}\nview")
    lab.page.locator(".wb-view").get_by_text(sentence).first.wait_for()
    lab.run("view.close()")
    lab.clear()


def test_one_layer_and_one_timestep_are_shown(lab: chromium.Notebook, ds: xr.Dataset) -> None:
    lab.clear()
    lab.run(f"view = wb.explore(ds.isel(layer=[1], timestep=[0]), state={PLAIN})\nview")
    check_maps(View(lab.page.locator(".wb-view")), ds.isel(layer=[1], timestep=[0]).wb.heatmap())
    lab.run("view.close()")


def test_maps_of_scores_that_span_thousands(lab: chromium.Notebook, ds: xr.Dataset) -> None:
    """Sums over the heads of a large model: steps of sixteen bits would be coarser than their differences."""
    code = (
        "ds.drop_vars('output').assign(output_total=ds.output_total + np.float32(9000) * (ds.x > 20))"
        ".isel(layer=[1], timestep=[0])"
    )
    lab.clear()
    lab.run(f"import numpy as np\nview = wb.explore({code}, state={PLAIN})\nview")
    view = View(lab.page.locator(".wb-view"))
    view.settle()
    held = "root => root.dataset.cube === 'ready'"
    lab.page.wait_for_function(held, arg=view.root.element_handle(), polling="raf", timeout=60_000)
    view.select("reduce", "mean_softmax")  # the first maps came from the kernel
    shown = view.root.evaluate("root => Array.from(root.workbench.maps.values)")
    maps = eval(code, {"ds": ds, "np": np}).wb.heatmap(reduce="mean_softmax").transpose("concept", "y", "x").to_numpy()
    np.testing.assert_allclose(np.reshape(shown, maps.shape), maps, atol=0.002)
    lab.run("view.close()")
