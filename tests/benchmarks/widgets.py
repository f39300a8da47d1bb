"""Measures ``explore()`` and ``start()`` in JupyterLab in Chromium: ``make bench-widgets``.

The times run from a key press on a slider to the first rendered frame in which every concept's map has changed. The
view with the kernel in the loop, the view that holds the scores in the browser, and six plotly heat maps take turns in
one notebook. The dataset is made up, larger than 600 MB, stored, and in the disk cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from tests import synthetic
from tests.browser import chromium, jupyter
from workbench import schema, store
from workbench.store import residuals

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

PROBE: Final = (Path(__file__).parent / "probe.js").read_text()
SPACES: Final = ("output", "cross", "value")
PAUSE: Final = 150
"""Milliseconds between moves, so that each is alone."""
FOCUS: Final = "[role=slider][data-control=layers-window]"
PAINTED: Final = ".wb-view[data-painted]:not([data-painted='']) .wb-panel[data-kind=concept] canvas"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, and what it must not exceed."""

    name: str
    value: float
    target: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target


def store_run(home: Path) -> str:
    """Write a run of more than 600 MB and give back its path."""
    small = synthetic.dataset(
        concepts=("sun", "house", "tree", "grass", "sky", "cloud"),
        timesteps=range(900, 0, -100),
        dual=19,
        single=0,
        heads=1,
        grid=(64, 64),
        patch=16,
        spaces=SPACES,
        default_layers=range(9, 19),
    )
    names = [*SPACES, *map(schema.total, SPACES)]
    template = small.drop_vars(names).assign_coords({schema.HEAD: np.arange(24)})
    template = template.assign_attrs({schema.HEAD_COUNT: 24})
    declared = dict.fromkeys(SPACES, (schema.SCORE_DIMS, "float16"))
    declared |= {schema.residual(space): (schema.SCORE_DIMS, residuals.DTYPE) for space in SPACES}
    declared |= {schema.total(space): (schema.TOTAL_DIMS, "float32") for space in SPACES}
    rng = np.random.default_rng(0)
    with store.writer("bench-widgets", template, declared, home) as writer:
        for piece in writer.remaining:
            values: dict[str, Any] = {}
            for space in SPACES:
                scores = rng.standard_normal((24, 6, 64, 64), dtype=np.float32)
                values[space], values[schema.residual(space)] = residuals.split(scores, np)
                values[schema.total(space)] = scores.sum(0)
            writer.write(piece._asdict(), values)
    return str(store.runs(home)[0].path)


class Memory(NamedTuple):
    """Megabytes: the kernel's resident memory, and the page's JavaScript heap with its array buffers."""

    kernel: float
    browser: float


@contextmanager
def notebook(browser: Browser, server: jupyter.Server, name: str) -> Iterator[chromium.Notebook]:
    """A new notebook in a new page, with the probe; its kernel ends with it."""
    with chromium.context(browser, viewport={"width": 1400, "height": 1000}) as (context, notice):
        page = context.new_page()
        opened = chromium.Notebook.open(page, server, notice, server.write(name))
        page.evaluate(PROBE)
        try:
            yield opened
        finally:
            opened.close()
        if notice.errors or notice.left:
            raise RuntimeError(f"errors: {notice.errors}; asked of the network: {notice.left}")


def move(book: chromium.Notebook, kind: str, root: Locator, slider: Locator, key: str) -> float:
    """Press a key on a slider; milliseconds until every map has changed."""
    slider.focus()
    maps = root.evaluate("(root, kind) => probe.arm(kind, root)", kind)
    if maps != 6:
        raise RuntimeError(f"{kind}: {maps} maps; expected 6")
    book.page.keyboard.press(key)
    took = book.page.evaluate("probe.painted")
    book.page.wait_for_timeout(PAUSE)
    return float(took)


