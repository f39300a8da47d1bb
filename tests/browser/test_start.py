"""``wb.start()`` in JupyterLab: pictures, words, runs, growing views, history, code, by mouse and by keyboard."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from tests.browser import chromium
from tests.browser.jupyter import ROOT
from tests.browser.views import View, check_maps

if TYPE_CHECKING:
    from playwright.sync_api import Locator


pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "build" / "screenshots"
FAKED = """
import workbench as wb
from tests.widgets.start.fakes import Backend
from workbench.widgets.start.starter import Start
backend = Backend(held={held})
panel = Start(backend)
panel
"""


@pytest.fixture(scope="module")
def lab(lab: chromium.Notebook) -> chromium.Notebook:
    """The shared notebook, on a page that holds a panel with the view below it."""
    lab.page.set_viewport_size({"width": 1400, "height": 1500})
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lab


@pytest.fixture
def panel(lab: chromium.Notebook) -> Iterator[Locator]:
    yield _opened(lab, FAKED.format(held=False))
    lab.run("panel.close()")
    lab.clear()


def _opened(lab: chromium.Notebook, code: str) -> Locator:
    lab.run(code)
    root = lab.page.locator(".wb-start[data-ready=true]").last
    root.wait_for()
    return root


def _control(panel: Locator, name: str) -> Locator:
    return panel.locator(f"[data-control='{name}']")


def _type(panel: Locator, *words: str) -> None:
    for word in words:
        _control(panel, "word").fill(word)
        _control(panel, "word").press("Enter")


def _run(panel: Locator, number: int) -> None:
    _control(panel, "run").click()
    panel.and_(panel.page.locator(f"[data-shown='{number}']")).wait_for()


def _words(panel: Locator) -> list[str]:
    return panel.locator(".wb-start-chip").evaluate_all("all => all.map((one) => one.dataset.word)")


def _picture() -> tuple[bytes, np.ndarray[Any, Any]]:
    """A file, and its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


def _given(panel: Locator, kind: str, event: str, transfer: str) -> None:
    """Drop or paste a picture on an element of the panel."""
    _control(panel, "zone").evaluate(
        f"""(zone, data) => {{
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const {transfer} = new DataTransfer();
            {transfer}.items.add(new File([bytes], "mine.png", {{type: "image/png"}}));
            zone.dispatchEvent(new {kind}("{event}", {{bubbles: true, cancelable: true, {transfer}}}));
        }}""",
        base64.b64encode(_picture()[0]).decode(),
    )


def test_a_picture_is_chosen_dropped_or_pasted(panel: Locator, lab: chromium.Notebook, tmp_path: Path) -> None:
    data, pixels = _picture()
    (tmp_path / "dog.png").write_bytes(data)
    _control(panel, "file").set_input_files(tmp_path / "dog.png")
    panel.get_by_text("dog.png, 24 × 40 px").wait_for()
    _type(panel, "dog", "sky")
    _run(panel, 1)
    for kind, event, transfer in (("DragEvent", "drop", "dataTransfer"), ("ClipboardEvent", "paste", "clipboardData")):
        panel.locator("[data-example=scene-02]").click()
        panel.get_by_text("scene-02, 128 × 128 px").wait_for()
        _given(panel, kind, event, transfer)
        panel.get_by_text("mine.png, 24 × 40 px").wait_for()
        assert panel.locator(".wb-start-example[aria-pressed=true]").count() == 0
    _run(panel, 2)
    lab.run(
        "import numpy as np\n"
        f"pixels = np.random.default_rng(0).integers(0, 256, {pixels.shape}, dtype=np.uint8)\n"
        "assert all(np.array_equal(call[0], pixels) for call in backend.calls), backend.calls"
    )
    _control(panel, "file").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    panel.locator(".wb-error").get_by_text("This is no image that can be read.").wait_for()
    assert panel.get_by_text("mine.png, 24 × 40 px").is_visible(), "the picture before it stays, and is named"
    _control(panel, "file").set_input_files({"name": "no.txt", "mimeType": "text/plain", "buffer": b"no"})
    panel.locator(".wb-error").get_by_text("no.txt is no picture").wait_for()


def test_words_are_chips_and_are_warned_of_as_they_are_typed(panel: Locator, lab: chromium.Notebook) -> None:
    word = _control(panel, "word")
    word.fill("zebra")
    panel.get_by_text("'zebra' is unknown.").wait_for()
    assert _words(panel) == [], "it is not entered yet"
    word.press("Enter")
    panel.locator(".wb-start-chip.wb-start-refused").wait_for()
    assert panel.get_by_text("One word alone is everywhere").is_visible()
    word.fill("dog, <b>cat</b>,")
    assert _words(panel) == ["zebra", "dog", "<b>cat</b>"]
    assert not panel.locator("b", has_text=re.compile("^cat$")).count()
    panel.locator("[data-offer=sky]").click()
    word.press("Backspace")
    assert _words(panel) == ["zebra", "dog", "<b>cat</b>"]
    panel.locator("[aria-label='Remove zebra']").press("Enter")
    assert _words(panel) == ["dog", "<b>cat</b>"]
    panel.get_by_text("'zebra' is unknown.").wait_for(state="detached")
    assert lab.run("print(panel.panel.state['concepts'])").strip() == "['dog', '<b>cat</b>']"


