from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.fixtures import gtsegs
from workbench.evaluation.imagenet import open_imagenet
from workbench.schema import InputError

ITEMS = [
    ("n02389865_7", (33, 47), True),
    ("n01694709_1234", (51, 20), True),
    ("n02455135_3", (16, 16), False),
    ("n99999999_1", (9, 9), True),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return gtsegs(tmp_path / "gtsegs_ijcv.mat", ITEMS)


def test_images_masks_and_words(file: Path) -> None:
    data = open_imagenet(file.parent, any_count=True)
    assert data.all_names() == tuple(name for name, _, _ in ITEMS)
    image, labels = data.image("n02389865_7"), data.labels("n02389865_7")
    assert image.shape == (33, 47, 3)
    assert (image == np.random.default_rng(0).integers(0, 255, (33, 47, 3), dtype=np.uint8)).all()
    assert labels.shape == (33, 47)
    place = data.classes.index("02389865")
    assert (labels[:16, :15] == place).all()
    assert set(np.unique(labels)) == {0, place}
    assert (data.word("02389865", "public"), data.word("02389865", "corrected")) == ("car", "donkey")


def test_what_is_missing_is_named_and_unknown_categories_are_listed(file: Path) -> None:
    data = open_imagenet(file, any_count=True)
    with pytest.raises(InputError, match="the mask of n02455135_3 is missing"):
        data.labels("n02455135_3")
    selection = data.select("full", None)
    assert selection.names == tuple(name for name, _, _ in ITEMS[:3])
    assert [problem.name for problem in selection.problems] == ["n99999999_1"]
    assert "none of the 445 categories" in selection.problems[0].message


def test_other_counts_name_what_was_found(file: Path) -> None:
    with pytest.raises(InputError, match="4 found, 4,276 expected"):
        open_imagenet(file)


def test_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"calvin-vision\.net.*4,276 images of 445.*Nothing is downloaded"):
        open_imagenet(tmp_path / "gtsegs_ijcv.mat")


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b"\0" * 600, b"<html>404</html>"])
def test_wrong_and_truncated_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gtsegs_ijcv.mat").write_bytes(content)
    with pytest.raises(InputError, match="truncated or another file"):
        open_imagenet(tmp_path)


def test_a_truncated_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated or another file"):
        open_imagenet(file, any_count=True)


def test_labels_of_an_unknown_category_are_refused_by_its_name(tmp_path: Path) -> None:
    data = open_imagenet(gtsegs(tmp_path / "gtsegs_ijcv.mat", [("n99999999_4", (20, 20), True)]), any_count=True)
    with pytest.raises(InputError, match="offset 99999999 of n99999999_4 is none of the 445 categories"):
        data.labels("n99999999_4")
