from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic import dataset
from workbench.analysis.selection import space_of, take, take_concepts
from workbench.schema import SelectionError

DS = dataset(samples=2, timesteps=(900.0, 750.0, 500.0, 250.0, 10.5), layers=[0, 1, 3, 4])
TOTAL = DS["output_total"]
LAYERS = [0, 1, 3, 4]
steady = settings(deadline=None, derandomize=True)
TIMESTEPS = [900.0, 750.0, 500.0, 250.0, 10.5]


def chosen(dim: str, **choice: Any) -> list[Any]:
    return list(take(TOTAL, **choice)[dim].values.tolist())


@steady
@given(st.integers(-2, 7), st.integers(-2, 7))
def test_layer_slices_hold_both_ends_in_either_order(first: int, last: int) -> None:
    expected = [layer for layer in LAYERS if min(first, last) <= layer <= max(first, last)]
    if expected:
        assert chosen("layer", layers=slice(first, last)) == expected
    else:
        with pytest.raises(SelectionError, match=r"captured layers: 0, 1, 3, 4"):
            chosen("layer", layers=slice(first, last))


@steady
@given(st.sampled_from([*TIMESTEPS, 0.0, 1000.0, 333.3]), st.sampled_from([*TIMESTEPS, 0.0, 1000.0, 333.3]))
def test_timestep_slices_hold_both_ends_in_either_order(first: float, last: float) -> None:
    expected = [step for step in TIMESTEPS if min(first, last) <= step <= max(first, last)]
    if expected:
        assert chosen("timestep", timesteps=slice(first, last)) == expected
    else:
        with pytest.raises(SelectionError, match=r"captured timesteps: 900, 750, 500, 250, 10\.5"):
            chosen("timestep", timesteps=slice(first, last))


def test_open_slices_follow_the_coordinate() -> None:
    assert chosen("layer", layers=slice(1, None)) == [1, 3, 4]
    assert chosen("layer", layers=slice(None, 1)) == [0, 1]
    assert chosen("timestep", timesteps=slice(500, None)) == [500.0, 250.0, 10.5]
    assert chosen("timestep", timesteps=slice(None, 500)) == [900.0, 750.0, 500.0]
    assert chosen("timestep", timesteps=slice(None)) == TIMESTEPS


def test_slice_ends_forgive_rounding_of_the_schedule() -> None:
    shifted = TOTAL.assign_coords(timestep=np.float32([900.0001, 750, 500.0003, 250, 10.5]))
    assert take(shifted, timesteps=slice(500, 900)).sizes["timestep"] == 3


def test_a_value_takes_the_nearest_timestep_and_says_which(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="workbench"):
        result = take(TOTAL, timesteps=[480, 900])
    assert result["timestep"].values.tolist() == [500.0, 900.0]
    assert result.attrs["timesteps_asked"] == [480.0, 900.0]
    assert "timestep 480 stands for the nearest captured one, 500" in caplog.text
    assert "900" not in caplog.text.replace("[480, 900]", "")


def test_an_exact_timestep_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="workbench"):
        assert "timesteps_asked" not in take(TOTAL, timesteps=500).attrs
    assert caplog.text == ""


@pytest.mark.parametrize(("asked", "found"), [(525, 500.0), (475, 500.0), (10, 10.5)])
def test_a_timestep_25_away_still_counts(asked: float, found: float) -> None:
    assert chosen("timestep", timesteps=asked) == [found]


def test_a_timestep_further_away_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"no timestep within 25 of 525\.1 .*900, 750, 500, 250, 10\.5"):
        take(TOTAL, timesteps=525.1)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (3, [3]),
        ([4, 0], [4, 0]),
        ((0, 1), [0, 1]),
        (range(3, 5), [3, 4]),
        (np.array([1, 3]), [1, 3]),
        (np.int64(1), [1]),
    ],
)
def test_values_and_lists(choice: Any, expected: list[int]) -> None:
    assert chosen("layer", layers=choice) == expected
    assert np.array_equal(take(TOTAL, layers=choice), TOTAL.sel(layer=expected))