def test_everything_is_done_by_keyboard(panel: Locator, lab: chromium.Notebook) -> None:
    page = panel.page
    _control(panel, "source-picture").focus()
    page.keyboard.press("ArrowRight")
    assert _control(panel, "source-prompt").is_checked()
    page.keyboard.press("Tab")
    page.keyboard.type("a dog on grass")
    page.keyboard.press("Tab")
    page.keyboard.type("dog, grass")
    page.keyboard.press("Control+Enter")
    panel.and_(page.locator("[data-shown='1']")).wait_for()
    assert lab.run("print(backend.calls[0][:2])").strip() == "('a dog on grass', ['dog', 'grass'])"
    names = panel.evaluate(
        "root => [...root.querySelectorAll('button, input, select, textarea, [tabindex]')].filter((one) =>"
        " one.offsetParent && !(one.getAttribute('aria-label') || one.innerText.trim()"
        " || one.labels?.[0]?.textContent.trim() || one.title)).map((one) => one.outerHTML)"
    )
    assert names == [], "everything that takes the focus has a name"


def test_a_run_grows_is_stopped_inside_and_can_be_seen_again(lab: chromium.Notebook) -> None:
    panel = _opened(lab, FAKED.format(held=True))
    panel.locator("[data-example=scene-08]").click()
    assert _words(panel) == ["boat", "moon", "brick", "night"]
    _control(panel, "run").click()
    lab.run("backend.passes.release(2)")
    panel.locator("[role=status]").get_by_text(re.compile(r"2 of 4 passes, about .* left")).wait_for()
    view = View(lab.page.locator(".wb-view:not(.wb-start)").last)
    held = json.loads(lab.run("print(panel.view.meta['timesteps'])"))
    assert (len(held), view.state["timesteps"]) == (2, [held[0], held[1]])
    assert int(lab.run("print(6 * 7)")) == 42, "the kernel answers meanwhile"
    _control(panel, "stop").click()
    panel.locator("[role=status]").get_by_text("Run goes on from there").wait_for()
    lab.run("backend.passes.release(100)")
    _run(panel, 1)
    panel.locator("[role=status]").get_by_text("Done in").wait_for()
    panel.locator("[role=note]").get_by_text("A warning of the run.").wait_for()
    _type(panel, "sky")
    lab.run("backend.passes = type(backend.passes)(1)")
    _control(panel, "run").click()
    panel.and_(lab.page.locator("[data-shown='0']")).wait_for()
    assert panel.locator("[data-run][aria-pressed=true]").count() == 0, "no finished run is what is shown"
    assert _control(panel, "code").is_hidden(), "and there is no code of a part of one"
    _control(panel, "stop").click()
    panel.and_(lab.page.locator("[data-shown='1']")).wait_for()
    panel.locator("[data-run='1'][aria-pressed=true]").wait_for()
    lab.run("backend.passes.release(100)")
    _run(panel, 2)
    panel.locator("[data-run='1']").click()
    panel.and_(lab.page.locator("[data-shown='1']")).wait_for()
    assert _words(panel) == ["boat", "moon", "brick", "night"], "the form is that of the run that is shown"
    View(lab.page.locator(".wb-view:not(.wb-start)").last)
    assert lab.page.locator(".wb-view:not(.wb-start)").count() == 1, "former views are gone"
    assert lab.run("print(panel.ds.sizes['concept'])").strip() == "4"
    lab.run("panel.close()")
    lab.clear()


def test_a_panel_whose_kernel_was_restarted_says_so(panel: Locator) -> None:
    panel.evaluate("root => { root.workbench.model.send = () => { throw new Error('Cannot send'); }; }")
    panel.locator("[data-example=scene-08]").click()
    panel.locator(".wb-error").get_by_text("The kernel was restarted").wait_for()
    assert _control(panel, "run").is_enabled()


@pytest.mark.slow
def test_a_panel_that_is_drawn_again_knows_what_it_was(panel: Locator, lab: chromium.Notebook) -> None:
    panel.locator("[data-example=scene-08]").click()
    _run(panel, 1)
    lab.page.locator(".wb-kept", has_text="Start panel, run 1: boat, moon, brick, night").wait_for(state="attached")
    assert lab.page.locator(".wb-kept:visible, .jp-RenderedImage:visible").count() == 0
    lab.run("panel")
    again = lab.page.locator(".wb-start[data-ready=true]").nth(1)
    again.wait_for()
    again.get_by_text("scene-08, 128 × 128 px").wait_for()
    assert _words(again) == ["boat", "moon", "brick", "night"]
    assert again.locator("[data-run='1']").is_visible()


