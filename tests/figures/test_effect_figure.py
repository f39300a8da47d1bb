from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from workbench.figures import PaperFigure, effects, effects_by_layer
from workbench.interventions import Intervention, MaskText, ScaleHeads, SkipBlock
from workbench.schema import InputError, WorkbenchWarning


def result(*edits: Intervention, draws: int = 4, **attrs: object) -> xr.Dataset:
    """What `intervene` returns, with effects 0.1, 0.2, ... and controls around 0.15."""
    count = len(edits)
    values = 0.1 * np.arange(1, count + 1)
    ds = xr.Dataset(
        {"mean_map_distance": ("intervention", values), "psnr": ("intervention", 40 - 10 * values)},
        coords={
            "intervention": [str(edit) for edit in edits],
            "control": ("intervention", ["direction"] * count),
            "edits": ("intervention", [json.dumps([edit.as_dict()]) for edit in edits]),
        },
        attrs={"kind": "intervention", "plan": json.dumps([[edit.as_dict()] for edit in edits])} | attrs,
    )
    if not draws:
        return ds
    controls = np.tile(np.linspace(0.12, 0.18, draws), (count, 1))
    return ds.assign(
        mean_map_distance_control=(("intervention", "repeat"), controls),
        psnr_control=(("intervention", "repeat"), 40 - 10 * controls),
        mean_map_distance_rank=("intervention", (controls < values[:, None]).mean(axis=1)),
        psnr_rank=("intervention", (controls < values[:, None]).mean(axis=1)),
    )


def dots(figure: PaperFigure) -> np.ndarray:
    (collection,) = [c for c in figure.axes[0].collections if type(c).__name__ == "PathCollection"]
    return np.asarray(collection.get_offsets())


def test_each_intervention_has_a_row_with_its_effect_and_its_control() -> None:
    found = result(SkipBlock(0), SkipBlock(1), MaskText(1, tokens=2))
    figure = effects(found, "mean_map_distance")
    np.testing.assert_allclose(dots(figure), [[0.1, 0], [0.2, 1], [0.3, 2]])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == found.intervention.values.tolist()
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(bars, [[0.12, 0.18]] * 3)
    assert "random directions of the same size, 4 repeats" in ax.get_title(loc="left").replace("\n", " ")


def test_the_effect_is_psnr_or_what_the_result_was_sorted_by() -> None:
    assert effects(result(SkipBlock(0))).axes[0].get_xlabel() == "PSNR of the picture, dB (lower: larger effect)"
    by_maps = result(SkipBlock(0), sorted_by="mean_map_distance")
    assert effects(by_maps).axes[0].get_xlabel() == "mean absolute difference of the maps"


