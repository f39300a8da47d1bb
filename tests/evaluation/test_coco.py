from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.evaluation.coco import open_coco
from workbench.schema import InputError


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(tmp_path / "val2017" / "a.jpg")
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 44, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 44,
                "area": 4,
                "iscrowd": 0,
                "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]],
            },
            {
                "id": 2,
                "image_id": 5,
                "category_id": 18,
                "area": 48,
                "iscrowd": 0,
                "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]],
            },
            {
                "id": 3,
                "image_id": 5,
                "category_id": 18,
                "area": 10,
                "iscrowd": 1,
                "segmentation": {"size": [10, 12], "counts": [110, 10]},
            },
        ],
    }


def opened(tmp_path: Path, content: Any, **options: Any) -> Any:
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))
    return open_coco(path, **options)


def test_small_objects_lie_on_large_ones_and_crowds_are_void(tmp_path: Path, content: dict[str, Any]) -> None:
    data = opened(tmp_path, content)
    labels = data.labels("a.jpg")
    assert data.classes == ("background", "dog", "cat")
    assert (labels[3, 3], labels[0, 0], labels[9, 0]) == (2, 1, 0)
    assert (labels[:, 11] == -1).all()
    assert data.image("a.jpg").shape == (10, 12, 3)


def test_shapes_that_cannot_be_read(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = {"size": [3, 3], "counts": "!"}
    data = opened(tmp_path, content)
    with pytest.raises(InputError, match=r"annotation 1 of a\.jpg"):
        data.labels("a.jpg")


@pytest.mark.parametrize("broken", ["[]", "{", '{"images": []}'])
def test_files_of_another_format(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(broken)
    with pytest.raises(InputError, match=r"expected a JSON file with images.*cocodataset\.org"):
        open_coco(path)


def test_names_that_lead_out(tmp_path: Path, content: dict[str, Any]) -> None:
    content["images"][0]["file_name"] = "../../secret.jpg"
    with pytest.raises(InputError, match="lies outside its folder"):
        opened(tmp_path, content)


def test_unknown_categories(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"][0]["category_id"] = 99
    with pytest.raises(InputError, match="category_id 99"):
        opened(tmp_path, content)


def test_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cocodataset\.org.*Nothing is downloaded"):
        open_coco(tmp_path / "missing.json")


def test_run_lengths_as_pycocotools_writes_them() -> None:
    from pycocotools import mask as masks

    from workbench.evaluation.coco import shape_of

    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.asfortranarray(rng.random((rng.integers(1, 90), rng.integers(1, 90))) < rng.random()).astype(np.uint8)
        runs = masks.encode(np.asfortranarray(mask))
        assert (shape_of(runs, mask.shape) == mask.astype(bool)).all()
        text = {**runs, "counts": runs["counts"].decode()}
        assert (shape_of(text, mask.shape) == mask.astype(bool)).all()
