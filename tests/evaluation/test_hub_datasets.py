from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.evaluation.hub_datasets import of_rows
from workbench.schema import InputError


class Rows(list[dict[str, Any]]):
    """What a Hugging Face data set offers."""

    def __init__(self, held: Any) -> None:
        super().__init__(held)
        self.features: dict[str, Any] = {}


def rows(count: int = 2) -> Rows:
    labels = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    image = np.zeros((2, 3, 3), np.uint8)
    return Rows({"image": Image.fromarray(image), "annotation": Image.fromarray(labels)} for _ in range(count))


def test_rows_by_number() -> None:
    data = of_rows(rows(), ["background", "dog", "cat"], ignore=255)
    assert data.all_names() == ("000000", "000001")
    assert data.labels("000001").tolist() == [[0, 0, 1], [2, -1, 1]]
    assert data.image("000000").shape == (2, 3, 3)
    assert data.background == 0


def test_classes_from_features() -> None:
    held = rows()
    held.features = {"annotation": SimpleNamespace(names=["background", "dog", "cat"])}
    assert of_rows(held, ignore=255).classes == ("background", "dog", "cat")
    with pytest.raises(InputError, match="nothing says what the numbers"):
        of_rows(rows())


def test_arrays_and_numbers_apart() -> None:
    held = [{"pixels": np.zeros((2, 2, 3), np.uint8), "mask": np.array([[10, 20], [10, 30]])}]
    data = of_rows(held, {10: "dog", 20: "cat"}, image="pixels", labels="mask", ignore=[30])
    assert data.labels("000000").tolist() == [[0, 1], [0, -1]]
    assert data.background is None
    unnamed = of_rows(held, {10: "dog", 20: "cat"}, image="pixels", labels="mask")
    with pytest.raises(InputError, match="hold 30, which is no class"):
        unnamed.labels("000000")


def test_what_is_hashed_follows_the_rows() -> None:
    held = rows()
    before = of_rows(held, ["background", "dog", "cat"], ignore=255).identity()
    assert of_rows(rows(), ["background", "dog", "cat"], ignore=255).identity() == before
    held[1]["annotation"] = Image.fromarray(np.ones((2, 3), np.uint8))
    assert of_rows(held, ["background", "dog", "cat"], ignore=255).identity() != before


@pytest.mark.parametrize("given", [[], 3, [{"picture": 1}]])
def test_what_is_no_data_set(given: Any) -> None:
    with pytest.raises(InputError, match=r"expected rows|expected 'image'"):
        of_rows(given, ["dog"])
