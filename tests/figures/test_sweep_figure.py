from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.synthetic import dataset
from workbench.analysis.adding_truth import truth_hash
from workbench.analysis.sweeps import sweep as swept
from workbench.figures import SEGMENT_COLOURS, sweep
from workbench.schema import InputError, WorkbenchWarning


def lines(figure: Figure) -> dict[str, Any]:
    """The curves by their name in the legend."""
    return {str(line.get_label()): line for line in figure.axes[0].get_lines()}


def ticks(ax: Axes, axis: str = "x") -> list[str]:
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_a_curve_with_its_band_and_the_full_map() -> None:
    found = swept(dataset(truth=True, samples=5, signal=1), "layer")
    figure = sweep(found)
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["mean"].get_ydata(), found["mean_iou"])
    np.testing.assert_allclose(drawn["mean"].get_xdata(), found["layer"])
    np.testing.assert_allclose(drawn["all together"].get_ydata(), float(found["mean_iou_full"]))
    for index, concept in enumerate(("dog", "grass", "sky")):
        np.testing.assert_allclose(drawn[concept].get_ydata(), found["iou"].sel(concept=concept))
        assert to_hex(drawn[concept].get_color()).upper() == SEGMENT_COLOURS[index]
    (band,) = figure.axes[0].collections
    edge = band.get_paths()[0].vertices[:, 1]
    assert edge.min() == pytest.approx(float(found["mean_iou_interval"].min()))
    assert edge.max() == pytest.approx(float(found["mean_iou_interval"].max()))
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer (each alone)", "mean IoU")
    title = ax.get_title(loc="left").replace("\n", " ")
    assert title == "post-hoc sweep; output; 3 timesteps; 5 samples, 95 % intervals, exploratory (under 10)"
    few = sweep(swept(dataset(truth=True, samples=4, signal=1), "layer")).axes[0].get_title(loc="left")
    assert few.replace("\n", " ").endswith("4 samples, too few for intervals (under 5)")
    assert "dog" not in lines(sweep(found, concepts=False))


def test_a_t_interval_lies_around_the_mean_that_it_is_of() -> None:
    found = swept(dataset(truth=True, samples=6, signal=1), "layer", interval="t")
    assert not np.allclose(found["mean_iou_each"], found["mean_iou"])
    figure = sweep(found)
    drawn = lines(figure)
    low, high = found["mean_iou_interval"].values
    np.testing.assert_allclose(drawn["mean"].get_ydata(), (low + high) / 2)
    np.testing.assert_allclose(drawn["dog"].get_ydata(), found["iou_each"].sel(concept="dog"))
    np.testing.assert_allclose(drawn["all together"].get_ydata(), float(found["mean_iou_full_each"]))
    assert figure.axes[0].get_ylabel().replace("\n", " ") == "mean IoU, mean over samples"


def test_long_names_leave_room_for_the_curves() -> None:
    names = ["a very long name of a concept that goes on and on", "Donaudampfschifffahrtsgesellschaftskapitän"]
    figure = sweep(swept(dataset(truth=True, concepts=names), "layer"))
    FigureCanvasAgg(figure).draw()
    assert figure.axes[0].get_position().width > 0.5


def test_one_sample_has_no_band() -> None:
    figure = sweep(swept(dataset(truth=True), "layer", metric=["iou", "entropy"]), "entropy")
    assert not figure.axes[0].collections
    assert set(lines(figure)) == {"_child0", "all together"}
    assert figure.axes[0].get_ylabel() == "entropy"


def test_timesteps_run_from_noisy_to_clean() -> None:
    ax = sweep(swept(dataset(), "timestep", "prefix")).axes[0]
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert ax.get_xlabel() == "timestep (all up to it)"
    assert ax.get_ylabel().replace("\n", " ") == "mean IoU with the full map"


