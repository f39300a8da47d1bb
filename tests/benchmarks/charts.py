"""Measures curves and matrices of the views beside the same ones in plotly: ``python -m tests.benchmarks.charts``.

Both kinds take turns in one page of Chromium, without JupyterLab; each is drawn anew and changed. Bytes are what a view
keeps in its notebook: an ES module, compressed and in base64, as :func:`workbench.widgets.shared.assets.packed` writes
it; and what plotly.js, packed in the same way, would take once a notebook.
"""

from __future__ import annotations

import argparse
import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly

from tests.benchmarks.report import Figure, ratio, table
from tests.browser import chromium
from workbench.widgets.ablate.ablation import ORDER as ABLATION
from workbench.widgets.explore.front_end import ORDER as EXPLORER
from workbench.widgets.shared import assets

TRIAL: Final = Path(__file__).parent / "charts.js"
PLOTLY: Final = Path(str(plotly.__file__)).parent / "package_data" / "plotly.min.js"
CHARTS: Final = ("shared/plotting.js", "explore/charts.js", "ablate/ablation-plots.js")
OURS: Final = (
    "shared/palette.js",
    "shared/dom.js",
    "shared/panels.js",
    "shared/plotting.js",
    "ablate/ablation-plots.js",
)
"""What a figure of results needs."""
MEDIAN: Final = 55
P95: Final = 100
"""Milliseconds from a change to painted, as for maps."""


def kept(text: str) -> float:
    """Kilobytes of a script in a notebook."""
    return len(base64.b64encode(gzip.compress(text.encode(), 9, mtime=0))) / 1e3


def sizes() -> Iterator[Figure]:
    """What each way takes."""
    for name, order in (("explore", EXPLORER), ("ablate", ABLATION)):
        whole = kept(assets.joined(*order))
        without = kept(assets.joined(*(file for file in order if file not in CHARTS)))
        yield Figure(f"module of {name}, charts of our own included", whole, "kB", 200)
        yield Figure(f"module of {name}, without their files", without, "kB")
    yield Figure("plotly.js, once a notebook", kept(PLOTLY.read_text("utf-8")), "kB", 200)


def timed(count: int) -> Iterator[Figure]:
    """Milliseconds in the browser."""
    with chromium.launch() as browser, chromium.context(browser) as (context, notice):
        page = context.new_page()
        page.set_content(f"<style>{assets.text('shared/view.css')}</style><div id=root class=wb-view></div>")
        loads = []
        for _ in range(3):
            fresh = context.new_page()
            fresh.set_content("<div id=root></div>")
            fresh.add_script_tag(content=f"{assets.joined(*OURS)}\n{TRIAL.read_text('utf-8')}")
            loads.append(fresh.evaluate("(text) => trial.load(text)", PLOTLY.read_text("utf-8")))
            fresh.close()
        yield Figure(
            "plotly.js, until it can be called", float(np.median(loads)), "ms", low=min(loads), high=max(loads)
        )
        page.add_script_tag(content=f"{assets.joined(*OURS)}\n{TRIAL.read_text('utf-8')}")
        page.evaluate("(text) => trial.load(text)", PLOTLY.read_text("utf-8"))
        found: dict[str, dict[str, dict[str, Any]]] = page.evaluate("(count) => trial.run(count)", count)
        if notice.errors or notice.left:
            raise RuntimeError(f"errors: {notice.errors}; asked of the network: {notice.left}")
    for figure, acts in found.items():
        counts = acts.pop("elements")
        for act, took in acts.items():
            for kind in ("ours", "plotly"):
                yield Figure(f"{figure}, {act}: {kind}, median", float(np.median(took[kind])), "ms", MEDIAN)
                yield Figure(f"{figure}, {act}: {kind}, p95", float(np.percentile(took[kind], 95)), "ms", P95)
            seconds = [(ours / 1e3, other / 1e3) for ours, other in zip(took["ours"], took["plotly"], strict=True)]
            yield ratio(f"{figure}, {act}: plotly / ours", seconds, None)
        yield Figure(f"{figure}: elements of the page, plotly / ours", counts["plotly"] / counts["ours"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="of each figure")
    parser.add_argument("--only-bytes", action="store_true", help="open no browser")
    options = parser.parse_args()
    figures = list(sizes())
    if not options.only_bytes:
        if reason := chromium.missing():
            parser.exit(1, f"{reason}\n")
        figures += timed(options.rounds)
    print(table(figures))


if __name__ == "__main__":
    main()