def test_effects_without_controls_or_without_a_number_are_drawn() -> None:
    bare = result(SkipBlock(0), SkipBlock(1), draws=0)
    assert len(dots(effects(bare))) == 2
    equal = result(SkipBlock(0), SkipBlock(1))
    equal["psnr"][0] = np.inf
    figure = effects(equal)
    np.testing.assert_allclose(dots(figure), [[38, 1]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["leaves every picture as it is"]


def shifted(*edits: Intervention) -> xr.Dataset:
    """The same with a shift of the IoU of two concepts, -0.1, -0.2, ... and 0."""
    found = result(*edits)
    shift = xr.DataArray([1.0, 0.0], coords={"concept": ["dog", "<sky> & sea"]}) * -found.mean_map_distance
    drawn = shift * 0 + xr.DataArray([-0.05, 0.05], dims="repeat")
    named = {"iou_shift": shift, "iou_shift_control": drawn, "iou_shift_rank": abs(shift) / 2}
    means = {f"mean_{name}": values.mean("concept") for name, values in named.items()}
    return found.drop_dims("repeat").assign(named | means)


def test_shifts_of_the_iou_are_drawn_around_zero_for_all_concepts_and_for_one() -> None:
    found = shifted(SkipBlock(0), SkipBlock(1))
    for options, expected in (({}, [-0.05, -0.1]), ({"concept": "dog"}, [-0.1, -0.2])):
        figure = effects(found, "iou_shift", **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(dots(figure)[:, 0], expected)
        (zero,) = figure.axes[0].lines
        np.testing.assert_array_equal(zero.get_xdata(), [0, 0])
        np.testing.assert_allclose([bar.get_width() for bar in figure.axes[0].patches], 0.1)
    label = figure.axes[0].get_xlabel().replace("\n", " ")
    assert label == "shift of the IoU of “dog” with the unedited run"
    heads = effects(shifted(*(ScaleHeads(layer, head) for layer in (1, 3) for head in (0, 1))), "mean_iou_shift")
    assert heads.axes[0].images[0].get_clim() == pytest.approx((-0.2, 0.2))


def test_heads_of_several_blocks_make_a_matrix_that_frames_what_is_beyond_the_controls() -> None:
    heads = [ScaleHeads(layer, head) for layer in (1, 3) for head in range(3)]
    figure = effects(result(*heads, draws=19), "mean_map_distance")
    ax = figure.axes[0]
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "3"]
    assert not ax.yaxis_inverted(), "upwards is deeper"
    frames = {(round(patch.get_x() + 0.46), round(patch.get_y() + 0.46)) for patch in ax.patches}
    assert frames == {(1, 0), (2, 0), (0, 1), (1, 1), (2, 1)}
    assert "framed: larger than all 19 controls" in ax.get_title(loc="left").replace("\n", " ")


def test_few_controls_frame_nothing() -> None:
    ax = effects(result(*(ScaleHeads(layer, head) for layer in (1, 3) for head in range(3))), "mean_map_distance").axes[
        0
    ]
    assert not ax.patches
    assert "framed" not in ax.get_title(loc="left")


def test_a_frame_counts_the_controls_of_its_own_edit() -> None:
    """Of edits with fewer distinct controls the rest of the repeats is empty."""
    found = result(*(ScaleHeads(layer, head) for layer in (1, 3) for head in range(3)), draws=20)
    found["mean_map_distance_control"][1, 2:] = np.nan
    found["mean_map_distance_control"][5, 19:] = np.nan
    ax = effects(found, "mean_map_distance").axes[0]
    frames = {(round(patch.get_x() + 0.46), round(patch.get_y() + 0.46)) for patch in ax.patches}
    assert frames == {(2, 0), (0, 1), (1, 1), (2, 1)}
    title = ax.get_title(loc="left").replace("\n", " ")
    found["mean_map_distance_control"][4] = np.nan  # out of reach
    assert "2 to 20 repeats" in title
    assert "framed: larger than all 19 or more controls" in title


def reached(**attrs: object) -> xr.Dataset:
    """The same, read by layer: one edit of two that act behind and in what is read, and one that is out of reach."""
    found = result(SkipBlock(0), ScaleHeads(2, 1), SkipBlock(2), readout=[2], **attrs)
    kinds = [["skipped", "downstream", "downstream"], ["unreachable"] * 2 + ["own"], ["unreachable"] * 2 + ["skipped"]]
    matrix = np.array([[np.nan, 0.2, 0.1], [np.nan, np.nan, 0.2], [np.nan] * 3])
    return found.assign_coords(
        read_layer=range(3),
        reach=(("intervention", "read_layer"), kinds),
        readout_reach=("intervention", ["downstream", "own", "skipped"]),
    ).assign(
        mean_map_distance=("intervention", matrix[:, 2]),
        mean_map_distance_by_layer=(("intervention", "read_layer"), matrix),
    )


def test_what_is_read_inside_the_edited_layer_is_open_and_what_is_out_of_reach_says_so() -> None:
    ax = effects(reached(), "map_distance").axes[0]
    faces = {text.get_label(): tuple(text.get_facecolors()[0]) for text in ax.collections if text.get_label()[0] != "_"}
    assert faces["the edit, read in a layer that it acts in"] == (1, 1, 1, 1) != faces["the edit"]
    assert [text.get_text() for text in ax.texts] == ["leaves out what is read (layer 2)"]
    assert "maps of layer 2" in ax.get_title(loc="left").replace("\n", " ")


def test_a_matrix_shows_every_layer_that_was_read() -> None:
    ax = effects_by_layer(reached()).axes[0]
    np.testing.assert_array_equal(np.ma.filled(ax.images[0].get_array(), np.nan)[:2, 1:], [[0.2, 0.1], [np.nan, 0.2]])
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    framed = [(patch.get_x() + 0.43, patch.get_y() + 0.43) for patch in ax.patches if not patch.get_hatch()]
    assert len(hatched) == 6
    assert framed == [(2, 1)]
    assert [line.get_xdata()[0] for line in ax.lines] == [2], "the read-out"
    with pytest.raises(InputError, match="not read by layer"):
        effects_by_layer(result(SkipBlock(0)))


@pytest.mark.parametrize("draw", [effects, effects_by_layer])
def test_edits_of_layers_are_drawn_upwards_and_lists_downwards(draw: Any) -> None:
    assert not draw(reached(), "map_distance").axes[0].yaxis_inverted(), "upwards is deeper"
    assert draw(reached(sorted_by="mean_map_distance")).axes[0].yaxis_inverted(), "a ranking"
    listed = reached().isel(intervention=[1, 0, 2])
    assert draw(listed, "map_distance").axes[0].yaxis_inverted(), "a list"
    one = reached().isel(intervention=[0])
    assert draw(one, "map_distance").axes[0].yaxis_inverted()


def test_a_matrix_of_some_of_the_layers_marks_those_of_the_read_out_that_are_there() -> None:
    assert len(effects_by_layer(reached()).axes[0].lines) == 1
    part = effects_by_layer(reached().isel(read_layer=[0, 1]))
    assert not part.axes[0].lines
    one = effects_by_layer(reached().isel(read_layer=[2], intervention=[0]))
    canvas = FigureCanvasAgg(one)
    canvas.draw()
    assert one.get_tightbbox(canvas.get_renderer()).x1 < one.get_figwidth() + 0.02


def test_results_of_the_release_before_are_drawn_with_a_warning() -> None:
    old = result(SkipBlock(0), SkipBlock(1)).rename(repeat="draw")
    with pytest.warns(WorkbenchWarning, match="'draw' of this result is called 'repeat' now"):
        assert len(dots(effects(old))) == 2


@pytest.mark.slow
def test_a_long_name_is_cut_and_stays_inside_the_figure(tmp_path: Path) -> None:
    figure = effects(result(MaskText([0, 2, 4, 6, 8, 10, 12, 14], tokens=[1, 3, 5, 7, 9, 11])), dark=True)
    (label,) = figure.axes[0].get_yticklabels()
    assert label.get_text().endswith("…")
    figure.savefig(tmp_path / "effects.pdf")
    assert label.get_window_extent().x0 >= 0


@pytest.mark.parametrize(
    ("ds", "options", "message"),
    [
        (xr.Dataset(), {}, "no interventions"),
        (result(SkipBlock(0)), {"effect": "iou"}, "map_distance, psnr"),
        (shifted(SkipBlock(0)), {"effect": "psnr", "concept": "dog"}, "not by concept; expected iou_shift"),
        (shifted(SkipBlock(0)), {"effect": "iou_shift", "concept": "cat"}, "expected one of dog"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ds: xr.Dataset, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        effects(ds, **options)


def test_a_matrix_follows_its_interventions_when_they_are_sorted() -> None:
    edits = [ScaleHeads(layer, head, 0) for layer in (0, 1) for head in (0, 1)]
    whole = result(*edits)
    drawn = effects(whole).axes[0].images[0].get_array()
    for order in ([3, 1, 0, 2], [2, 3, 0, 1]):
        np.testing.assert_array_equal(effects(whole.isel(intervention=order)).axes[0].images[0].get_array(), drawn)
    part = effects(whole.isel(intervention=[3, 0, 1])).axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(part, np.nan)[1, 1], drawn[1, 1])
    assert np.isnan(np.ma.filled(part, np.nan)[1, 0])


def test_parts_of_a_result_are_drawn_or_refused() -> None:
    whole = result(SkipBlock(0), SkipBlock(1))
    assert len(dots(effects(whole.isel(intervention=1)))) == 1
    assert len(dots(effects(whole.transpose(*sorted(map(str, whole.dims)))))) == 2
    for part in (whole.isel(intervention=0, drop=True), whole.mean("intervention")):
        with pytest.raises(InputError, match="a figure needs intervention"):
            effects(part)


@pytest.mark.parametrize("draw", [effects, effects_by_layer])
def test_a_figure_says_of_which_run_and_what_was_asked(draw: Any) -> None:
    origin = json.dumps({"key": "abc123", "model": "made-up", "concepts": ["dog"]})
    facts = draw(reached().assign_attrs(origin=origin, controls="[1]"), "map_distance").facts
    assert (facts["key"], facts["model"]) == ("abc123", "made-up")
    assert facts["result"]["plan"][0][0]["edit"] == "SkipBlock"
    assert "controls" not in facts["result"]
    assert facts["shown"].startswith("mean absolute difference of the maps")
