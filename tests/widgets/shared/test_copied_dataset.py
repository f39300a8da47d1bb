"""Copied code is complete: it begins with what it needs, and runs where nothing of the notebook is."""

from __future__ import annotations

import html
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests.store.replay import save
from tests.synthetic import dataset, video
from workbench.numerics.measures import OVERVIEW, Reference
from workbench.store.opened import opened_from
from workbench.widgets.explore import arrays
from workbench.widgets.explore.page import save_html
from workbench.widgets.explore.state import SECTIONS, State
from workbench.widgets.shared.copied_dataset import named, reopening

KEY, OTHER = "a" * 64, "b" * 64
OPENS = f"import workbench as wb\n\nds = wb.open('{KEY}')"


@pytest.fixture
def stored(home: Path, monkeypatch: pytest.MonkeyPatch) -> xr.Dataset:
    """A run in the usual place."""
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    return save(dataset(truth=True, samples=2, heads=3, signal=1.0).assign_attrs(key=KEY), home, KEY)


def test_a_stored_run_is_opened_where_no_variable_holds_it(
    stored: xr.Dataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(stored) == ("ds", OPENS)
    assert wb.explore(stored).code.startswith(f"{OPENS}\n\nmaps = ds.wb")
    assert [view.code.split(" = ")[0].split("\n")[-1] for view in wb.compare(stored, stored).views] == ["ds_a", "ds_b"]
    assert wb.ablate(stored).meta["uses"] == []
    variables = {"run": stored}
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns=variables))
    assert named(stored) == ("run", "")
    assert wb.explore(stored).code.startswith("maps = run.wb")
    elsewhere = save(dataset(), home.parent / "elsewhere", KEY)
    assert reopening(elsewhere) == f"import workbench as wb\n\nds = wb.open({str(opened_from(elsewhere))!r})"


def test_files_of_a_view_open_the_run_although_a_variable_holds_it(
    stored: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns={"run": stored}))
    view = wb.explore(stored)
    begins = f"import workbench as wb\n\nrun = wb.open('{KEY}')\n\nmaps = run.wb"
    assert view.still().facts["code"].startswith(begins)
    assert view.meta["reopening"] in begins
    assert page_code(view._page().decode()).startswith(begins)


def test_a_part_of_a_stored_run_is_not_taken_for_the_run(stored: xr.Dataset) -> None:
    for other in (stored.isel(sample=[0]), stored.copy(), stored.assign(output=stored.output * 2), dataset()):
        assert named(other) == ("ds", "")
    number = id(stored)
    assert opened_from(stored) is not None
    del stored
    assert opened_from(SimpleNamespace(id=number)) is None


@pytest.mark.slow
def test_copied_code_of_every_view_gives_the_numbers_on_screen_in_a_fresh_process(
    stored: xr.Dataset, home: Path, tmp_path: Path
) -> None:
    frames = save(video().assign_attrs(key=OTHER), home, OTHER)
    everything: dict[str, Any] = {"open": list(SECTIONS), "pin": [1, 2], "focus": 1, "difference": [0, 2]}
    asked: list[tuple[xr.Dataset, dict[str, Any]]] = [
        *((ds, {"statistic": name}) for ds in (stored, frames) for name in OVERVIEW),
        *((stored, more) for more in ({"sample": 1, "space": "cross"}, {"heads": [0, 2], "head_layer": 4})),
        (stored, {"reduce": "mean", "layers": [1, 3], "timesteps": [500.0, 250.0], "concepts": [0, 2]}),
        (frames, {"frame": 4, "reduce": "mean_softmax"}),
    ]
    shown, codes = [], []
    for ds, more in asked:
        view = wb.explore(ds, state=everything | more)
        shown.append(on_screen(ds, State.from_json(view.state, ds)))
        codes.append(view.code)
    compared = wb.compare(stored, frames, state=everything)
    for view, ds, name in zip(compared.views, (stored, frames), "ab", strict=True):
        shown.append(on_screen(ds, State.from_json(view.state, ds)))
        codes.append(view.code + f"\nassert ds_{name}.attrs['key']")
    text = save_html(stored, tmp_path / "view.html", state=everything).read_text()
    shown.append(on_screen(stored, State.from_json(everything, stored)))
    codes.append(page_code(text))
    panel = wb.ablate(stored)
    panel._run({"mode": "sweep", "form": {"over": ["layer", "timestep"]}})
    panel._worker.join()
    (result,) = panel._results["sweep"]
    shown.append({"found": result.found.mean_iou.to_numpy()})
    codes.append(result.code + "\nfound = found.mean_iou")
    ran = fresh(codes, tmp_path)
    for screen, found, code in zip(shown, ran, codes, strict=True):
        for name, values in screen.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=f"{name} of\n{code}")


def page_code(text: str) -> str:
    """The code that a saved page keeps."""
    facts = re.search(r'<meta name="workbench" content="([^"]*)">', text)
    assert facts is not None
    return str(json.loads(html.unescape(facts[1]))["code"])


def on_screen(ds: xr.Dataset, state: State) -> dict[str, Any]:
    """The numbers that a view shows, by the names that copied code gives them."""
    maps = arrays.maps(state, ds)
    runs = arrays.runs(state, ds)
    one, other = state.difference or (0, 0)
    row, column = state.pin or (0, 0)
    true, area = (count.astype(float) for count in arrays.truth_counts(ds, state))
    measure = OVERVIEW["iou"]
    return {
        "maps": maps if state.concepts is None else maps[list(state.concepts)],
        "areas": arrays.segmentation(state, ds),
        "difference": maps[one] - maps[other],
        "patch": maps[:, row, column],
        "over_layers": runs.layers[np.isfinite(runs.layers).all(-1)],
        "over_timesteps": runs.timesteps[np.isfinite(runs.timesteps).all(-1)],
        "overview": arrays.overview(state, ds),
        "mean_iou": measure.value(*measure(maps[None], Reference(true, area, np.nan)))[0],
        "heads": arrays.head_maps(state, ds),
    }


def fresh(codes: list[str], folder: Path) -> list[dict[str, Any]]:
    """The variables that each piece of code makes in a process of its own."""
    script = f"""
import json, pickle, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
found = []
for code in json.load(open({str(folder / "codes.json")!r})):
    made = {{}}
    exec(code, made)
    kept = {{name: value for name, value in made.items() if hasattr(value, "values") and hasattr(value, "name")}}
    found.append({{name: np.asarray(value) for name, value in kept.items()}})
    if "heads" in made:
        found[-1]["heads"] = np.stack([made["heads"][head] for head in sorted(made["heads"])])
pickle.dump(found, open({str(folder / "found.pickle")!r}, "wb"))
"""
    (folder / "codes.json").write_text(json.dumps(codes))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
    with (folder / "found.pickle").open("rb") as file:
        return list(pickle.load(file))
