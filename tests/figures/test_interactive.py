from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.figures.test_effect_figure import result
from tests.synthetic import dataset
from workbench.analysis.sweeps import sweep as swept
from workbench.figures import SEGMENT_COLOURS, effects, interactive
from workbench.interventions import ScaleHeads, SkipBlock
from workbench.schema import InputError


def traces(figure: Any) -> dict[str, Any]:
    """What is drawn by its name in the legend."""
    return {trace.name: trace for trace in figure.data if trace.showlegend is not False}


def effects_of(names: list[str], **more: Any) -> xr.Dataset:
    """A small result of interventions, with two controls each; the last one is out of reach."""
    values = np.linspace(0.1, 0.3, len(names))
    values[-1] = np.nan
    controls = np.stack([values * 0.5, values * 2], axis=1)
    ranks = np.where(np.isnan(values), np.nan, 0.5)
    return xr.Dataset(
        {
            "mean_map_distance": ("intervention", values),
            "mean_map_distance_control": (("intervention", "repeat"), controls),
            "mean_map_distance_rank": ("intervention", ranks),
        },
        {
            "intervention": names,
            "control": ("intervention", ["direction"] * len(names)),
            "note": ("intervention", ["it acts"] * len(names)),
            "readout_reach": ("intervention", ["behind"] * (len(names) - 1) + ["unreachable"]),
            "concept": ["dog"],
            **more,
        },
        {"kind": "intervention", "readout": [3], "concepts": ["dog"]},
    )


def test_a_curve_says_what_the_sweep_holds() -> None:
    found = swept(dataset(truth=True, samples=5, signal=1), "layer")
    figure = interactive(found)
    drawn = traces(figure)
    np.testing.assert_array_equal(drawn["mean IoU"].x, found["layer"])
    np.testing.assert_array_equal(drawn["mean IoU"].y, found["mean_iou"])
    np.testing.assert_allclose(drawn["all together"].y, float(found["mean_iou_full"]))
    for index, concept in enumerate(("dog", "grass", "sky")):
        np.testing.assert_array_equal(drawn[concept].y, found["iou"].sel(concept=concept))
        assert drawn[concept].line.color == SEGMENT_COLOURS[index]
    (band,) = (trace for trace in figure.data if trace.name == "interval")
    assert min(band.y) == pytest.approx(float(found["mean_iou_interval"].min()))
    low, high = found["mean_iou_interval"].isel(layer=0).to_numpy()
    assert drawn["mean IoU"].text[0] == (
        f"<b>mean IoU</b><br>layer 0: {float(found.mean_iou[0]):.4g}<br>95 % interval {low:.4g} – {high:.4g}"
        "<extra></extra>"
    )
    assert figure.layout.title.text.startswith("post-hoc sweep; output; 3 timesteps; 5 samples")
    assert json.loads(figure.layout.meta["workbench"])["shown"] == "iou"


def test_time_runs_from_noise_to_picture_and_depth_upwards() -> None:
    ds = dataset(truth=True, signal=1)
    assert interactive(swept(ds, "timestep")).layout.xaxis.autorange == "reversed"
    found = swept(ds, ("layer", "timestep"))
    figure = interactive(found, dark=True)
    (cells,) = figure.data
    np.testing.assert_array_equal(cells.z, found["mean_iou"])
    assert figure.layout.yaxis.autorange is True
    assert list(figure.layout.xaxis.ticktext) == [str(time) for time in found["timestep"].to_numpy().astype(int)]
    (frame,) = figure.layout.shapes
    assert found["mean_iou"].to_numpy()[int(frame.y0 + 0.5), int(frame.x0 + 0.5)] == found["mean_iou"].max()
    np.testing.assert_array_equal(interactive(swept(ds, ("timestep", "layer"))).data[0].z, cells.z)


def test_intervals_of_names_are_bars() -> None:
    found = swept(dataset(truth=True, samples=5, signal=1, spaces=("output", "cross")), "space")
    figure = interactive(found)
    assert "interval" not in [trace.name for trace in figure.data]
    mean = traces(figure)["mean IoU"]
    assert mean.mode == "markers"
    np.testing.assert_allclose(mean.y + mean.error_y.array, found["mean_iou_interval"].isel(bound=1))
    lines = traces(interactive(swept(dataset(truth=True, signal=1, spaces=("output", "cross")), ("space", "layer"))))
    assert set(lines) == {"output", "cross"}


def test_many_concepts_wait_in_the_legend() -> None:
    names = tuple(f"word {index}" for index in range(12))
    drawn = traces(interactive(swept(dataset(concepts=names, truth=True, signal=1), "layer")))
    assert all(drawn[name].visible == "legendonly" for name in names)


def test_effects_beside_their_controls() -> None:
    result = effects_of(["SkipBlock(0)", "SkipBlock(1)", "SkipBlock(2)"])
    figure = interactive(result)
    drawn = traces(figure)
    np.testing.assert_allclose(drawn["the edit"].x, result["mean_map_distance"][:2])
    np.testing.assert_allclose(np.sort(drawn["controls"].x), np.sort([0.05, 0.1, 0.2, 0.4]))
    assert drawn["the edit"].text[0] == "<b>SkipBlock(0)</b><br>0.1<br>larger than 50% of its controls<br>it acts"
    (said,) = figure.layout.annotations
    assert (said.y, said.text) == (2, "cannot reach layer 3")
    assert tuple(figure.layout.yaxis.range) == (2.6, -0.6)  # the first one on top