@pytest.mark.slow
def test_the_run_button_can_be_read_under_the_mouse_beside_a_view(panel: Locator) -> None:
    panel.locator("[data-example=scene-08]").click()
    _run(panel, 1)
    View(panel.page.locator(".wb-view:not(.wb-start)").last)
    _control(panel, "run").hover()
    colours = "button => [getComputedStyle(button).backgroundColor, getComputedStyle(button).borderColor]"
    ground, edge = _control(panel, "run").evaluate(colours)
    assert ground == edge, "the style sheet of a view comes later, and has another ground for buttons"


@pytest.mark.slow
def test_models_are_named_chosen_and_looked_at(panel: Locator, lab: chromium.Notebook) -> None:
    _control(panel, "model").select_option("named")
    _control(panel, "model-name").fill("nowhere")
    panel.get_by_text("Unknown model 'nowhere'.").wait_for()
    _control(panel, "model-name").fill("far/away")
    panel.get_by_text("It is loaded at the first run").wait_for()
    panel.get_by_text("Unknown model 'nowhere'.").wait_for(state="hidden")
    lab.run("backend.kernel['pipe'] = backend")
    _control(panel, "word").focus()
    _control(panel, "model").focus()
    _control(panel, "model").locator("option", has_text="pipe (Backend in this kernel)").wait_for(state="attached")
    _control(panel, "model").select_option("kernel:pipe")
    panel.locator("[data-section=more] summary").first.click()
    _control(panel, "timesteps").fill("250, 500")
    _control(panel, "layers").fill("0-2")
    _control(panel, "space-value").check()
    panel.locator("[data-example=scene-08]").click()
    _run(panel, 1)
    lab.run(
        "assert backend.calls[0][2] is backend\n"
        "told = {'timesteps': [250.0, 500.0], 'layers': [0, 1, 2], 'spaces': ['output', 'cross', 'value']}\n"
        "assert backend.calls[0][3] == told, backend.calls"
    )
    _control(panel, "timesteps").fill("soon")
    _control(panel, "run").click()
    panel.locator(".wb-error").get_by_text("Timesteps is 'soon'").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_nothing_is_cut_off_at_any_width(panel: Locator, lab: chromium.Notebook, theme: str) -> None:
    lab.theme(f"JupyterLab {theme}")
    panel.locator("[data-example=scene-08]").click()
    _type(panel, "a word that is longer than any other word would ever be, and then some")
    _run(panel, 1)
    panel.locator("[data-section=more] summary").first.click()
    _control(panel, "code").click()
    for width in (1400, 700):
        lab.page.set_viewport_size({"width": width, "height": 1500})
        wide = panel.evaluate("root => [root.scrollWidth, root.clientWidth]")
        assert wide[0] <= wide[1]
        panel.screenshot(path=SCREENSHOTS / f"start-{width}-{theme.lower()}.png")
    lab.page.set_viewport_size({"width": 1400, "height": 1500})
    lab.theme("JupyterLab Light")


@pytest.mark.slow
def test_the_bundled_model_from_an_example_to_maps_and_code(lab: chromium.Notebook) -> None:
    panel = _opened(lab, "import workbench as wb\npanel = wb.start()\npanel")
    _type(panel, "dog")
    panel.get_by_text("tiny-flux does not know 'dog'.").wait_for()
    panel.locator("[aria-label='Remove dog']").click()
    panel.locator("[data-example=scene-08]").click()
    _run(panel, 1)
    view = View(lab.page.locator(".wb-view:not(.wb-start)").last)
    _control(panel, "code").click()
    code = panel.locator(".wb-code").inner_text()
    lab.run(f"shown, _ = panel.ds, exec({code!r}, globals())\nassert ds.identical(shown)\nassert 'truth' in ds")
    view.set(opacity=1.0, picture=False)
    check_maps(view, wb.open(lab.run("print(wb.runs()[0].path)").strip()).wb.heatmap())
    panel.screenshot(path=SCREENSHOTS / "start-bundled.png")
    _control(panel, "source-prompt").check()
    _control(panel, "prompt").fill("a red heart on grass")
    for word in ("boat", "moon", "brick", "night"):
        panel.locator(f"[aria-label='Remove {word}']").click()
    _type(panel, "heart", "grass")
    panel.locator("[data-section=more] summary").first.click()
    _control(panel, "steps").fill("2")
    _control(panel, "steps").press("Tab")
    _run(panel, 2)
    code = panel.locator(".wb-code").inner_text()
    lab.run(f"shown, _ = panel.ds, exec({code!r}, globals())\nassert ds.identical(shown)")
    assert lab.run("print(ds.attrs['steps'], ds.sizes['timestep'])").strip() == "2 2"
    _run(panel, 3)
    panel.locator("[role=status]").get_by_text("It was stored already").wait_for()
    lab.run("panel.close()")
    lab.clear()
