from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap, segment
from workbench.figures import SEGMENT_COLOURS, concept_grid
from workbench.schema import InputError, SelectionError

LONG = ["a very long concept name that goes on and on", "Donaudampfschifffahrtsgesellschaftskapitän", "$x_1$ _ % #"]


def panels(figure: Figure) -> dict[str, Axes]:
    """The panels by title; the colour bar has none."""
    return {ax.get_title().replace("\n", " "): ax for ax in figure.axes if ax.get_title()}


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def pixels(figure: Figure, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_one_panel_for_each_thing() -> None:
    figure = concept_grid(dataset(truth=True, signal=5.0))
    assert isinstance(figure, Figure)
    assert list(panels(figure)) == ["picture", "dog", "grass", "sky", "segmentation", "truth"]
    assert len(figure.axes) == 7
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dog", "grass", "sky"]
    assert list(panels(concept_grid(dataset(), concepts=["sky"], segmentation=False))) == ["picture", "sky"]
    assert "truth" not in panels(concept_grid(dataset(truth=True), truth=False))


@pytest.mark.parametrize("overlay", [True, False])
def test_maps_are_the_heat_maps_on_one_scale(overlay: bool) -> None:
    ds = dataset(signal=3.0)
    figure = concept_grid(ds, overlay=overlay, layers=[0, 3], timesteps=500)
    maps = heatmap(ds, layers=[0, 3], timesteps=500)
    for name in ("dog", "grass", "sky"):
        drawn = panels(figure)[name].images
        assert len(drawn) == 1 + overlay
        np.testing.assert_array_equal(drawn[-1].get_array(), maps.sel(concept=name))
        assert drawn[-1].get_clim() == (float(maps.min()), float(maps.max()))
        assert {image.get_interpolation() for image in drawn} == {"nearest"}
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((float(maps.min()), float(maps.max())))
    assert "share among 3 concepts (output)" in [text.get_text().replace("\n", " ") for text in figure.texts]


def test_the_colour_bar_is_opaque() -> None:
    figure = concept_grid(dataset(), overlay=True, cmap="viridis")
    bar = figure.axes[-1].get_window_extent()
    shot = pixels(figure)
    middle = shot[shot.shape[0] - int((bar.y0 + bar.y1) / 2), int((bar.x0 + bar.x1) / 2)]
    assert np.abs(middle / 255 - np.array(mpl.colormaps["viridis"](0.5)[:3])).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("grid", "count"), [((6, 6), 3), ((3, 9), 5), ((9, 3), 2), ((2, 20), 4)])
def test_panels_have_the_shape_of_the_picture(grid: tuple[int, int], count: int) -> None:
    figure = concept_grid(dataset(grid=grid, concepts=[f"concept {index}" for index in range(count)], truth=True))
    figure.draw_without_rendering()
    for ax in panels(figure).values():
        box = ax.get_window_extent()
        assert box.height / box.width == pytest.approx(grid[0] / grid[1], rel=1e-3)
        assert {tuple(image.get_extent()) for image in ax.images} == {
            (-0.5, grid[1] * 8 - 0.5, grid[0] * 8 - 0.5, -0.5)
        }


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 7, 12, 20])
@pytest.mark.parametrize("grid", [(6, 6), (2, 16), (12, 4)])
def test_no_text_is_cut_off_or_covered(count: int, grid: tuple[int, int]) -> None:
    names = [*LONG, *(f"concept {index}" for index in range(count))][:count]
    figure = concept_grid(dataset(concepts=names, grid=grid, truth=True, signal=6.0))
    FigureCanvasAgg(figure).draw()
    canvas = figure.bbox
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        assert canvas.x0 <= box.x0 <= box.x1 <= canvas.x1, text
        assert canvas.y0 <= box.y0 <= box.y1 <= canvas.y1, text
    areas = [ax.get_window_extent() for ax in figure.axes]
    for text, box in boxes.items():
        inside = box.padded(-2)
        assert not any(inside.overlaps(area) for area in areas), text
        assert not any(inside.overlaps(other) for same, other in boxes.items() if same is not text), text


def test_a_score_scale_is_read_with_its_sign() -> None:
    ds = dataset()
    ds = ds.drop_vars("output").assign(output_total=ds["output_total"] * 5000)
    figure = concept_grid(ds, reduce="mean")
    FigureCanvasAgg(figure).draw()
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert any(label.startswith("−") for label in labels)
    assert "output score" in [text.get_text().replace("\n", " ") for text in figure.texts]
    right = max(text.get_window_extent().x1 for text in texts(figure))
    assert right <= figure.bbox.x1


def test_segmentation_and_truth_share_colours() -> None:
    ds = dataset(truth=True, signal=1.0)
    ds["truth"].loc[{"pixel_y": slice(0, 7)}] = False
    figure = concept_grid(ds, concepts="sky")
    colours = np.array([to_rgb(colour) for colour in SEGMENT_COLOURS])
    drawn = panels(figure)["segmentation"].images[0].get_array()
    np.testing.assert_allclose(drawn[..., :3], colours[segment(ds).values])
    masks = panels(figure)["truth"].images[0].get_array()
    assert (masks[:8, :, 3] == 0).all()
    np.testing.assert_allclose(masks[8:, :, :3], colours[ds["truth"].argmax("concept").values[8:]])
    swatches = [patch.get_facecolor()[:3] for patch in figure.legends[0].get_patches()]
    np.testing.assert_allclose(swatches, colours[:3])


