"""Chromium, and one notebook in it: cells run, keys are pressed, pixels are read, the network is watched."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Route

    from tests.browser.jupyter import Server

REQUIRED: Final = "WORKBENCH_BROWSER"
"""Environment variable: with the value ``required``, a machine without a browser fails the tests."""
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
    "--enable-precise-memory-info",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
_ELSEWHERE: Final = re.compile(r"^(?:https?|wss?)://(?!(?:127\.0\.0\.1|localhost)[:/])")
_EXECUTABLES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

Pixels = npt.NDArray[np.uint8]


def executable() -> str | None:
    """The system's Chromium or Chrome."""
    return next(filter(None, map(shutil.which, _EXECUTABLES)), None)


def missing() -> str:
    """Why there can be no browser test here; empty when there can."""
    if lacking := [name for name in ("playwright", "jupyterlab", "notebook") if find_spec(name) is None]:
        return f"{', '.join(lacking)} not installed: pip install '.[test]'"
    return "" if executable() else f"no browser found (looked for {', '.join(_EXECUTABLES)}): apt-get install chromium"


def required() -> bool:
    """Whether this run must not go on without a browser."""
    return os.environ.get(REQUIRED) == "required"


@contextmanager
def launch() -> Iterator[Browser]:
    """A browser with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), args=list(_FLAGS), headless=True)
        try:
            yield browser
        finally:
            browser.close()


class Notice:
    """What went wrong in a page, and what it asked of the network: both should stay empty.

    Attributes
    ----------
    errors
        Console errors and uncaught exceptions.
    left
        Addresses outside this machine that the page asked for; none of them was reached.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.left: list[str] = []
        context.route(_ELSEWHERE, self._block)
        context.on("page", self._follow)

    def _block(self, route: Route) -> None:
        self.left.append(route.request.url)
        route.abort()

    def _follow(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(f"{error.name}: {error.message}\n{error.stack}"))
        page.on("websocket", lambda socket: _ELSEWHERE.match(socket.url) and self.left.append(socket.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


@contextmanager
def context(browser: Browser, **options: Any) -> Iterator[tuple[BrowserContext, Notice]]:
    """A fresh browser context whose network ends at this machine."""
    opened = browser.new_context(service_workers="block", **options)
    opened.set_default_timeout(60_000)
    notice = Notice(opened)
    try:
        yield opened, notice
    finally:
        opened.close()


class Notebook:
    """A notebook that is open in JupyterLab or Notebook 7, with a connected kernel."""

    def __init__(self, page: Page, server: Server, notice: Notice) -> None:
        self.page = page
        self.notice = notice
        self._server = server
        self._kernel = ""

    @classmethod
    def open(cls, page: Page, server: Server, notice: Notice, path: Path, app: str = "lab") -> Notebook:
        """Open a notebook of the server; ``app`` is ``"lab"`` or ``"notebook"``."""
        where = "lab/tree" if app == "lab" else "notebooks"
        page.goto(f"{server.url}{where}/{path.name}?token={server.token}{'&reset' if app == 'lab' else ''}")
        notebook = cls(page, server, notice)
        notebook.wait_for_kernel()
        notebook._kernel = page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
        return notebook

    def wait_for_kernel(self, timeout: float = 60) -> None:
        """Until the kernel answers. (Its status is no help: it may never be reported as idle.)"""
        self.page.wait_for_function(_CONNECTED, timeout=timeout * 1000, polling=50)

    def run(self, code: str, timeout: float = 60) -> str:
        """Run code in a new cell at the end, and give back the text it printed."""
        outputs = self.page.evaluate(_RUN, [code, timeout])
        assert outputs is not None, f"the cell was still running after {timeout} s:\n{code}"
        failed = [output for output in outputs if output["output_type"] == "error"]
        assert not failed, "\n".join(failed[0]["traceback"])
        return "".join(_text(output["text"]) for output in outputs if output["output_type"] == "stream")

    def clear(self) -> None:
        """Delete every cell."""
        self.page.evaluate(
            "() => { const {sharedModel} = jupyterapp.shell.currentWidget.content.model; "
            "sharedModel.deleteCellRange(0, sharedModel.cells.length); }"
        )

    def restart(self) -> None:
        """Restart the kernel, as the menu does after it has asked."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.wait_for_kernel()

    def save(self) -> None:
        """Write the notebook to its file."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme: ``"JupyterLab Light"`` or ``"JupyterLab Dark"``.

        Returns when the curtain that JupyterLab lowers meanwhile is gone: it would be in screenshots, and a second
        change while it fades makes JupyterLab take it away twice.
        """
        self.page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def close(self) -> None:
        """End this notebook's kernel."""
        self._server.stop_kernel(self._kernel)


def pixels(canvas: Locator) -> Pixels:
    """What a canvas shows: (y, x, rgba), in the canvas' own pixels."""
    found = canvas.evaluate(_PIXELS)
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 4)


def _text(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


_CONNECTED: Final = """
() => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return panel?.content?.model && kernel?.connectionStatus === "connected" && kernel.status !== "restarting";
}
"""

_RUN: Final = """
async ([source, seconds]) => {
  const notebook = jupyterapp.shell.currentWidget.content;
  const cells = notebook.model.sharedModel;
  const at = cells.cells.length;
  cells.insertCell(at, {cell_type: "code", source});
  notebook.activeCellIndex = at;
  notebook.deselectAll();
  const late = new Promise((resolve) => setTimeout(resolve, seconds * 1000, "late"));
  const ran = await Promise.race([jupyterapp.commands.execute("notebook:run-cell"), late]);
  return ran === "late" ? null : cells.getCell(at).toJSON().outputs;
}
"""

_PIXELS: Final = """
(canvas) => {
  const {width, height} = canvas;
  const bytes = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return {width, height, data: btoa(text)};
}
"""
