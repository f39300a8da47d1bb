"""Inputs of a pipeline as the command line is given them."""

from __future__ import annotations

import pytest

from workbench.options import read_inputs
from workbench.schema import InputError


def test_inputs() -> None:
    given = ["image=a b=c.png", "strength=0.6", "control_mode=2", "_auto_resize=false", "scale=1", "scale=0.5"]
    assert read_inputs(given) == {
        "image": "a b=c.png",
        "strength": 0.6,
        "control_mode": 2,
        "_auto_resize": False,
        "scale": [1, 0.5],
    }
    assert read_inputs(None) is None
    assert read_inputs([]) is None


@pytest.mark.parametrize("given", ["image", "image=", "=photo.png", ""])
def test_inputs_without_a_name_or_a_value(given: str) -> None:
    with pytest.raises(InputError, match=r"expected name=value, such as image=photo\.png"):
        read_inputs([given])