def test_greedy_names_what_was_added() -> None:
    found = swept(dataset(truth=True, samples=2), ("layer", "timestep"), "greedy", most=3)
    figure = sweep(found)
    added = [f"{layer} / {time:g}" for layer, time in zip(found["layer"].values, found["timestep"].values, strict=True)]
    assert ticks(figure.axes[0]) == added
    assert any(isinstance(collection, LineCollection) for collection in figure.axes[0].collections)
    assert figure.axes[0].get_xlabel() == "layer / timestep added, best first"


def test_spaces_are_points_or_curves_of_their_own() -> None:
    ds = dataset(truth=True, samples=2)
    alone = sweep(swept(ds, "space"), concepts=False)
    assert ticks(alone.axes[0]) == ["output", "cross"]
    assert lines(alone)["mean"].get_linestyle() == "None"
    assert {line.get_linestyle() for line in lines(sweep(swept(ds, "space"))).values()} == {"None", "--"}, "no order"
    found = swept(ds, ("layer", "space"))
    curves = lines(sweep(found))
    assert set(curves) == {"output", "cross"}
    np.testing.assert_allclose(curves["cross"].get_ydata(), found["mean_iou"].sel(space="cross"))


@pytest.mark.parametrize("metric", ["iou", "entropy"])
def test_a_matrix_frames_its_best_cell(metric: str) -> None:
    found = swept(dataset(truth=True), ("layer", "timestep"), metric=metric)
    values = found["mean_iou" if metric == "iou" else metric]
    figure = sweep(found)
    ax, bar = figure.axes
    np.testing.assert_allclose(ax.get_images()[0].get_array(), values)
    assert ticks(ax) == ["750", "500", "250"]
    assert ticks(ax, "y") == ["0", "1", "2", "3", "4"]
    assert not ax.yaxis_inverted(), "upwards is deeper"
    (frame,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    y, x = (round(position + 0.5) for position in reversed(frame.get_xy()))
    assert float(values[y, x]) == float(values.max() if metric == "iou" else values.min())
    assert bar.get_ylabel() == ("mean IoU" if metric == "iou" else "entropy")
    assert len(ax.texts) == 15


def test_a_matrix_has_layers_upwards_and_time_to_the_right_however_it_was_asked_for() -> None:
    ds = dataset(truth=True)
    usual = sweep(swept(ds, ("layer", "timestep"))).axes[0]
    for found in (swept(ds, ("timestep", "layer")), swept(ds, ("layer", "timestep"), timesteps=[250, 500, 750])):
        ax = sweep(found).axes[0]
        np.testing.assert_allclose(ax.get_images()[0].get_array(), usual.get_images()[0].get_array())
        assert (ticks(ax), ticks(ax, "y")) == (ticks(usual), ticks(usual, "y"))
        assert not ax.yaxis_inverted()


def test_a_matrix_shows_no_intervals_and_speaks_of_none() -> None:
    ax = sweep(swept(dataset(truth=True, samples=2), ("layer", "timestep"))).axes[0]
    assert ax.get_title(loc="left").replace("\n", " ") == "post-hoc sweep; output; 2 samples"


def test_what_is_missing_stays_empty() -> None:
    ds = dataset(truth=True, missing=[(0, 500.0, 2)])
    ax = sweep(swept(ds, ("layer", "timestep"))).axes[0]
    assert len(ax.texts) == 14
    assert np.ma.getmaskarray(ax.get_images()[0].get_array()).sum() == 1
    assert [(patch.get_x(), patch.get_y()) for patch in ax.patches if patch.get_hatch()] == [(0.5, 1.5)]
    gone = [(0, time, 2) for time in (750.0, 500.0, 250.0)]
    drawn = lines(sweep(swept(dataset(truth=True, missing=gone), "layer")))
    assert np.isnan(drawn["mean"].get_ydata()[2])


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off(dark: bool) -> None:
    many = [f"a rather long word {index}" for index in range(6)]
    ds = dataset(truth=True, samples=2, concepts=many, grid=(6, 12), timesteps=np.linspace(1000, 10, 28).tolist())
    for found in (swept(ds, "timestep"), swept(ds, ("layer", "timestep")), swept(ds, "timestep", "greedy", most=14)):
        figure = sweep(found, dark=dark)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
        assert box.x0 > -0.02
        assert box.y0 > -0.02
        assert box.x1 < figure.get_figwidth() + 0.02
        assert box.y1 < figure.get_figheight() + 0.02
        red, green, blue, _ = figure.get_facecolor()
        assert (red + green + blue < 1) == dark


def test_files(tmp_path: Any) -> None:
    figure = sweep(swept(dataset(truth=True, samples=2), "layer"))
    figure.savefig(tmp_path / "sweep.pdf")
    written = (tmp_path / "sweep.pdf").read_bytes()
    assert b"/CIDFontType2" in written
    assert b"/Type3" not in written


def test_what_is_no_sweep_is_refused() -> None:
    with pytest.raises(InputError, match=r"no sweep; pass what ds\.wb\.sweep\(\.\.\.\) returned"):
        sweep(xr.Dataset())
    with pytest.raises(InputError, match="metric is 'ap'; this sweep has iou, entropy"):
        sweep(swept(dataset(truth=True), "layer", metric=["iou", "entropy"]), "ap")


def test_the_caption_says_what_was_edited_in_the_runs() -> None:
    edited = dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": [9]}])

    def caption(data: Any) -> str:
        return sweep(swept(data, "layer"), width=9).axes[0].get_title(loc="left").replace("\n", " ")

    assert "edited: SkipBlock(9);" in caption(edited)
    assert "edited: none or SkipBlock(9);" in caption([dataset(), edited])
    assert "edited" not in caption(dataset())


def test_parts_of_a_sweep_are_drawn_or_refused() -> None:
    found = dataset(truth=True, samples=2).wb.sweep(("layer", "timestep"), resamples=3)
    matrix = sweep(found).axes[0].images[0].get_array()
    turned = sweep(found.transpose(*sorted(map(str, found.dims)))).axes[0].images[0].get_array()
    np.testing.assert_array_equal(turned, matrix)
    np.testing.assert_array_equal(sweep(found.isel(layer=2)).axes[0].images[0].get_array(), matrix[[2]])
    with pytest.raises(InputError, match="a figure needs layer, timestep"):
        sweep(found.mean("layer"))
    with pytest.raises(InputError, match="holds dog alone, but its means are over dog, grass, sky"):
        sweep(found.sel(concept="dog"))
    assert sweep(dataset().wb.sweep("timestep", "greedy").isel(rank=[0]))


def test_sweeps_of_earlier_versions_and_former_names_of_metrics() -> None:
    found = swept(dataset(), "layer")
    names = {name: str(name).replace("full_map_iou", "agreement") for name in found.data_vars}
    earlier = found.rename(names).assign_attrs(metrics=["agreement"])
    drawn = sweep(found).axes[0]
    with pytest.warns(WorkbenchWarning, match="metric='agreement' is called 'full_map_iou' now"):
        renamed = sweep(found, "agreement").axes[0]
    for ax in (sweep(earlier).axes[0], sweep(earlier, "agreement").axes[0], renamed):
        assert ax.get_ylabel() == drawn.get_ylabel()
        assert len(ax.lines) == len(drawn.lines)


def test_a_figure_says_of_which_run_with_which_truth_and_what_was_asked() -> None:
    ds = dataset(truth=True).assign_attrs(key="abc123", interventions=[{}], edit="X(1)", image_hash="f00")
    facts = sweep(swept(ds, "layer", timesteps=500)).facts
    assert (facts["key"], facts["edit"], facts["image_hash"]) == ("abc123", "X(1)", "f00")
    assert (facts["result"]["over"], facts["result"]["timesteps"]) == (["layer"], [500.0])
    assert (facts["shown"], facts["result"]["truth_hash"]) == ("iou", truth_hash(ds))
    several = sweep(swept([ds, ds.assign_attrs(key="def456")], "layer")).facts
    assert several["runs"] == [{"key": "abc123"}, {"key": "def456"}]
    assert several["edit"] == "X(1)"


def test_a_null_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="null has no repeats of 'mean_iou'; pass what"):
        sweep(swept(dataset(truth=True), "layer"), null=3)  # type: ignore[arg-type]
