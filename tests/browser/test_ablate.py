"""``ablate(ds)`` in JupyterLab: runs, curves, maps side by side, errors."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.browser import chromium
from tests.browser.jupyter import ROOT
from tests.browser.views import ROUNDING, coloured
from workbench.analysis.origin import stem_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

MADE = """synthetic.dataset(
    concepts=("dog", "<b>grass</b>", "sky"), samples=5, heads=3, grid=(6, 8), truth=True, signal=2.0
)"""
"""The dataset of the kernel, and of this process."""
SCREENSHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return eval(MADE, {"synthetic": synthetic})


@pytest.fixture(scope="module", autouse=True)
def _made(lab: chromium.Notebook) -> None:
    lab.page.set_viewport_size({"width": 1200, "height": 1500})
    lab.run(f"ds = {MADE}")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def panel(lab: chromium.Notebook) -> Iterator[Locator]:
    lab.run("panel = wb.ablate(ds)\npanel")
    root = lab.page.locator(".wb-ablation[data-ready=true]").last
    root.wait_for()
    yield root
    lab.run("panel.close()")
    lab.clear()


def _mode(panel: Locator, mode: str = "sweep") -> Locator:
    return panel.locator(f".wb-mode[data-mode={mode}]")


def _interventions(lab: chromium.Notebook) -> tuple[Locator, Locator]:
    """The newest panel with its interventions in front."""
    panel = lab.page.locator(".wb-ablation[data-ready=true]").last
    panel.locator("[data-tab=intervention]").click()
    return panel, _mode(panel, "intervention")


def _run(view: Locator, number: int) -> None:
    view.locator("[data-control=run]").click()
    view.locator(f".wb-result[data-result='{number}']").wait_for()


def _download(view: Locator, what: str) -> tuple[str, Path]:
    """Name and place of an exported file."""
    with view.page.expect_download() as download:
        view.locator(f"[data-control=export-{what}]").click()
    return download.value.suggested_filename, Path(download.value.path())


def _check_nothing_is_clipped(view: Locator) -> None:
    """Every text of the figure lies inside it."""
    outside = view.locator(".wb-plot").evaluate(
        "(svg) => { const f = svg.getBoundingClientRect(); return [...svg.querySelectorAll('text')].filter((text) => {"
        " const b = text.getBoundingClientRect();"
        " return b.left < f.left - 1 || b.right > f.right + 1 || b.top < f.top - 1 || b.bottom > f.bottom + 1;"
        " }).map((text) => text.textContent); }"
    )
    assert outside == []


def _maps(view: Locator, number: int, at: str) -> dict[str, Any]:
    view.page.wait_for_function(
        "([element, key]) => element.dataset.maps === key", arg=[view.element_handle(), f"{number}:{at}"]
    )
    return dict(
        view.evaluate(
            "(element) => { const {views} = element.closest('.wb-ablation').workbench;"
            " const {values} = views[element.dataset.mode].pair;"
            " return {maps: values.maps.map((one) => [...one]), titles: values.titles, limits: values.limits}; }"
        )
    )


def test_a_sweep_is_drawn_and_its_points_show_their_maps(
    panel: Locator, ds: xr.Dataset, lab: chromium.Notebook
) -> None:
    view = _mode(panel)
    _run(view, 1)
    found = ds.wb.sweep("layer", metric="iou")
    points = view.locator(".wb-symbol[data-line='0']")
    expected = found.mean_iou.to_numpy()
    values = [float(value) for value in points.evaluate_all("all => all.map((one) => one.dataset.value)")]
    np.testing.assert_allclose(values, expected)
    boxes = points.evaluate_all("all => all.map((one) => one.getBoundingClientRect()).map((b) => b.y + b.height / 2)")
    # Higher up means larger, in proportion.
    np.testing.assert_allclose(np.polyval(np.polyfit(expected, boxes, 1), expected), boxes, atol=0.7)
    assert np.polyfit(expected, boxes, 1)[0] < 0
    assert view.locator(".wb-band").count() == 2, "the band, and its sample in the legend"
    _check_nothing_is_clipped(view)

    points.nth(3).click(force=True)
    shown = _maps(view, 1, "3")
    assert shown["titles"] == ["all together", "layer 3 alone"]
    for side, maps in enumerate((ds.wb.heatmap(layers=slice(0, 4)), ds.wb.heatmap(layers=3))):
        wanted = maps.transpose("concept", "y", "x").to_numpy()
        np.testing.assert_allclose(np.reshape(shown["maps"][side], wanted.shape), wanted, atol=1e-5)
        pixels = chromium.pixels(view.locator(f"canvas[data-side='{side}'][data-index='2']"))
        high, wide = pixels.shape[:2]
        rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in ((6, high), (8, wide)))
        np.testing.assert_allclose(
            pixels[np.ix_(rows, columns)][..., :3] / 255,
            coloured(wanted[2], tuple(shown["limits"])),
            atol=ROUNDING,
        )
    assert "<b>grass</b>" in panel.inner_text()
    assert not panel.locator("b", has_text="grass").count()
    panel.screenshot(path=SCREENSHOTS / "ablate-sweep.png")
    panel.page.keyboard.press("ArrowRight")
    _maps(view, 1, "4")

    view.locator("[data-control=code]").click()
    code = view.locator(".wb-code").inner_text()
    again = json.loads(lab.run(f"{code}\nprint(json.dumps(found.mean_iou.values.tolist()))"))
    np.testing.assert_array_equal(again, expected)
    name, path = _download(view, "dataset")
    assert name == f"{stem_of(ds)}-sweep-1.nc"
    with xr.open_dataset(path, engine="scipy") as kept:
        np.testing.assert_array_equal(kept.mean_iou, expected)
    for what, named in (("csv", f"{stem_of(ds)}-sweep-1.csv"), ("table", f"{stem_of(ds)}-sweeps.csv")):
        name, path = _download(view, what)
        rows = [
            row for row in csv.DictReader(path.read_text().splitlines()) if row["concept"] == "mean of the concepts"
        ]
        assert (name, [float(row["value"]) for row in rows]) == (named, expected.tolist())
    name, path = _download(view, "figure")
    assert (name, path.read_bytes()[:4]) == (f"{stem_of(ds)}-sweep-1.pdf", b"%PDF")


def test_a_sweep_tells_what_is_left_and_is_stopped_inside(panel: Locator, lab: chromium.Notebook) -> None:
    lab.run(
        "import time\nfrom workbench.analysis.sweep_variants import Scores\nquick = Scores.softmaxed\n"
        "Scores.softmaxed = lambda self, scores: (time.sleep(0.05), quick(self, scores))[1]"
    )
    view = _mode(panel)
    view.locator("[data-control=run]").click()
    view.locator("[role=status]").get_by_text(re.compile(r"\d+ %, about .* left")).wait_for()
    view.locator("[data-control=stop]").click()
    view.locator("[role=status]").get_by_text("Stopped.").wait_for()
    assert not view.locator(".wb-result").is_visible()
    lab.run("Scores.softmaxed = quick")
    _run(view, 1)


def test_warnings_of_a_run_are_shown_beside_its_result(lab: chromium.Notebook) -> None:
    lab.run("panel = wb.ablate(ds.assign_attrs(default_layers=[77]))\npanel")
    panel = lab.page.locator(".wb-ablation[data-ready=true]").last
    view = _mode(panel)
    view.locator("[data-control=over]").select_option("timestep")
    _run(view, 1)
    view.locator(".wb-notes").get_by_text("None of the model's default layers (77) was captured").wait_for()
    view.locator("[data-control=over]").select_option("layer")
    _run(view, 2)
    assert not view.locator(".wb-notes").is_visible()
    lab.run("panel.close()")
    lab.clear()


@pytest.mark.slow
def test_two_way_sweeps_truth_by_hand_and_errors(panel: Locator, ds: xr.Dataset, lab: chromium.Notebook) -> None:
    view = _mode(panel)
    view.locator("[data-control=over]").select_option("layer × head")
    _run(view, 1)
    cells = view.locator("[data-cell]")
    values = cells.evaluate_all("all => all.map((one) => Number(one.dataset.value))")
    np.testing.assert_allclose(values, ds.wb.sweep(("layer", "head")).mean_iou.to_numpy().ravel())
    _check_nothing_is_clipped(view)
    tops = [view.locator(f"[data-cell='{layer},0']").bounding_box()["y"] for layer in (0, 1, 2)]
    assert tops[0] > tops[1] > tops[2], "upwards is deeper"
    view.locator("[data-cell='1,1']").click()
    _maps(view, 1, "1,1")
    panel.page.keyboard.press("ArrowUp")
    _maps(view, 1, "2,1")
    view.locator("[data-cell='2,1']").click()
    shown = _maps(view, 1, "2,1")
    one = ds.wb.heatmap(layers=2, heads=1).transpose("concept", "y", "x").to_numpy()
    np.testing.assert_allclose(np.reshape(shown["maps"][1], one.shape), one, atol=1e-5)
    lab.theme("JupyterLab Dark")
    panel.screenshot(path=SCREENSHOTS / "ablate-matrix-dark.png")
    lab.theme("JupyterLab Light")

    view.locator("[data-control=truth]").select_option("drawn")
    view.locator("[data-control=run]").click()
    view.locator(".wb-error").get_by_text("No truth is drawn yet").wait_for()
    box = view.locator("[data-control=draw]").bounding_box()
    assert box is not None
    for row, column in ((1, 2), (1, 3)):
        place: Any = {"x": (column + 0.5) * box["width"] / 8, "y": (row + 0.5) * box["height"] / 6}
        view.locator("[data-control=draw]").click(position=place)
    view.locator("[data-control=metric]").select_option("ap")
    view.locator("[data-control=over]").select_option("timestep")
    _run(view, 2)
    masks = {name: np.zeros((6, 8), bool) for name in ds.concept.to_numpy()}
    masks["dog"][1, 2:4] = True
    found = ds.wb.sweep("timestep", metric="ap", truth=masks, resize=True)
    drawn = view.locator(".wb-symbol[data-point]").evaluate_all("all => all.map((one) => Number(one.dataset.value))")
    np.testing.assert_allclose(drawn, found.ap.sel(concept="dog"))
    assert not view.locator(".wb-error").is_visible()
    panel.screenshot(path=SCREENSHOTS / "ablate-drawn.png")
    brushed = """(root) => {
      const { drawing } = root.workbench.views.sweep.form;
      const counts = [];
      drawing.brush.set([[3, "3 × 3 patches"]]);
      for (const [patch, wanted] of [[[0, 0], true], [[4, 5], true], [[4, 5], false]]) {
        drawing.put(patch, wanted);
        counts.push(drawing.drawn[drawing.name].length);
      }
      return counts;
    }"""
    assert panel.evaluate(brushed) == [2 + 4, 6 + 9, 6]


@pytest.mark.slow
def test_interventions_are_stopped_go_on_and_are_compared_with_controls(lab: chromium.Notebook) -> None:
    lab.run(
        "from workbench.tiny.scenes import SPLITS, render\n"
        'scene = render(SPLITS["gallery"][8])\n'
        "real = wb.capture(scene.image, scene.words, truth=scene.truth, progress=False)\n"
        "panel = wb.ablate(real)\npanel"
    )
    panel, view = _interventions(lab)
    view.locator("[data-control=repeats]").fill("3")
    view.locator("[data-control=repeats]").press("Tab")
    view.locator("[data-control=truth]").select_option("own")
    view.get_by_text("at most 21 runs").wait_for()
    view.locator("[data-control=run]").click()
    lab.page.wait_for_function("() => document.querySelector('[data-mode=intervention] progress').value >= 2")
    assert int(lab.run("print(6 * 7)")) == 42, "the kernel answers meanwhile"
    view.locator("[data-control=stop]").click()
    view.get_by_text("Run goes on from there").wait_for()
    assert not view.locator(".wb-result").is_visible()
    _run(view, 1)
    found = json.loads(
        lab.run(
            "found = panel.results['intervention'][0]\n"
            "print(json.dumps([found.mean_map_distance.values.tolist(), "
            "found.mean_map_distance_control.max('repeat').values.tolist()]))"
        )
    )
    values = view.locator(".wb-symbol[data-line='0']").evaluate_all("all => all.map((one) => +one.dataset.value)")
    np.testing.assert_allclose(values, found[0][:4])
    assert np.isnan(found[0][4]), "nothing is read behind the last block"
    view.locator("[data-control=plot]").press("ArrowRight")
    for _ in range(4):
        view.locator("[data-control=plot]").press("ArrowRight")
    view.get_by_text("Layer 4: no value, SkipBlock(4) leaves out layer 4, and the read-out is layer 4").wait_for()
    view.get_by_text("read in layer 4", exact=True).wait_for()
    assert view.locator(".wb-control-band").count() == 2, "the band of the controls, and its sample in the legend"
    view.locator(".wb-symbol[data-line='0'][data-point='1']").click(force=True)
    shown = _maps(view, 1, "1")
    assert shown["titles"] == ["without an edit", "SkipBlock(1)"]
    assert np.abs(np.subtract(*shown["maps"])).mean() == pytest.approx(found[0][1], rel=1e-3)
    panel.screenshot(path=SCREENSHOTS / "ablate-intervention.png")
    view.locator("[data-control=measure]").select_option("map_distance_by_layer")
    view.locator("[data-cell='1,3']").click()
    shown = _maps(view, 1, "1,3")
    assert shown["titles"] == ["without an edit, read in layer 3", "SkipBlock(1), read in layer 3"]
    assert view.locator(".wb-nothing").count() == 15, "blocks left out, and layers before them"
    panel.screenshot(path=SCREENSHOTS / "ablate-by-layer.png")

    view.locator("[data-control=edit]").select_option("ScaleHeads")
    view.locator("[data-control=over]").select_option("layer × head")
    view.locator("[data-control=layers-last]").select_option("1")
    view.locator("[data-control=repeats]").fill("1")
    view.locator("[data-control=repeats]").press("Tab")
    _run(view, 2)
    view.locator("[data-cell='1,1']").click()
    _maps(view, 2, "1,1")
    lab.theme("JupyterLab Dark")
    panel.screenshot(path=SCREENSHOTS / "ablate-intervention-dark.png")
    lab.theme("JupyterLab Light")
    view.locator("[data-control=measure]").select_option("iou_shift")
    view.get_by_text("shift of the IoU with the truth, mean of the concepts").wait_for()
    assert _download(view, "figure")[0].endswith("-intervention-2.pdf")

    view.locator("[data-control=edit]").select_option("Patch")
    view.locator("[data-control=run]").click()
    view.locator(".wb-error").get_by_text("give the prompt, the seed or the picture").wait_for()
    view.locator("[data-control=over]").select_option("layer")
    view.locator("[data-control=seed]").fill("7")
    view.locator("[data-control=heads]").fill("0-1")
    view.locator("[data-control=control]").select_option("none")
    _run(view, 3)
    plan = json.loads(lab.run("print(panel.results['intervention'][2].attrs['plan'])"))
    assert plan == [[{"edit": "Patch", "layers": [at], "heads": [0, 1], "source": {"seed": 7}}] for at in (0, 1)]
    panel.screenshot(path=SCREENSHOTS / "ablate-patch.png")
    lab.run("panel.close()")
    lab.clear()


@pytest.mark.slow
def test_the_picture_of_a_prompt_is_shown_without_and_with_the_edit(lab: chromium.Notebook) -> None:
    lab.run(
        'made = wb.generate("a red heart on grass", ["heart", "grass"], steps=2, progress=False)\n'
        "panel = wb.ablate(made)\npanel"
    )
    panel, view = _interventions(lab)
    view.locator("[data-control=edit]").select_option("MaskText")
    view.locator("[data-control=over]").select_option("token")
    assert view.locator("[data-control=tokens]").get_attribute("placeholder") == "all: a, red, heart, on, grass"
    view.locator("[data-control=tokens]").fill("heart, grass")
    view.locator("[data-control=layers-last]").select_option("2")
    view.locator("[data-control=repeats]").fill("1")
    view.locator("[data-control=repeats]").press("Tab")
    view.get_by_text("2 interventions: at most 5 runs").wait_for()
    _run(view, 1)
    view.locator("[data-control=measure]").select_option("psnr")
    view.locator(".wb-axis", has_text="PSNR of the pictures").wait_for()
    _check_nothing_is_clipped(view)
    assert view.locator(".wb-symbol[data-line='0']").count() == 2
    view.locator(".wb-symbol[data-line='0'][data-point='0']").click(force=True)
    shown = _maps(view, 1, "0")
    assert shown["titles"] == ["without an edit", "MaskText(layers=0–2, tokens='heart')"]
    before, after = (chromium.pixels(view.locator(f"canvas[data-side='{i}'][data-kind=picture]")) for i in (0, 1))
    assert not np.array_equal(before, after)
    panel.screenshot(path=SCREENSHOTS / "ablate-picture.png")
    lab.run("panel.close()")
    lab.clear()
