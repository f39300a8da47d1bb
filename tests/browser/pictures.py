"""The pictures of the README, taken anew: ``python -m tests.browser.pictures``, or ``make pictures``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.browser import chromium, jupyter
from tests.browser.views import View
from workbench.tiny.demo import SEED

DOCS: Final = jupyter.ROOT / "docs"
_WIDTH: Final = 1180
"""Of the view, in CSS pixels: its seven panels stand in one row, and letters can be read at the width of the README."""
_SHOWN: Final = f"""
import workbench as wb
from workbench.tiny import scenes
scene = scenes.render({SEED})
ds = wb.capture(scene.image, scene.words, truth=scene.truth, timesteps=[800, 650, 500, 350, 200])
wb.explore(ds)
"""


def main() -> None:
    """Write ``demo.png`` and ``explore.png`` into ``docs``."""
    command = [sys.executable, "-m", "workbench.tiny.demo", "--output", str(DOCS / "demo.png")]
    subprocess.run(command, cwd=jupyter.ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder, jupyter.serve(Path(folder) / "jupyter") as server:
        explore(server, DOCS / "explore.png")


def explore(server: jupyter.Server, target: Path) -> None:
    """The view of the demo's scene in JupyterLab, one patch pinned and its values over layers and timesteps shown."""
    window = {"width": _WIDTH + 300, "height": 1400}
    with (
        chromium.launch() as browser,
        chromium.context(browser, viewport=window, device_scale_factor=1.5) as (context, notice),
    ):
        page = context.new_page()
        notebook = chromium.Notebook.open(page, server, notice, server.write("pictures"))
        page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
        notebook.run(_SHOWN, timeout=300)
        root = page.locator(".wb-view").last
        root.evaluate("(root, width) => { root.style.width = `${width}px`; }", _WIDTH)
        view = View(root)
        view.click_patch(11, 7)
        view.unfold("patch").locator("svg").first.wait_for()
        view.settle()
        page.mouse.move(0, 0)
        root.screenshot(path=target)
        notebook.close()
        assert not notice.errors, notice.errors


if __name__ == "__main__":
    main()
