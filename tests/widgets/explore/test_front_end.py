from __future__ import annotations

import base64
import colorsys
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import to_hex

from tests import synthetic
from tests.widgets.shared.test_maths import node
from workbench import figures, widgets
from workbench.figures import paper
from workbench.numerics.measures import OVERVIEW
from workbench.widgets.ablate.ablation import ORDER
from workbench.widgets.explore import front_end
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.state import COLOUR_MAPS, SECTIONS, State
from workbench.widgets.shared import assets

WIDGETS = Path(widgets.__file__).parent
SOURCES = (".py", ".js", ".css", ".html")


def test_files_of_views_are_short() -> None:
    found = {path: len(path.read_text("utf-8").splitlines()) for path in WIDGETS.rglob("*") if path.suffix in SOURCES}
    assert len(found) > 60
    assert {str(path): lines for path, lines in found.items() if lines > 400} == {}


def test_a_view_keeps_little_in_its_notebook() -> None:
    assert len(front_end.packed()) < 60_000
    assert len(assets.packed(*ORDER)) < 60_000


def test_every_file_is_part_of_the_module() -> None:
    module = front_end.module()
    assert module.count("export default") == 1
    for name in front_end.ORDER:
        assert assets.text(name) in module
    assert not re.search(r"^import |https?://(?!www\.w3\.org/2000/svg)", module, re.MULTILINE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", module)
    assert len(module) + len(front_end.style()) < 140_000


def test_colours_are_those_of_the_figures() -> None:
    module = front_end.module()
    found = re.findall(r"^  (\w+): \"([A-Za-z0-9+/=]+)\",$", module, re.MULTILINE)
    assert {"auto", *(name for name, _ in found)} == set(COLOUR_MAPS)
    for name, encoded in found:
        expected = mpl.colormaps["PuOr_r" if name == "diverging" else name](np.arange(256))[:, :3] * 255
        colours = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(256, 3)
        assert np.abs(colours - expected).max() <= 0.5
    listed = re.search(r"CONCEPT_COLOURS = \[(.*?)\]", module, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"#\w{6}", listed[1])) == figures.SEGMENT_COLOURS


def test_colours_beyond_the_palette_are_those_of_the_figures() -> None:
    script = (
        f"{assets.text('shared/palette.js')}\nconsole.log(JSON.stringify([...Array(80).keys()].map(conceptColour)));"
    )
    done = subprocess.run([node(), "-"], input=script, capture_output=True, text=True, check=True)
    for label, written in enumerate(json.loads(done.stdout)):
        if label < len(figures.SEGMENT_COLOURS):
            assert written == paper.colour(label)
            continue
        hue, saturation, light = (int(part) for part in re.findall(r"\d+", written))
        assert paper.colour(label) == to_hex(colorsys.hls_to_rgb(hue / 360 % 1, light / 100, saturation / 100))


def test_names_of_the_state_are_spelled_alike() -> None:
    module = front_end.module()
    for statistic in OVERVIEW:
        assert f"  {statistic}: " in module
    for section in SECTIONS:
        assert f'section("{section}"' in module


def test_the_browser_copies_the_code_that_the_kernel_writes() -> None:
    many = synthetic.dataset(kind="generate", samples=2, spaces=("output", "cross", "prompt"), truth=True)
    one = synthetic.dataset(timesteps=[812.5], layers=[3], truth=True, concepts=('it"s', "é", "sky"))
    unfolded = {"open": ["patch", "overview", "heads"], "pin": [1, 2]}
    states: list[tuple[xr.Dataset, dict[str, Any]]] = [
        (many, {}),
        (many, {"space": "cross", "sample": 1, "statistic": "iou", **unfolded}),
        (many, {"space": "prompt", "concepts": [0, 3], "difference": [1, 2], **unfolded}),
        (many, {"heads": [1], "timesteps": [500.0, 500.0], "reduce": "mean", "statistic": "entropy", **unfolded}),
        (many, {"sample": None, "layers": [2, 4], "timesteps": [500.0, 250.0], "statistic": "ap", **unfolded}),
        (one, {"statistic": "ap", "concepts": [0, 1], **unfolded}),
        (one, {"statistic": "separability", "difference": [0, 1], **unfolded}),
        (one.drop_vars("truth"), {"statistic": "entropy", "focus": 1, "head_layer": 3, **unfolded}),
        (one.drop_vars("truth"), {"statistic": "iou", "open": ["overview"]}),
        (one.drop_vars("output"), {"statistic": "entropy", "space": "output", **unfolded}),
        (synthetic.video(), {"frame": 4, "statistic": "iou", "sample": None, **unfolded}),
    ]
    given, expected = [], []
    for ds, values in states:
        state = State.from_json(values, ds)
        meta = meta_of(ds, variable="run", source="run = 1")
        names = meta["spaces"][state.space]["names"]
        given.append({"state": state.to_json(), "meta": meta, "names": names})
        expected.append(f"run = 1\n\n{state.call(ds, 'run')}")
    script = f"{assets.text('explore/code.js')}\nconsole.log(JSON.stringify({json.dumps(given)}.map(codeOf)));"
    done = subprocess.run([node(), "-"], input=script, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
    assert sum("over_layers" in code for code in expected) == 9
    assert sum("overview" in code for code in expected) == 9
    assert sum("heads" in code for code in expected) == 8
