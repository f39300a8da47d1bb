"""What is stored of a piece: summed before rounding, with the rest, wide where float16 overflows, finite or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.numerics.scores import softmax
from workbench.recording import streaming
from workbench.recording.block_reading import Record
from workbench.recording.reducing import Layout, reduce_into, stored_values
from workbench.schema import TraceError
from workbench.store import residuals
from workbench.store.residuals import join
from workbench.tiny.scenes import render

GRID = (2, 3)


def piece(value: float = 0.0, layer: int = 1) -> Record:
    scores = torch.arange(2 * 2 * 6, dtype=torch.float32).reshape(1, 2, 2, 6) + value
    lse, mass = torch.full((1, 2, 2), value), torch.full((1, 2, 5), value)
    return Record(0, layer, {"output": scores, "cross": -scores}, {"lse_image": lse}, {"text_mass": mass})


def values_of(given: Record, device: str = "cpu") -> dict[str, Any]:
    layout = Layout(given)
    buffer = torch.full((layout.size,), 255, dtype=torch.uint8, device=device)
    reduce_into(layout.views(buffer), given)
    return stored_values(layout.views(buffer.cpu()), given, GRID)


def test_names_shapes_and_types() -> None:
    values = values_of(piece(value=0.25))
    assert {name: (array.shape, array.dtype.name) for name, array in values.items()} == {
        "output": ((2, 2, 2, 3), "float16"),
        "output_residual": ((2, 2, 2, 3), "int8"),
        "output_total": ((2, 2, 3), "float32"),
        "cross": ((2, 2, 2, 3), "float16"),
        "cross_residual": ((2, 2, 2, 3), "int8"),
        "cross_total": ((2, 2, 3), "float32"),
        "lse_image": ((2, 2), "float32"),
        "text_mass": ((2, 5), "float32"),
    }
    assert np.array_equal(values["output"][1, 1], [[18.25, 19.25, 20.25], [21.25, 22.25, 23.25]]), "row by row"
    assert np.array_equal(values["output_total"], values["output"].sum(0, dtype=np.float32))
    assert np.array_equal(values["cross"], -values["output"])


def test_heads_are_summed_before_rounding() -> None:
    scores = torch.randn(1, 24, 3, 6, generator=torch.Generator().manual_seed(0)) * 100
    values = values_of(Record(0, 0, {"output": scores}))
    exact = scores[0].double().sum(0).numpy().reshape(3, *GRID)
    assert np.abs(values["output_total"] - exact).max() < 1e-6 * np.abs(exact).max()
    assert np.abs(values["output"].astype(float).sum(0) - exact).max() > 1e-2
    together = join(values["output"], values["output_residual"])
    assert np.abs(together.astype(float).sum(0) - exact).max() < 24 * residuals.FINEST / 2


@pytest.mark.parametrize(
    ("extreme", "dtype"), [(65504, "float16"), (-65519.9, "float16"), (65520, "float32"), (-1e30, "float32")]
)
def test_values_that_float16_cannot_hold(extreme: float, dtype: str) -> None:
    given = piece()
    scores = given.scores["output"].clone()
    scores[0, 1, 0, 2] = extreme
    values = values_of(Record(0, 1, {"output": scores}))
    assert values["output"].dtype == dtype
    assert np.isfinite(values["output"]).all()
    with np.errstate(over="ignore"):
        assert np.array_equal(values["output"], scores.numpy().reshape(2, 2, 2, 3).astype(dtype)), "rounded as by NumPy"
        assert dtype == "float16" or not values["output_residual"].any()
    exact = scores.numpy().reshape(2, 2, 2, 3)
    slack = 1e-5 * abs(extreme) if dtype == "float16" else 0
    assert np.abs(join(values["output"], values["output_residual"]) - exact).max() <= slack


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["output", "lse_image", "text_mass"])
def test_values_that_are_not_finite(wrong: float, name: str) -> None:
    given = piece(layer=4)
    given.tensors[name][..., 1] = wrong
    with pytest.raises(TraceError, match=f"NaN or infinite values in layer 4 {name}"):
        values_of(given)


def test_maps_of_single_heads_of_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores reach 188 there, and float16 alone moves a head's map by 0.03."""
    exact: list[Any] = []

    def seen(views: Any, given: Record, grid: tuple[int, int]) -> dict[str, Any]:
        exact.append(given.scores["output"][0].numpy().reshape(2, -1, *grid))
        return stored_values(views, given, grid)

    monkeypatch.setattr(streaming, "stored_values", seen)
    scene = render(200000009)
    ds = wb.capture(scene.image, scene.words, layers=[2], spaces=("output",), store=False, progress=False)
    assert np.abs(softmax(exact[0].astype(np.float16), 1) - softmax(exact[0], 1)).max() > 0.02
    for head in (0, 1):
        maps = softmax(exact[0][head], 0)
        assert np.abs(ds.wb.heatmap(layers=2, heads=head).values - maps).max() < 0.002
    maps = softmax(exact[0].sum(0), 0)
    assert np.abs(ds.wb.heatmap(layers=2, heads=[0, 1]).values - maps).max() < 0.002


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("extreme", [1.0, 300.0, 1e6])
def test_a_gpu_gives_what_the_host_gives(extreme: float) -> None:
    scores = torch.randn(1, 24, 5, 6, generator=torch.Generator().manual_seed(0)) * extreme
    here = values_of(Record(0, 0, {"output": scores}))
    there = values_of(Record(0, 0, {"output": scores.cuda()}), "cuda")
    assert np.array_equal(here["output"], there["output"])
    assert np.array_equal(here["output_residual"], there["output_residual"])
    assert np.allclose(here["output_total"], there["output_total"], rtol=1e-6, atol=1e-5 * extreme)