def test_edits_of_layers_run_upwards_and_larger_effects_to_the_right() -> None:
    found = result(SkipBlock(0), SkipBlock(1), SkipBlock(2))
    figure = interactive(found, "map_distance")
    assert tuple(figure.layout.yaxis.range) == (-0.6, 2.6)
    assert figure.layout.xaxis.autorange is None
    assert interactive(found, "psnr").layout.xaxis.autorange == "reversed"
    heads = result(*(ScaleHeads(layer, head) for layer in (1, 3) for head in range(3)))
    first, last = (interactive(heads, name).data[0].colorscale[0][1] for name in ("map_distance", "psnr"))
    assert (first, last) == ("#440154", "#fde725"), "bright where the effect is large"


def test_heads_of_several_blocks_are_a_matrix() -> None:
    names = [f"layer {layer} head {head}" for layer in (0, 1) for head in (0, 1)]
    edits = [
        json.dumps([{"edit": "scale_heads", "layers": [layer], "heads": [head]}]) for layer in (0, 1) for head in (0, 1)
    ]
    (cells,) = interactive(effects_of(names, edits=("intervention", edits))).data
    np.testing.assert_allclose(cells.z, [[0.1, 1 / 6], [0.7 / 3, np.nan]])


def test_names_cannot_be_markup() -> None:
    hostile = "<b onclick=x>%{y}</b>"
    figure = interactive(swept(dataset(concepts=(hostile, "sky"), truth=True, signal=1), "layer"))
    escaped = "&lt;b onclick=x&gt;%{y}&lt;/b&gt;"
    assert escaped in traces(figure)
    assert hostile not in figure.layout.title.text
    shown = interactive(effects_of([hostile, "other"]))
    assert list(shown.layout.yaxis.ticktext) == [escaped, "other"]
    assert hostile not in traces(shown)["the edit"].text[0]


def test_what_cannot_be_drawn() -> None:
    ds = dataset(truth=True, signal=1)
    with pytest.raises(InputError, match=r"no sweep and holds no effects; expected what ds\.wb\.sweep"):
        interactive(ds)
    with pytest.raises(InputError, match=r"this is a DataArray; expected what ds\.wb\.sweep"):
        interactive(ds.wb.overview())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="this sweep has iou"):
        interactive(swept(ds, "layer"), "entropy")
    with pytest.raises(InputError, match="a curve for each concept"):
        interactive(swept(ds, "layer"), concept="dog")
    with pytest.raises(InputError, match="expected one of map_distance"):
        interactive(effects_of(["a", "b"]), "psnr")


def test_a_greedy_sweep_names_what_was_added() -> None:
    found = swept(dataset(truth=True, signal=1, heads=4), "head", "greedy", layers=1)
    first = int(found["head"].to_numpy()[1])
    assert traces(interactive(found))["mean IoU"].text[1].startswith(f"<b>mean IoU</b><br>head {first}, added 2.: ")


def test_an_interval_ends_where_nothing_is_known() -> None:
    found = swept(dataset(truth=True, samples=5, signal=1), "layer")
    gone = found["layer"] != 2
    found = found.assign({name: found[name].where(gone) for name in ("mean_iou", "mean_iou_interval")})
    bands = [trace for trace in interactive(found).data if trace.name == "interval"]
    assert [sorted(set(band.x)) for band in bands] == [[0, 1], [3, 4]]


def test_one_position_has_a_line_for_all_together() -> None:
    found = swept(dataset(truth=True, signal=1).isel(layer=[1]), "layer")
    low, high = traces(interactive(found))["all together"].x
    assert high - low == 1


def test_heads_that_leave_every_picture_are_not_called_out_of_reach() -> None:
    names = [f"layer {layer} head {head}" for layer in (0, 1) for head in (0, 1)]
    edits = [
        json.dumps([{"edit": "scale_heads", "layers": [layer], "heads": [head]}]) for layer in (0, 1) for head in (0, 1)
    ]
    result = effects_of(names, edits=("intervention", edits)).assign(psnr=("intervention", [30.0, np.inf, 25.0, 20.0]))
    shown = interactive(result, "psnr")
    np.testing.assert_array_equal(shown.data[0].z, [[30, np.nan], [25, 20]])
    assert "empty: leaves every picture as it is" in shown.layout.title.text.replace("<br>", " ")
    title = effects(result, "psnr").axes[0].get_title(loc="left").replace("\n", " ")
    assert title.endswith("hatched: leaves every picture as it is")


def test_heads_beyond_all_their_controls_are_framed() -> None:
    names = [f"layer {layer} head {head}" for layer in (0, 1) for head in (0, 1)]
    edits = [
        json.dumps([{"edit": "scale_heads", "layers": [layer], "heads": [head]}]) for layer in (0, 1) for head in (0, 1)
    ]
    result = effects_of(names, edits=("intervention", edits)).drop_dims("repeat")
    result = result.assign(
        mean_map_distance_control=(("intervention", "repeat"), np.full((4, 19), 0.01)),
        mean_map_distance_rank=("intervention", [1.0, 0.9975, 0.5, np.nan]),
    )
    figure = interactive(result)
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.y0) == (-0.5, -0.5)
    assert "larger than 99% of its controls" in figure.data[0].text[0][1]
    assert "framed: larger than all 19 controls" in figure.layout.title.text.replace("<br>", " ")
