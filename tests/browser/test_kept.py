"""What stays of views where no kernel is: in JupyterLab, in exports, in notebooks that were run by a program."""

from __future__ import annotations

import base64
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.browser import chromium
from tests.browser.jupyter import ROOT
from tests.browser.views import View

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from playwright.sync_api import Browser, Page

    from tests.browser.jupyter import Server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of the Jupyter libraries
]

SETUP = """
import workbench as wb
from tests import synthetic
ds = synthetic.dataset(concepts=("dog", "<b>grass</b>", "sky"), signal=2.0, grid=(6, 8), truth=True)
other = synthetic.dataset(concepts=("dog", "<b>grass</b>", "sky"), seed=1, signal=1.0, grid=(6, 8))
"""
VIEWS = {
    "explore": "wb.explore(ds)",
    "compare": "wb.compare(ds, other)",
    "ablate": "wb.ablate(ds)",
    "list": "wb.explore()",
    "start": "wb.start()",
}
RUN = "Run the cell for the live view."
SCREENSHOTS = ROOT / "build" / "screenshots"
LIVE = {
    "explore": ".wb-view[data-painted='0']",
    "compare": ".jp-OutputArea-output:has(.wb-view[data-painted='0'] ~ * .wb-view, .wb-view[data-painted='0'])",
    "ablate": ".wb-ablation[data-ready=true]",
    "list": ".wb-picker[data-ready=true]",
    "start": ".wb-start[data-ready=true]",
}


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[tuple[Page, chromium.Notice]]:
    with chromium.context(browser, viewport={"width": 1200, "height": 1000}) as (context, notice):
        yield context.new_page(), notice
        assert notice.left == []


def _pictures(cell: Any) -> list[Image.Image]:
    files = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(file))) for file in files]


@pytest.mark.slow
def test_a_live_view_shows_no_second_picture_and_a_lost_one_shows_it(page: Any, server: Server) -> None:
    tab, notice = page
    path = server.write("kept", ["wb.explore(ds)"])
    notebook = chromium.Notebook.open(tab, server, notice, path)
    notebook.run(SETUP)
    for name, code in VIEWS.items():
        notebook.run(code)
        tab.locator(LIVE[name]).last.wait_for()
        kept = tab.locator(".wb-kept").last
        kept.wait_for(state="hidden")
        assert tab.locator(".jp-RenderedImage:visible").count() == 0
    view = View(tab.locator(".wb-view").first)
    view.press("layers-window", "ArrowRight", 2)
    tab.locator(".wb-kept", has_text="layers 3–4").wait_for(state="attached")
    tab.wait_for_timeout(300)
    assert tab.locator(".jp-RenderedImage:visible").count() == 0
    notebook.save()
    notebook.close()
    assert notice.errors == []

    saved = json.loads(path.read_text())
    saved["metadata"].pop("widgets", None)  # as JupyterLab leaves them out unless told otherwise
    found = [picture for cell in saved["cells"] for picture in _pictures(cell)]
    assert len(found) == len(VIEWS)
    assert json.loads(found[0].text["workbench"])["state"]["layers"] == [3, 4]
    reopened = server.folder / "lost.ipynb"
    reopened.write_text(json.dumps(saved))
    lost = chromium.Notebook.open(tab, server, notice, reopened)
    tab.locator(".jp-RenderedImage img").nth(len(VIEWS) - 1).wait_for()
    assert tab.locator(".jp-RenderedImage:visible").count() == len(VIEWS)
    tab.locator(".wb-kept", has_text="layers 3–4").wait_for()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.locator(".jp-Notebook").screenshot(path=SCREENSHOTS / "lost.png")
    lost.close()


@pytest.mark.slow
def test_notebook_7_shows_one_of_the_two_as_well(page: Any, server: Server) -> None:
    tab, notice = page
    path = server.write("classic", ["'first'"])  # an empty notebook has errors of its own there
    notebook = chromium.Notebook.open(tab, server, notice, path, app="notebook")
    notebook.run(SETUP)
    notebook.run(VIEWS["compare"])
    tab.locator(LIVE["compare"]).last.wait_for()
    tab.locator(".wb-kept").wait_for(state="hidden")
    assert tab.locator(".jp-RenderedImage:visible").count() == 0
    boxes = [one.bounding_box() for one in tab.locator(".wb-compare > *").all()]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"], "the views are side by side"
    assert all(box["y"] + box["height"] < boxes[2]["y"] for box in boxes[:2]), "the differences are below both"
    notebook.save()
    notebook.close()
    assert json.loads(path.read_text())["metadata"]["widgets"], "as Notebook 7 saves them"
    reopened = chromium.Notebook.open(tab, server, notice, path, app="notebook")
    tab.locator(".wb-unanswered:visible").wait_for()
    tab.locator(".jp-RenderedImage:visible").wait_for()
    tab.locator(".wb-kept:visible").wait_for()
    assert tab.locator(".wb-compare :is(canvas, button, img):visible").count() == 0, "nothing that is empty or dead"
    tab.screenshot(path=SCREENSHOTS / "lost-notebook-7.png")
    reopened.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """A notebook of all views, run by a program that shows nothing."""
    import nbformat  # these take seconds to import
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, *VIEWS.values())])
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(folder / "runs"))
        patch.setenv("PYTHONPATH", str(ROOT))
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook


@pytest.mark.slow
def test_a_notebook_that_a_program_runs_keeps_pictures(run: NotebookNode) -> None:
    for cell in run.cells[1:]:
        (picture,) = _pictures(cell)
        assert min(picture.size) > 40
        live, words, file = (output["data"] for output in cell["outputs"])
        assert live["text/plain"] == RUN
        assert "<b>" not in words["text/html"]
        assert len(words["text/plain"]) > 20
        assert len(base64.b64decode(file["image/png"])) <= 200_000


@pytest.mark.slow
@pytest.mark.parametrize("state", [True, False])
def test_an_exported_page_shows_the_pictures(run: NotebookNode, browser: Browser, tmp_path: Path, state: bool) -> None:
    notebook = copy.deepcopy(run)
    if not state:
        notebook.metadata.pop("widgets", None)
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter().from_notebook_node(notebook)
    path = tmp_path / "exported.html"
    path.write_text(text)
    with chromium.context(browser, viewport={"width": 1200, "height": 1000}, offline=True) as (context, _):
        tab = context.new_page()
        tab.goto(path.as_uri(), wait_until="domcontentloaded")
        pictures = tab.locator("img[src^='data:image/png']")
        assert pictures.count() == len(VIEWS)
        assert all(pictures.nth(index).is_visible() for index in range(len(VIEWS)))
        shown = tab.locator("main").inner_text()
        assert "model_id" not in shown
        assert " object at 0x" not in shown
        assert "dog, <b>grass</b>, sky" in shown
        if not state:
            assert RUN in shown
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            tab.screenshot(path=SCREENSHOTS / "exported.png", full_page=True)
        assert len(tab.pdf()) > 10_000


@pytest.mark.slow
def test_an_exported_latex_file_has_the_pictures(run: NotebookNode) -> None:
    from nbconvert import LatexExporter

    text, resources = LatexExporter().from_notebook_node(run)
    assert text.count(r"\includegraphics") + text.count(r"\adjustimage") >= len(VIEWS)
    assert sum(name.endswith(".png") for name in resources["outputs"]) == len(VIEWS)
    assert RUN in text
