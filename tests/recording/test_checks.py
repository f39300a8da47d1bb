"""The verdict on a forward pass, fed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from workbench.models.block_records import BlockCall, BlockTensors, ConceptStream
from workbench.models.layers import Layer
from workbench.recording.block_reading import Record
from workbench.recording.checks import ForwardPass, magnitude

LAYERS = tuple(Layer(index, "dual", f"blocks.{index}") for index in range(3))
NEEDS = frozenset({"key", "value"})


def block(**present: Any) -> BlockTensors:
    one = torch.ones(1, 2, 6, 4)
    return BlockTensors(BlockCall({}, 0), output=one, **({"key": one, "value": one} | present))


def piece(layer: int, shape: tuple[int, ...] = (1, 2, 3, 6), space: str = "output", **fields: Any) -> Record:
    return Record(0, layer, {space: torch.ones(shape)}, **fields)


@pytest.fixture
def under_way() -> ForwardPass:
    state = ForwardPass(LAYERS, heads=2, concepts=3)
    state.stream = ConceptStream(torch.ones(1, 3, 8), None)
    return state


def finish(state: ForwardPass, *pieces: Record) -> list[str]:
    for layer in LAYERS:
        state.accepts(layer, block(), NEEDS)
    for each in pieces:
        state.check(each)
    return state.problems()


def test_a_complete_pass_has_no_problems(under_way: ForwardPass) -> None:
    assert finish(under_way, *(piece(layer) for layer in range(3))) == []


def test_blocks_are_accepted_in_order_and_once(under_way: ForwardPass) -> None:
    first, second, third = LAYERS
    assert under_way.accepts(first, block(), NEEDS)
    assert not under_way.accepts(third, block(), NEEDS)
    assert not under_way.accepts(first, block(), NEEDS)
    assert under_way.accepts(second, block(), NEEDS)
    missing, repeated = under_way.problems()
    assert "layers 2 (blocks.2)" in missing
    assert "layers [0] arrived more than once" in repeated


def test_no_block_is_accepted_before_the_start() -> None:
    state = ForwardPass(LAYERS, heads=2, concepts=3)
    assert not state.accepts(LAYERS[0], block(), NEEDS)
    assert "text and time embedders" in state.problems()[0]


def test_what_a_block_lacks_is_named(under_way: ForwardPass) -> None:
    assert under_way.accepts(LAYERS[0], block(), NEEDS)
    assert not under_way.accepts(LAYERS[1], block(key=None, value=None), NEEDS)
    assert not under_way.accepts(LAYERS[2], block(), NEEDS)
    assert "block 1 ran without its key, value being seen" in under_way.problems()[0]


@pytest.mark.parametrize(
    "shape",
    [(2, 2, 3, 6), (1, 1, 3, 6), (1, 2, 2, 6), (1, 2, 3, 5)],
    ids=["batch", "heads", "concepts", "patches"],
)
def test_other_shapes_are_named(under_way: ForwardPass, shape: tuple[int, ...]) -> None:
    (problem,) = finish(under_way, piece(0), piece(1, shape))
    assert f"layer 1 output {shape}" in problem
    assert "layer 0" not in problem


def test_prompt_pieces_have_one_number_of_tokens(under_way: ForwardPass) -> None:
    fine = (piece(layer, (1, 2, 7, 6), "prompt") for layer in range(2))
    (problem,) = finish(under_way, *fine, piece(2, (1, 2, 8, 6), "prompt"))
    assert "layer 2 prompt (1, 2, 8, 6)" in problem


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(under_way: ForwardPass, value: float) -> None:
    scores, lse = piece(0), piece(1, lse={"lse_image": torch.full((1, 2, 3), value)})
    vectors = piece(2, vectors={"image_query": torch.full((1, 2, 6, 4), value)})
    scores.scores["output"][0, 1, 2, 3] = value
    (problem,) = finish(under_way, scores, lse, vectors)
    assert "in layer 0 output, layer 1 lse_image, layer 2 image_query" in problem


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_that_is_not_finite_is_enough(device: str, dtype: torch.dtype) -> None:
    values = torch.linspace(-5, 3, 100_000).to(device, dtype)
    assert magnitude(values) == 5
    for value in (math.nan, math.inf, -math.inf):
        for place in (0, 54_321, -1):
            wrong = values.clone()
            wrong[place] = value
            assert not magnitude(wrong).isfinite()
