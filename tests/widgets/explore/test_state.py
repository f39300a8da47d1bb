from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.synthetic import dataset
from workbench.numerics.measures import OVERVIEW
from workbench.schema import InputError, SelectionError, WorkbenchWarning
from workbench.widgets.explore import arrays
from workbench.widgets.explore.state import COLOUR_MAPS, SECTIONS, State
from workbench.widgets.shared.spaces import dim_of, names_of

PICTURES = dataset(kind="generate", samples=2, spaces=("output", "cross", "prompt"), missing=[(0, 500.0, 3)])
CAPTURE = dataset(samples=2, layers=[0, 1, 3, 4], timesteps=[812.5, 500.0, 333.25, 100.0])


@st.composite
def states(draw: st.DrawFn, ds: xr.Dataset) -> State:
    """Any state that a view of the dataset can be in."""
    space = draw(st.sampled_from([name for name in ("output", "cross", "prompt") if f"{name}_total" in ds]))
    layers = sorted(draw(st.sampled_from(ds.layer.values.tolist())) for _ in range(2))
    timesteps = sorted((draw(st.sampled_from(ds.timestep.values.tolist())) for _ in range(2)), reverse=True)
    position = st.integers(0, len(names_of(ds, space)) - 1)

    def maybe(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | strategy)

    def some(values: st.SearchStrategy[int]) -> Any:
        return maybe(st.lists(values, min_size=1, unique=True).map(lambda found: tuple(sorted(found))))

    return State(
        space=space,
        layers=(layers[0], layers[1]),
        timesteps=(timesteps[0], timesteps[1]),
        heads=some(st.sampled_from(ds["head"].values.tolist())),
        sample=maybe(st.sampled_from(ds["sample"].values.tolist())),
        reduce=draw(st.sampled_from(["softmax_mean", "mean_softmax", "mean"])),
        concepts=some(position),
        difference=maybe(st.tuples(position, position)),
        focus=maybe(position),
        pin=maybe(st.tuples(st.integers(0, 3), st.integers(0, 5))),
        statistic=draw(st.sampled_from(tuple(OVERVIEW))),
        cmap=draw(st.sampled_from(COLOUR_MAPS)),
        opacity=draw(st.floats(0, 1)),
        smooth=draw(st.booleans()),
        picture=draw(st.booleans()),
        limits=maybe(st.tuples(st.floats(-1, 0), st.floats(0, 1))),
        head_layer=maybe(st.sampled_from(ds.layer.values.tolist())),
        open=tuple(draw(st.lists(st.sampled_from(SECTIONS), unique=True))),
    )


