from __future__ import annotations

from typing import Any

import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.schema import StoreError
from workbench.widgets.shared.refusals import drawable, problem, remarks

DS = dataset()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "this is of type int"),
        (None, "this is of type NoneType"),
        (DS.output_total, "one variable ('output_total')"),
        (xr.Dataset(), "(it holds nothing)"),
        (DS[["image"]], "(it holds image)"),
        (DS.isel(layer=0, drop=True), "no dimension 'layer', and no coordinate says which layer it is of: choose one"),
        (DS.isel(head=[0]).drop_vars(["output", "cross"]), "of 1 of 2 heads, but 'output_total' is the sum over all"),
        (DS.isel(sample=[0, 0]), "sample 0 is there more than once"),
        (DS.isel(timestep=[]), "'timestep' has length 0"),
        (DS.drop_vars("concept"), "The dimension 'concept' of 'output' has no coordinate"),
        (DS.expand_dims(member=2), "unknown dimension member"),
        (DS.assign_coords(layer=list("abcde")), "'layer' holds <U1; expected numbers"),
        (DS.assign(cross_total=DS.cross_total.astype(int)), "'cross_total' holds int64"),
        (StoreError("the run is gone."), "the run is gone."),
    ],
)
def test_a_sentence_says_what_is_wrong(given: Any, words: str) -> None:
    sentence = problem(given)
    assert sentence is not None
    assert words in sentence
    assert sentence.endswith(".")


def test_good_datasets_have_no_problem() -> None:
    for ds in (DS, dataset(kind="generate", spaces=("prompt",)), dataset(concepts=["dog"]), DS.drop_vars("image")):
        assert problem(ds) is None
    assert problem(DS.drop_vars(["output", "cross", "head"])) is None
    for ds in (
        DS.isel(layer=0),
        DS.squeeze(),
        DS.isel(head=0),
        DS.astype("float64"),
        DS.transpose(*sorted(DS.sizes)),
    ):
        assert problem(ds) is None


def test_remarks_say_what_is_lacking() -> None:
    assert remarks(DS) == []
    assert "no picture" in remarks(DS.drop_vars("image"))[0]
    assert "no uint8 picture" in remarks(DS.assign(image=DS.image / 255))[0]
    assert "second concept" in remarks(dataset(concepts=["dog"]))[0]


def test_pictures_that_can_be_drawn() -> None:
    assert drawable(DS)
    assert drawable(dataset(kind="generate"))
    assert not drawable(DS.isel(channel=[0]))
    assert not drawable(DS.isel(pixel_x=[]))
    assert not drawable(DS.assign(image=DS.image.expand_dims(member=2)))
