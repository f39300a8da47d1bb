from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.synthetic import dataset
from workbench import figures
from workbench.analysis.metrics import score
from workbench.analysis.sweeps import sweep
from workbench.schema import InputError

DS = dataset(truth=True, signal=2.0, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_score_over_the_band_of_its_null(dark: bool) -> None:
    found = score(DS, null="patches", repeats=50, center="patch")
    figure = figures.score(found, dark=dark)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["dog", "grass", "sky", "mean"]
    heights = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(heights, [*found["iou"].values, float(found["mean_iou"])])
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
    np.testing.assert_allclose(bars[-1], np.quantile(found["mean_iou_null"], [0.025, 0.975]))
    title = ax.get_title(loc="left").replace("\n", " ")
    assert title == "output; centred by patch; grey: patches of the same maps, shuffled (50 repeats)"
    figure.savefig(io.BytesIO(), format="pdf")


def test_a_null_of_few_draws_spans_them_all_and_none_is_no_band() -> None:
    found = score(DS, null="concepts")
    bars = figures.score(found).axes[0].patches
    ends = found["mean_iou_null"]
    assert bars[-1].get_y() == pytest.approx(float(ends.min()))
    assert bars[-1].get_y() + bars[-1].get_height() == pytest.approx(float(ends.max()))
    assert not figures.score(score(DS)).axes[0].patches


def test_long_names_leave_room_and_what_is_nowhere_says_so() -> None:
    names = ["a very long name of a concept that goes on and on", "Donaudampfschifffahrtsgesellschaftskapitän", "x"]
    found = score(dataset(truth=True, concepts=names))
    found["iou"][2] = np.nan
    found["mean_iou"] = found["iou"].mean()
    figure = figures.score(found)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (ax,) = figure.axes
    box, plot = figure.get_tightbbox(canvas.get_renderer()), ax.get_position()
    assert box.y0 > -0.02
    assert box.y1 < figure.get_figheight() + 0.02
    assert plot.height * figure.get_figheight() > 1
    assert [text.get_text() for text in ax.texts] == ["nowhere"]


def test_a_mean_over_other_concepts_is_refused() -> None:
    with pytest.raises(InputError, match="holds dog, grass alone, but its mean is over other concepts"):
        figures.score(score(dataset(truth=True)).isel(concept=[0, 1]))


def test_a_sweep_over_the_band_of_a_null() -> None:
    null = score(DS, null="patches", repeats=50)
    ax = figures.sweep(sweep(DS, "layer"), null=null).axes[0]
    (band,) = (patch for patch in ax.patches if patch.get_label() == "null")
    low, high = np.quantile(null["mean_iou_null"], [0.025, 0.975])
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))
    assert "centred by patch" in figures.sweep(sweep(DS, "layer", center="patch")).axes[0].get_title(loc="left")


def test_what_does_not_fit_is_refused() -> None:
    null = score(DS, null="patches", repeats=5)
    with pytest.raises(InputError, match="this dataset is no score"):
        figures.score(DS)
    with pytest.raises(InputError, match="this sweep is a matrix"):
        figures.sweep(sweep(DS, ("layer", "timestep")), null=null)
    with pytest.raises(InputError, match="null has no repeats of 'mean_ap'"):
        figures.sweep(sweep(DS, "layer", metric="ap"), null=null)
    with pytest.raises(InputError, match="over 2 images, and a null is of one"):
        figures.sweep(sweep([DS, DS], "layer"), null=null)


def test_a_figure_says_of_which_run_it_is() -> None:
    facts = figures.score(score(DS.assign_attrs(key="abc123"), layers=1)).facts
    assert (facts["key"], facts["result"]["layers"]) == ("abc123", [1])


def test_the_edit_of_the_run_stands_above_its_score() -> None:
    found = dataset(truth=True).assign_attrs(edit="SkipBlock(3)").wb.score()
    assert "edited: SkipBlock(3)" in figures.score(found).axes[0].get_title(loc="left")
