from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from workbench.schema import InputError, SelectionError, WorkbenchError, WorkbenchWarning
from workbench.widgets.shared import forms
from workbench.widgets.shared.forms import (
    among,
    chosen,
    ends,
    one_of,
    optional,
    pair,
    plain,
    read,
    real,
    several,
    whole,
)

LAYER = among([0, 1, 3], "layer")


@pytest.mark.parametrize(
    ("reader", "given", "kept"),
    [
        (forms.text, "dog", "dog"),
        (forms.flag, True, True),
        (real(), np.float32(0.5), 0.5),
        (real(0, 1, clip=True), 3, 1.0),
        (whole(), 2.0, 2),
        (whole(1), np.int64(1), 1),
        (one_of(("a", "b")), "b", "b"),
        (optional(whole()), None, None),
        (several(whole()), [3, 1, 3], (3, 1, 3)),
        (chosen(LAYER), [3, 1, 3.0], (1, 3)),
        (chosen(LAYER), None, None),
        (pair(whole(), real()), [1, 2], (1, 2.0)),
        (pair(real(), order=forms.falling), [1, 2], (2.0, 1.0)),
        (LAYER, 3, 3),
        (ends([750.0, 500.0, 250.0]), [250, 750], (750.0, 250.0)),
    ],
)
def test_what_fits_is_kept_as_declared(reader: forms.Reader, given: Any, kept: Any) -> None:
    found = reader("x", given)
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("reader", "given", "sentence"),
    [
        (forms.text, 3, "x is 3; expected a text."),
        (forms.text, "a" * 2001, "x has 2001 letters; expected at most 2000."),
        (forms.flag, 1, "x is 1; expected True or False."),
        (real(), True, "x is True; expected a finite number."),
        (real(), "1", "x is '1'; expected a finite number."),
        (real(), float("nan"), "x is nan; expected a finite number."),
        (real(0, 1000), 1001, "x is 1001; expected a finite number from 0 to 1000."),
        (real(0), -1, "x is -1; expected a finite number from 0 on."),
        (whole(), 0.5, "x is 0.5; expected a whole number."),
        (whole(1), 0, "x is 0; expected a whole number, 1 or more."),
        (whole(), float("inf"), "x is inf; expected a whole number."),
        (one_of(("a", "b")), ["a"], "x is ['a']; expected one of a, b."),
        (several(whole()), "12", "x is '12'; expected a list."),
        (several(whole()), {1: 2}, "x is {1: 2}; expected a list."),
        (chosen(LAYER), [], "x is empty; None means all."),
        (pair(whole()), [1], "x is [1]; expected two values."),
        (ends([0, 1, 3]), [0, 2], "x is [0, 2]; expected the first and the last of the x there are: 0, 1, 3."),
        (ends([0, 1]), [[0], 1], "x is [[0], 1]; expected the first and the last of the x there are: 0, 1."),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(reader: forms.Reader, given: Any, sentence: str) -> None:
    with pytest.raises(InputError) as told:
        reader("x", given)
    assert str(told.value) == sentence


def test_what_is_not_in_the_dataset_names_what_is() -> None:
    for held, said in (([0, 1, 3], "0, 1, 3"), (range(57), "0 to 56"), ([], "none")):
        with pytest.raises(SelectionError, match=f"layer 99 does not exist; it has {said}"):
            among(held, "layer")("layers", 99)


def test_a_name_of_the_release_before_is_taken_with_a_warning() -> None:
    with pytest.warns(WorkbenchWarning, match="x='old' is called 'new' now"):
        assert one_of(("new",), {"old": "new"})("x", "old") == "new"


@dataclass(frozen=True)
class Form:
    layers: tuple[int, int] = (0, 1)
    drawn: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def test_fields_are_read_by_name_and_written_as_plain_values() -> None:
    readers = {"layers": pair(LAYER), "drawn": lambda _, value: value}
    form = Form(**read("the form", {"layers": [1, 3]}, readers), drawn={"dog": [(1, 2)]})
    assert plain(form) == {"layers": [1, 3], "drawn": {"dog": [[1, 2]]}}
    for values, sentence in (
        ([1], "the form is a list; expected a mapping of layers, drawn."),
        ({"layer": 1}, "the form has no 'layer'; did you mean 'layers'?"),
        ({"zzz": 1}, "the form has no 'zzz'; it has layers, drawn."),
    ):
        with pytest.raises(WorkbenchError) as told:
            read("the form", values, readers)
        assert str(told.value) == sentence