def test_dimensions_are_never_dropped() -> None:
    result = take(DS["output"], layers=3, timesteps=500, heads=1, samples=1)
    assert result.dims == DS["output"].dims
    assert result.sizes["layer"] == result.sizes["timestep"] == result.sizes["head"] == result.sizes["sample"] == 1
    assert np.array_equal(result.squeeze(), DS["output"].sel(layer=3, timestep=500, head=1, sample=1))


@pytest.mark.parametrize("wrong", [True, np.bool_(True), float("nan"), 1.0, "1", None, [0, "1"], [True], b"1", {0: 1}])
def test_layers_that_are_no_whole_numbers_are_refused(wrong: Any) -> None:
    if wrong is None:
        wrong = [None]
    with pytest.raises(SelectionError, match="captured"):
        take(TOTAL, layers=wrong)


@pytest.mark.parametrize("wrong", [True, float("nan"), float("inf"), "500", [500, "250"], [float("nan")], b"5", 1j])
def test_timesteps_that_are_no_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(SelectionError, match="captured"):
        take(TOTAL, timesteps=wrong)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"layers": 2}, r"layer 2 was not captured; captured layers: 0, 1, 3, 4"),
        ({"layers": -1}, r"layer -1 was not captured"),
        ({"heads": [0, 2]}, r"head 2 was not captured; captured heads: 0, 1"),
        ({"samples": 5}, r"sample 5 was not captured; captured samples: 0, 1"),
        ({"layers": []}, r"empty list"),
        ({"timesteps": []}, r"empty list"),
        ({"layers": [1, 1]}, r"layer 1 is named more than once"),
        ({"timesteps": [500, 490]}, r"name a captured one twice"),
        ({"layers": slice(0, 4, 2)}, r"has a step"),
        ({"layers": slice("a", 4)}, r"'a' is not a whole number"),
        ({"timesteps": slice(True, None)}, r"True is not a number"),
    ],
)
def test_errors_say_what_exists(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        take(DS["output"], **choice)


def test_heads_of_a_total_are_refused() -> None:
    with pytest.raises(SelectionError, match="no coordinate 'head'"):
        take(TOTAL, heads=0)


def test_concepts_come_in_the_order_asked_for() -> None:
    assert take_concepts(TOTAL, ["sky", "dog"])["concept"].values.tolist() == ["sky", "dog"]
    assert take_concepts(TOTAL, "grass")["concept"].values.tolist() == ["grass"]
    assert take_concepts(TOTAL, np.array(["grass"]))["concept"].values.tolist() == ["grass"]
    assert take_concepts(TOTAL, None) is TOTAL


@pytest.mark.parametrize("wrong", ["cat", ["dog", "cat"], 0, [0], ["dog", "dog"], [], [["dog"]]])
def test_concepts_that_were_not_captured_are_refused(wrong: Any) -> None:
    with pytest.raises(SelectionError, match=r"dog|empty"):
        take_concepts(TOTAL, wrong)


def test_every_token_that_reads_so_is_taken() -> None:
    prompt = dataset(spaces=("output", "prompt"))["prompt_total"]
    assert take_concepts(prompt, "a")["position"].values.tolist() == [0, 3]
    with pytest.raises(SelectionError, match=r"token 'cat' was not captured; tokens: a, dog, on, a, hill"):
        take_concepts(prompt, "cat")


def test_spaces() -> None:
    assert space_of(DS, "cross") == "cross"
    with pytest.raises(
        SelectionError, match=r"'value' was not captured; this dataset holds output, cross.*capture again"
    ):
        space_of(DS, "value")
    with pytest.raises(SelectionError, match=r"'attention' does not exist; this dataset holds output, cross"):
        space_of(DS, "attention")
    with pytest.raises(SelectionError, match="holds no scores"):
        space_of(DS[["image"]], "output")