def test_every_concept_has_its_own_colour() -> None:
    names = [f"concept {index}" for index in range(64)]
    ds = dataset(concepts=names, grid=(2, 64), signal=20.0, spaces=("output",))
    figure = concept_grid(ds, concepts="concept 0")
    swatches = {patch.get_facecolor() for patch in figure.legends[0].get_patches()}
    assert len(swatches) == 64


def test_dark() -> None:
    figure = concept_grid(dataset(), dark=True)
    assert pixels(figure, dpi=50)[0, 0].max() < 40
    assert pixels(concept_grid(dataset()), dpi=50)[0, 0].min() == 255
    assert all(np.mean(mpl.colors.to_rgb(text.get_color())) > 0.8 for text in texts(figure))


@pytest.mark.slow
def test_the_users_settings_stay() -> None:
    before = dict(mpl.rcParams)
    concept_grid(dataset(), dark=True).savefig(io.BytesIO(), format="pdf")
    assert dict(mpl.rcParams) == before


def test_pdf_and_svg_keep_their_text_and_pixels() -> None:
    figure = concept_grid(dataset(), overlay=False)
    pdf, svg = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"pdf.compression": 0}):
        figure.savefig(pdf, format="pdf")
    assert b"/Type3" not in pdf.getvalue()
    assert b"/CIDFontType2" in pdf.getvalue()
    widths = [int(width) for width in re.findall(rb"/Subtype /Image /Width (\d+)", pdf.getvalue())] or [
        int(width) for width in re.findall(rb"/Width (\d+)", pdf.getvalue())
    ]
    panel = panels(figure)["dog"].get_window_extent().width
    assert max(widths) >= 0.95 * panel
    figure.savefig(svg, format="svg")
    assert b"<text" not in svg.getvalue()


@pytest.mark.slow
def test_large_pictures_are_reduced() -> None:
    ds = dataset(grid=(8, 16), patch=128, spaces=("output",))
    drawn = panels(concept_grid(ds))["picture"].images[0]
    assert drawn.get_array().shape == (256, 512, 3)
    assert drawn.get_extent() == [-0.5, 2047.5, 1023.5, -0.5]


def test_a_picture_among_several() -> None:
    ds = dataset(kind="generate", samples=2)
    figure = concept_grid(ds, samples=1)
    np.testing.assert_array_equal(panels(figure)["picture"].images[0].get_array(), ds["image"].isel(sample=1))
    with pytest.warns(UserWarning, match="2 different pictures"), pytest.raises(InputError, match="samples=0"):
        concept_grid(ds)


def test_shows_itself_in_a_notebook() -> None:
    shown = Image.open(io.BytesIO(concept_grid(dataset())._repr_png_()))
    assert shown.width == 770


def test_a_part_of_a_picture() -> None:
    ds = dataset(grid=(4, 6)).isel(y=slice(0, 2), x=slice(2, 6))
    ax = panels(concept_grid(ds))["picture"]
    assert (ax.get_xlim(), ax.get_ylim()) == ((15.5, 47.5), (15.5, -0.5))


@pytest.mark.parametrize(
    ("ds", "options", "message"),
    [
        (dataset(), {"truth": True}, "no truth to compare with"),
        (dataset(), {"keep": ["layer"]}, "leave out keep"),
        (dataset(), {"columns": 0}, "columns is 0; expected 1 or more"),
        (dataset(), {"width": 1.5}, "fewer columns or a greater width"),
        (dataset().drop_vars("image"), {}, "no picture to draw"),
        (dataset(), {"layers": 17}, "layer 17 was not captured"),
        (dataset(), {"concepts": "cat"}, "concept 'cat' was not captured"),
    ],
)
def test_wrong_requests_are_refused(ds: xr.Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, SelectionError), match=message):
        concept_grid(ds, **options)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [[3], list(range(0, 60, 2))])
def test_an_edited_run_is_called_so_above_the_panels(layers: list[int]) -> None:
    plain = concept_grid(dataset())
    figure = concept_grid(dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": layers}]))
    FigureCanvasAgg(figure).draw()
    (caption,) = [text for text in figure.texts if text.get_text().startswith("edited: SkipBlock(")]
    assert not any(text.get_text().startswith("edited") for text in plain.texts)
    box = caption.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert all(box.y0 > ax.get_tightbbox().y1 for ax in figure.axes)
    sides = [ax.get_position().bounds[2] * one.get_figwidth() for one in (plain, figure) for ax in one.axes[:1]]
    assert sides[0] == pytest.approx(sides[1])


def test_void_pixels_are_grey_in_areas() -> None:
    ds = dataset(truth=True, signal=5.0)
    masks = {str(name): ds["truth"].sel(concept=name).values for name in ds.concept.values}
    void = np.zeros((32, 48), bool)
    void[:7] = True
    figure = concept_grid(ds.wb.with_truth(masks | {"void": void}, ignore="void"))
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "void"
    for name in ("segmentation", "truth"):
        drawn = panels(figure)[name].images[-1].get_array()
        np.testing.assert_array_equal(drawn[..., 3] == 1, void)


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"concept_grid takes no layer\. Did you mean layers="):
        concept_grid(dataset(truth=True), layer=1)  # type: ignore[call-arg]
