from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests.synthetic import dataset
from workbench.widgets.shared.kernel import variable_of


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Those of a notebook."""
    held: dict[str, Any] = {}
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns=held))
    return held


def test_a_variable_holds_that_very_object(variables: dict[str, Any]) -> None:
    one, other = np.zeros(3), np.zeros(3)
    assert variable_of(one, "image") == "image"
    variables.update(_3=one, picture=one, copy=other)
    assert variable_of(one, "image") == "picture"
    variables["image"] = one
    assert variable_of(one, "image") == "image"


def test_without_a_notebook_code_has_the_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    assert variable_of(3, "ds") == "ds"


def test_copied_code_of_every_view_of_datasets_runs_in_their_notebook(
    variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables.update(first=dataset(truth=True), second=dataset(seed=1))
    views = [wb.explore(variables["second"]), *wb.compare(variables["first"], variables["second"]).views]
    for view, name in zip(views, ("second", "first", "second"), strict=True):
        exec(view.code, made := dict(variables))
        xr.testing.assert_identical(made["maps"], variables[name].wb.heatmap(layers=slice(1, 2)))
    panel = wb.ablate(variables["first"])
    assert panel.meta["uses"] == ["first"]
    panel._run({"mode": "sweep", "form": {"over": ["layer", "timestep"]}})
    panel._worker.join()
    (result,) = panel._results["sweep"]
    exec(result.code, made := dict(variables))
    xr.testing.assert_identical(made["found"], result.found)
