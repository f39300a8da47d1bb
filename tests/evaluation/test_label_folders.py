from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.evaluation.label_folders import open_ade, open_folder
from workbench.schema import InputError


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def picture(path: Path, height: int = 4, width: int = 6) -> None:
    save(path, np.zeros((height, width, 3)))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
        save(tmp_path / "masks" / f"{name}.png", np.array([[0] * 6, [1] * 6, [2] * 6, [255] * 6]))
    (tmp_path / "classes.json").write_text(json.dumps({"0": "background", "1": "dog", "2": "cat", "255": None}))
    return tmp_path


def test_label_maps_of_ones_own(own: Path) -> None:
    data = open_folder(own)
    assert (data.task, data.classes, data.background) == ("multi", ("background", "dog", "cat"), 0)
    assert data.labels("a")[:, 0].tolist() == [0, 1, 2, -1]
    assert data.image("a").shape == (4, 6, 3)
    assert open_folder(own, "single").select("full", None).names == ()


def test_numbers_that_are_no_class(own: Path) -> None:
    save(own / "masks" / "a.png", np.full((4, 6), 9))
    (own / "masks" / "b.png").unlink()
    data = open_folder(own)
    with pytest.raises(InputError, match="holds the number 9, which is no class"):
        data.labels("a")
    with pytest.raises(InputError, match="b has no label map"):
        data.labels("b")


@pytest.mark.parametrize("content", ["{", "[]", '{"0": 3}', '{"dog": 1}', "{}", '{"-1": "dog"}'])
def test_a_listing_that_cannot_be_read(own: Path, content: str) -> None:
    (own / "classes.json").write_text(content)
    with pytest.raises(InputError, match=r"classes\.json"):
        open_folder(own)


def test_masks_by_word(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    for word in ("dog", "cat"):
        save(tmp_path / "masks" / word / "a.png", np.array([[255] * 6] + [[0] * 6] * 3))
    save(tmp_path / "masks" / "dog" / "lost.png", np.zeros((4, 6)))
    data = open_folder(tmp_path)
    assert data.all_names() == ("cat/a", "dog/a", "dog/lost")
    assert data.task == "single"
    assert data.select("full", None).names == data.all_names()
    assert data.labels("dog/a")[:, 0].tolist() == [2, 0, 0, 0]
    with pytest.raises(InputError, match="has no image of its name"):
        data.image("dog/lost")


def test_layouts_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not both of images and masks; expected a folder with"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match=r"not both of annotations.*sceneparsing\.csail\.mit\.edu"):
        open_ade(tmp_path)


def test_ade(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    picture(root / "images" / "validation" / "ADE_val_1.jpg")
    save(root / "annotations" / "validation" / "ADE_val_1.png", np.array([[0] * 6, [1] * 6, [3] * 6, [2] * 6]))
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName", "1\t0.1\t9\t2\t1\twall ", "2\t0.1\t9\t2\t1\tscreen, crt screen"]
    (root / "objectInfo150.txt").write_text("\n".join([*lines, "3\t0.1\t9\t2\t1\tscreen, silver screen"]))
    with pytest.raises(InputError, match="3 found, 150 expected"):
        open_ade(tmp_path)
    data = open_ade(tmp_path, any_count=True)
    assert (data.classes, data.background) == (("wall", "screen", "screen 2"), None)
    assert data.labels("ADE_val_1")[:, 0].tolist() == [-1, 0, 2, 1]


def test_what_is_hashed_follows_the_files(own: Path) -> None:
    before = open_folder(own).identity()
    assert open_folder(own).identity() == before
    save(own / "masks" / "a.png", np.ones((4, 6)))
    assert open_folder(own).identity() != before
