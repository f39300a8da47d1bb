from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.fixtures import voc_tree
from workbench.evaluation import voc
from workbench.evaluation.datasets import resized
from workbench.evaluation.voc import open_voc
from workbench.schema import InputError


def labels_of() -> dict[str, np.ndarray]:
    """Six images: void ring; an object that vanishes at 224; one and two classes without background; grey; damaged."""
    ring = np.zeros((120, 160), np.uint8)
    ring[20:80, 20:90] = 255
    ring[24:76, 24:86] = 12
    vanishing = np.zeros((448, 448), np.uint8)
    vanishing[100:300, 100:300] = 8
    vanishing[0, 0] = 15
    pair = np.full((50, 50), 3, np.uint8)
    pair[:, 25:] = 7
    return {
        "2007_000001": ring,
        "2007_000002": vanishing,
        "2007_000003": np.full((40, 60), 15, np.uint8),
        "2007_000004": pair,
        "2007_000005": ring.copy(),
        "2007_000006": ring.copy(),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return voc_tree(tmp_path / "data", labels_of(), truncated="2007_000006", grey="2007_000005")


def test_labels_are_palette_numbers_and_void(folder: Path) -> None:
    data = open_voc(folder, any_count=True)
    labels = data.labels("2007_000001")
    assert set(np.unique(labels)) == {-1, 0, 12}
    assert data.word(data.classes[12], "public") == "dog"
    assert data.image("2007_000005").shape == (120, 160, 3)
    with pytest.raises(InputError, match=r"2007_000006.*truncated"):
        data.image("2007_000006")


def test_which_images_show_one_class_depends_on_the_rule(folder: Path) -> None:
    data = open_voc(folder, any_count=True)
    assert 15 not in resized(data.labels("2007_000002"), (224, 224))
    public, ours = data.select("resized", 224), data.select("full", None)
    every = data.all_names()
    assert public.names == every  # the pixel is gone, and two classes without background are two labels
    assert ours.names == tuple(name for name in every if name not in ("2007_000002", "2007_000004"))
    assert open_voc(folder, "multi", any_count=True).select("full", None).names == every


def test_a_mask_that_is_missing_is_a_problem(folder: Path) -> None:
    (folder / "VOCdevkit/VOC2012/SegmentationClass/2007_000003.png").unlink()
    selection = open_voc(folder, any_count=True).select("full", None)
    assert [problem.name for problem in selection.problems] == ["2007_000003"]
    assert "there is no label map at" in selection.problems[0].message


def test_the_archive_is_unpacked_by_its_checksum(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "VOCtrainval_11-May-2012.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(folder / "VOCdevkit", "VOCdevkit")
    with pytest.raises(InputError, match=f"md5 {voc.MD5}"):
        open_voc(archive)
    data = open_voc(archive, any_count=True)
    assert data.all_names() == open_voc(folder, any_count=True).all_names()
    assert (data.labels("2007_000001") == open_voc(folder, any_count=True).labels("2007_000001")).all()
    monkeypatch.setattr(voc, "MD5", voc.md5(archive))
    with pytest.raises(InputError, match="6 found, 1,449 expected"):
        open_voc(archive)


def test_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"host\.robots\.ox\.ac\.uk.*{voc.MD5}.*Nothing is downloaded"):
        open_voc(tmp_path / "missing")
    with pytest.raises(InputError, match=r"has no ImageSets/Segmentation/val\.txt"):
        open_voc(tmp_path)


def test_names_that_lead_out(folder: Path) -> None:
    (folder / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("../../../etc/passwd\n")
    with pytest.raises(InputError, match="expected names of files"):
        open_voc(folder, any_count=True)