def moves(browser: Browser, server: jupyter.Server, run: str, count: int) -> list[Row]:
    """Slider to painted maps: the kernel in the loop, the scores in the browser, and plotly, in turns."""
    with notebook(browser, server, "moves") as book:
        book.run(_SETUP.format(run=run))
        book.run("scores = ds.wb.heatmap(keep=['layer'], layers=slice(0, 18)).to_numpy()\nheatmaps(scores)")
        book.run(f"Explorer(ds, state={_ONE_LAYER}, cube=False)")
        book.run(f"wb.explore(ds, state={_ONE_LAYER})")
        page = book.page
        page.wait_for_selector(".wb-view[data-cube=ready]")
        views = page.locator(".wb-view")
        plotly = page.locator(".js-plotly-plot")
        designs = {
            "kernel": ("canvas", views.nth(0), views.nth(0).locator(FOCUS)),
            "browser": ("canvas", views.nth(1), views.nth(1).locator(FOCUS)),
            "plotly": ("plotly", plotly, page.locator(".noUi-handle").first),
        }
        took: dict[str, list[float]] = {name: [] for name in designs}
        for index in range(-4, count):
            key = "ArrowRight" if ((index + 4) // 8) % 2 == 0 else "ArrowLeft"
            for name, design in designs.items():
                milliseconds = move(book, *design, key)
                if index >= 0:
                    took[name].append(milliseconds)
        for name, source in (("kernel", "kernel"), ("browser", "browser")):
            used = designs[name][1].get_attribute("data-source")
            if used != source:
                raise RuntimeError(f"the view with the {name} in the loop painted from the {used}")
    middle = {name: statistics.median(values) for name, values in took.items()}
    high = {name: float(np.percentile(values, 95)) for name, values in took.items()}
    return [
        Row("slider to painted maps, kernel in the loop: median", middle["kernel"], 55, "ms"),
        Row("slider to painted maps, kernel in the loop: p95", high["kernel"], 100, "ms"),
        Row(
            "the same beside six plotly heat maps: share of their median", middle["kernel"] / middle["plotly"], 0.5, ""
        ),
        Row("slider to painted maps, scores in the browser: median", middle["browser"], 20, "ms"),
        Row("slider to painted maps, scores in the browser: p95", high["browser"], 50, "ms"),
        Row("six plotly heat maps: median", middle["plotly"], float("inf"), "ms"),
        Row("six plotly heat maps: p95", high["plotly"], float("inf"), "ms"),
    ]


def first_paint(browser: Browser, server: jupyter.Server, run: str, count: int = 3) -> list[Row]:
    """From running a cell to the first painted maps, each time in a kernel that has imported nothing."""
    took = []
    for index in range(count):
        with notebook(browser, server, f"first {index}") as book:
            source = f"import workbench as wb\nwb.explore(wb.open({run!r}))"
            took.append(book.page.evaluate("([code, found]) => probe.firstPaint(code, found)", [source, PAINTED]))
    return [Row(f"first paint after the cell runs, imports included: slowest of {count}", max(took) / 1e3, 2, "s")]


def file_size(browser: Browser, server: jupyter.Server, run: str) -> list[Row]:
    """What one view adds to the notebook's file, its saved state included."""
    with notebook(browser, server, "size") as book:
        book.run(f"import workbench as wb\nds = wb.open({run!r})")
        path = server.folder / "size.ipynb"
        book.save()
        before = path.stat().st_size
        book.run("wb.explore(ds)")
        book.page.wait_for_selector(PAINTED)
        book.save()
        after = path.stat().st_size
        if "widgets" not in json.loads(path.read_text())["metadata"]:
            raise RuntimeError("the notebook was saved without the state of its widgets")
    return [Row("notebook file, added by one view", (after - before) / 1e3, 200, "kB")]


def first_map(browser: Browser, server: jupyter.Server, count: int = 3) -> list[Row]:
    """From a click on Run in the start panel to painted maps of a new run, once the bundled model is loaded."""
    took = []
    with notebook(browser, server, "start") as book:
        book.run("import workbench as wb\npanel = wb.start()\npanel")
        panel = book.page.locator(".wb-start[data-ready=true]")
        for index in range(count + 1):
            panel.locator(".wb-start-example").nth(index).click()
            panel.locator(f".wb-start-example[aria-pressed=true]:nth-child({index + 1})").wait_for()
            took.append(panel.evaluate(_CLICK_TO_MAPS))
            panel.and_(book.page.locator(f"[data-shown='{index + 1}']")).wait_for()
        book.run("panel.close()")
    return [Row(f"start panel, warm, click on Run to painted maps: slowest of {count}", max(took[1:]) / 1e3, 2, "s")]


def ten_views(browser: Browser, server: jupyter.Server, run: str, views: int = 10) -> list[Row]:
    """Ten views in one notebook: each answers, and closing all of them gives the memory back."""
    with notebook(browser, server, "ten") as book:
        page = book.page
        session = page.context.new_cdp_session(page)

        def memory() -> Memory:
            """Megabytes in use, once both sides have collected their garbage."""
            session.send("HeapProfiler.collectGarbage")
            kernel = float(book.run(_RESIDENT))
            usage = session.send("Runtime.getHeapUsage")
            return Memory(kernel, (usage["usedSize"] + usage.get("backingStorageSize", 0)) / 1e6)

        book.run(f"import workbench as wb\nds = wb.open({run!r})\nviews = []\nwarm = wb.explore(ds)\nwarm")
        page.wait_for_selector(PAINTED)
        book.run("warm.close()")
        before, answered = memory(), 0
        opened, closed = [], []
        for _ in range(3):
            book.clear()
            for _ in range(views):
                book.run(f"views.append(wb.explore(ds, state={_ONE_LAYER}))\nviews[-1]")
            shown = page.locator(".wb-view")
            answered = 0
            for index in range(views):
                slider = shown.nth(index).locator(FOCUS)
                slider.scroll_into_view_if_needed()
                move(book, "canvas", shown.nth(index), slider, "ArrowRight")
                answered += 1
            opened.append(memory())
            book.run("for view in views: view.close()\nviews.clear()")
            book.clear()
            closed.append(memory())
    rows = [Row(f"{views} views: that do not answer", views - answered, 0, "")]
    for side in ("kernel", "browser"):
        start, first, third = (getattr(mark, side) for mark in (before, opened[0], opened[2]))
        left = getattr(closed[2], side) - getattr(closed[0], side)
        rows += [
            Row(f"{views} views open: {side} memory added", first - start, 200, "MB"),
            Row(f"opened a third time: {side} memory above the first time", third - first, 20, "MB"),
            Row(f"closed a third time: {side} memory above the first time", left, 20, "MB"),
        ]
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | measured | target | |", "| --- | --- | --- | --- |"]
    for row in rows:
        aim = "" if row.target == float("inf") else f"≤ {row.target:g} {row.unit}".rstrip()
        verdict = "" if not aim else "pass" if row.passed else "FAIL"
        lines.append(f"| {row.name} | {row.value:.3g} {row.unit} | {aim} | {verdict} |".replace("  ", " "))
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=72, help="moves of each slider")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="file to merge the figures into")
    options = parser.parse_args()
    if reason := chromium.missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder:
        run = store_run(Path(folder) / "runs")
        with jupyter.serve(Path(folder) / "jupyter") as server, chromium.launch() as browser:
            rows = moves(browser, server, run, options.moves)
            rows += first_paint(browser, server, run)
            rows += first_map(browser, server)
            rows += file_size(browser, server, run)
            rows += ten_views(browser, server, run)
    print(table(rows))
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    measured = [{name: value for name, value in asdict(row).items() if value != float("inf")} for row in rows]
    options.json.write_text(json.dumps(known | {"widgets": measured}, indent=2) + "\n")
    sys.exit(not all(row.passed for row in rows))


_ONE_LAYER: Final = "{'layers': [4, 4], 'timesteps': [500.0, 500.0]}"
_SETUP: Final = """
import workbench as wb
from tests.benchmarks.baseline import heatmaps
from workbench.widgets.explore.explorer import Explorer
ds = wb.open({run!r})
"""
_CLICK_TO_MAPS: Final = """
async (root) => {
  const drawn = () => [...document.querySelectorAll(".wb-view:not(.wb-start)[data-painted]:not([data-painted=''])")];
  const before = new Set(drawn());
  const begun = performance.now();
  root.querySelector("[data-control=run]").click();
  const there = (view) => !before.has(view) && view.querySelector(".wb-panel[data-kind=concept] canvas");
  while (!drawn().some(there)) {
    if (performance.now() - begun > 60_000) throw Error(`no map has come: ${root.innerText}`);
    await new Promise(requestAnimationFrame);
  }
  return performance.now() - begun;
}
"""
_RESIDENT: Final = """
import ctypes, gc, psutil
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # the C library otherwise keeps what was freed for later
print(psutil.Process().memory_info().rss / 1e6)
"""


if __name__ == "__main__":
    main()