@pytest.mark.slow
@pytest.mark.parametrize("ds", [PICTURES, CAPTURE], ids=["generate", "capture"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_state_survives_json(ds: xr.Dataset, data: st.DataObject) -> None:
    state = data.draw(states(ds))
    assert State.from_json(json.loads(json.dumps(state.to_json())), ds) == state


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::workbench.schema.WorkbenchWarning")
@pytest.mark.parametrize("ds", [PICTURES, CAPTURE], ids=["generate", "capture"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_copied_code_gives_the_numbers_on_screen(ds: xr.Dataset, data: st.DataObject) -> None:
    state = data.draw(states(ds))
    ran: dict[str, Any] = {"ds": ds}
    try:
        maps = arrays.maps(state, ds)
    except SelectionError:
        with pytest.raises(SelectionError):
            exec(state.call(ds), ran)
        return
    exec(state.call(ds), ran)
    dim = dim_of(state.space)
    shown = list(state.concepts) if state.concepts is not None else slice(None)
    np.testing.assert_array_equal(ran["maps"].transpose(dim, "y", "x").to_numpy(), maps[shown])
    np.testing.assert_array_equal(ran["areas"].transpose("y", "x").to_numpy(), arrays.segmentation(state, ds))
    np.testing.assert_array_equal(ran["areas"].to_numpy(), maps.argmax(0))
    if state.difference is not None:
        one, other = state.difference
        np.testing.assert_array_equal(ran["difference"].transpose("y", "x").to_numpy(), maps[one] - maps[other])
    if state.pin is not None and "patch" in state.open:
        row, column = state.pin
        np.testing.assert_array_equal(ran["patch"].to_numpy(), maps[:, row, column])
        for kept, values in arrays.runs(state, ds)._asdict().items():
            curve = ran[f"over_{kept}"].reindex({kept[:-1]: ds[kept[:-1]]}).transpose(kept[:-1], dim)
            np.testing.assert_array_equal(curve.to_numpy(), values)


@pytest.mark.parametrize("statistic", OVERVIEW)
def test_the_copied_code_gives_the_numbers_of_the_overview(statistic: str) -> None:
    single, several = (dataset(truth=True, signal=1.0, samples=n, missing=((0, 500.0, 2),)) for n in (1, 2))
    for ds, values in ((single, {"space": "cross"}), (several, {}), (several, {"sample": 1})):
        state = State.from_json({"statistic": statistic, "open": ["overview"], **values}, ds)
        exec(state.call(ds), ran := {"ds": ds})
        np.testing.assert_array_equal(ran["overview"].to_numpy().astype(np.float32), arrays.overview(state, ds))


def test_the_copied_code_gives_the_maps_of_the_heads() -> None:
    ds = dataset(samples=2, heads=3)
    state = State.from_json({"open": ["heads"], "focus": 2, "head_layer": 4, "reduce": "mean", "sample": 1}, ds)
    exec(state.call(ds), ran := {"ds": ds})
    np.testing.assert_array_equal([ran["heads"][head] for head in range(3)], arrays.head_maps(state, ds))
    sums = ds.drop_vars("output")
    assert "heads" not in State.from_json({"open": ["heads"]}, sums).call(sums)


@pytest.mark.parametrize("ds", [dataset(), dataset(default_layers=(2,), timesteps=[500.0])], ids=["several", "single"])
def test_the_default_is_the_default_heat_map(ds: xr.Dataset) -> None:
    expected = ds.wb.heatmap().transpose("concept", "y", "x").to_numpy()
    np.testing.assert_array_equal(arrays.maps(State.default(ds), ds), expected)


def test_the_default_suits_the_dataset() -> None:
    assert State.default(PICTURES).sample == 0
    assert State.default(CAPTURE).sample is None
    assert State.default(dataset(concepts=["dog"])).reduce == "mean"
    assert State.default(dataset(default_layers=(), layers=[2, 4])).layers == (2, 4)
    assert State.default(dataset(concepts=[f"c{i}" for i in range(20)])).concepts == tuple(range(12))
    assert State.from_json({}, CAPTURE) == State.default(CAPTURE)


def test_values_are_brought_in_order() -> None:
    state = State.from_json({"layers": [4, 1], "timesteps": [100, 500], "heads": [1, 0, 1], "opacity": 3}, CAPTURE)
    assert (state.layers, state.timesteps, state.heads, state.opacity) == ((1, 4), (500.0, 100.0), (0, 1), 1.0)
    assert State.from_json({"timesteps": [820, 490]}, CAPTURE).timesteps == (812.5, 500.0)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([1], InputError, "a list; expected a mapping"),
        ({"layer": [1, 2]}, InputError, "did you mean 'layers'"),
        ({"zzz": 1}, InputError, "it has space, layers"),
        ({"space": "value"}, SelectionError, "holds output, cross"),
        ({"space": ["output"]}, SelectionError, "does not exist"),
        ({"layers": [2, 3]}, SelectionError, "layer 2 does not exist; it has 0, 1, 3, 4"),
        ({"layers": 3}, InputError, "expected a list"),
        ({"layers": [0, 1, 3]}, InputError, "expected two values"),
        ({"layers": [0.5, 1]}, InputError, "expected a whole number"),
        ({"layers": [True, 1]}, InputError, "expected a whole number"),
        ({"timesteps": [700, 100]}, SelectionError, "no timestep within 25 of 700"),
        ({"timesteps": ["a", 100]}, InputError, "finite number"),
        ({"timesteps": [float("nan"), 100]}, InputError, "finite number"),
        ({"heads": []}, InputError, "heads is empty"),
        ({"heads": "all"}, InputError, "expected a list"),
        ({"heads": [2]}, SelectionError, "head 2 does not exist"),
        ({"sample": 2}, SelectionError, "sample 2 does not exist"),
        ({"frame": 0}, SelectionError, "frame 0 does not exist; it has none"),
        ({"reduce": "max"}, InputError, "softmax_mean"),
        ({"concepts": [3]}, SelectionError, "concept position 3"),
        ({"difference": [0]}, InputError, "two values"),
        ({"focus": -1}, SelectionError, "concept position -1"),
        ({"pin": [4, 0]}, SelectionError, "y 4 does not exist"),
        ({"pin": [0, 6]}, SelectionError, "x 6 does not exist"),
        ({"statistic": None}, InputError, "patch_agreement"),
        ({"cmap": "jet"}, InputError, "viridis"),
        ({"opacity": "1"}, InputError, "finite number"),
        ({"smooth": 1}, InputError, "True or False"),
        ({"limits": [0, float("inf")]}, InputError, "finite number"),
        ({"open": ["all"]}, InputError, "overview"),
    ],
)
def test_what_does_not_fit_is_refused(values: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        State.from_json(values, CAPTURE)


def test_heads_need_per_head_scores() -> None:
    with pytest.raises(SelectionError, match="sums over heads of 'output'"):
        State.from_json({"heads": [0]}, CAPTURE.drop_vars("output"))


def test_a_statistics_former_name_is_taken_with_a_warning() -> None:
    with pytest.warns(WorkbenchWarning, match="statistic='agreement' is called 'patch_agreement' now"):
        state = State.from_json({"statistic": "agreement"}, CAPTURE)
    assert state == State.default(CAPTURE)
