"""Effects where it is known what they should be: networks with one block or head that writes, and the bundled one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import FluxPipeline

import workbench as wb
from tests.tiny_random import flux_pipeline
from workbench.tiny import scenes

PICTURE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
WORDS = ["dog", "sky", "grass"]
WRITES = ("to_out", "to_add_out", "ff.net.2", "ff_context.net.2", "proj_out")
"""Parameters through which a block writes into image, text and concepts."""
BLOCKS = 6
WIDTH = 32
"""Of a head."""


def planted(block: int | None, head: int | None = None) -> FluxPipeline:
    """Four dual and two single blocks that write next to nothing, but for one of them, or for one of its heads."""
    pipe = flux_pipeline(num_layers=4, num_single_layers=2)
    blocks = [*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks]
    with torch.no_grad():
        for place, module in enumerate(blocks):
            for name, parameter in module.named_parameters():
                if not any(write in name for write in WRITES):
                    continue
                if place == block and head is None:
                    parameter.mul_(8.0)
                    continue
                whole = parameter.clone()
                parameter.mul_(0.05)
                if place == block and head is not None and name.endswith(("to_out.0.weight", "proj_out.weight")):
                    columns = slice(WIDTH * head, WIDTH * (head + 1))
                    parameter[:, columns] = 8.0 * whole[:, columns]
    return pipe


def measured(run: Any, pipe: FluxPipeline, **options: Any) -> xr.Dataset:
    fixed = {"layers": range(BLOCKS), "control": None, "store": False, "progress": False}
    return run(PICTURE, WORDS, model=pipe, size=(16, 24), **fixed | options)


@pytest.mark.slow
@pytest.mark.parametrize("depth", range(BLOCKS - 1))
def test_the_block_that_writes_is_found_at_any_depth(depth: int) -> None:
    found = measured(wb.vital_layers, planted(depth))
    assert found.layer[0] == depth
    assert found.mean_map_distance[0] > 10 * found.mean_map_distance[1]
    assert found.total_variation_distance[0] > 0.03
    matrix = found.mean_map_distance_by_layer.isel(intervention=0)
    assert matrix.isnull().values.tolist() == [layer <= depth for layer in range(BLOCKS)]


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "head"), [(1, 0), (4, 1)])
def test_the_head_that_writes_is_found_at_any_depth(depth: int, head: int) -> None:
    found = measured(wb.intervene, planted(depth, head), plan=wb.ScaleHeads.each(range(BLOCKS - 1)))
    assert found.readout_reach.isin("downstream").all()
    order = found.mean_map_distance.argsort().values[::-1]
    assert found.intervention[order[0]] == f"ScaleHeads({depth}, heads={head})"
    assert found.mean_map_distance[order[0]] > 5 * found.mean_map_distance[order[1]]


def test_nothing_is_found_where_nothing_was_planted() -> None:
    found = measured(wb.vital_layers, planted(None))
    assert found.total_variation_distance.max() < 0.005
    assert found.mean_map_distance[0] < 3 * found.mean_map_distance[1], "no block stands out"
    assert np.isnan(found.mean_map_distance[-1])
    still = wb.intervene(
        PICTURE, WORDS, [wb.ScaleHeads(1, factor=1)], model=planted(None), size=(16, 24), repeats=3, level=0.25,
        control="direction", layers=range(BLOCKS), store=False, progress=False,
    )  # fmt: skip
    assert still.mean_map_distance_p.item() == 1
    assert still.mean_map_distance_rank.item() == 0.5


@pytest.mark.slow
def test_effects_of_the_bundled_model_are_those_of_an_audit() -> None:
    """Numbers that were computed without this package's analysis, from softmaxes of stored scores."""
    scene = scenes.render(200_000_005)
    quiet: dict[str, Any] = {"control": None, "store": False, "progress": False}
    skipped = wb.vital_layers(scene.image, scene.words, **quiet).sortby("layer")
    behind = [0.163, 0.160, 0.084, 0.114, np.nan]
    np.testing.assert_allclose(skipped.mean_map_distance_downstream, behind, atol=5e-4)
    np.testing.assert_allclose(skipped.mean_map_distance, [0.1666, 0.1287, 0.0620, 0.1139, np.nan], atol=5e-4)
    plan = [wb.ScaleHeads(3, heads=0), wb.MaskText(3), wb.NullText(3), wb.BlurAttention(3)]
    inside = wb.intervene(scene.image, scene.words, plan, **quiet)
    np.testing.assert_allclose(inside.mean_map_distance_own, [0.142, 0.007, 0.006, 0.004], atol=6e-4)
