from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import dataset
from workbench.analysis.heatmaps import segment
from workbench.analysis.metrics import score
from workbench.numerics.masks import iou
from workbench.schema import InputError, SelectionError


def test_score_of_a_dataset() -> None:
    ds = dataset(truth=True, signal=1.5, grid=(6, 6))
    result = score(ds, layers=[0], timesteps=500)
    labels = np.kron(segment(ds, layers=[0], timesteps=500), np.ones((8, 8), int))
    expected = []
    for index in range(3):
        one, other = labels == index, ds["truth"].values[index]
        expected.append((one & other).sum() / (one | other).sum())
    np.testing.assert_allclose(result["iou"], expected)
    assert 0 < float(result["mean_iou"]) < 1
    assert float(result["mean_iou"]) == pytest.approx(np.mean(expected))
    assert float(result["accuracy"]) == pytest.approx((ds["truth"].argmax("concept") == labels).mean().item())
    assert result["concept"].values.tolist() == ["dog", "grass", "sky"]
    assert (result.attrs["layers"], result.attrs["timesteps"]) == ([0], [500.0])
    assert float(score(dataset(truth=True, signal=20.0))["mean_iou"]) == 1


def test_score_leaves_out_what_is_nowhere() -> None:
    ds = dataset(truth=True, signal=20.0).drop_vars("output")
    ds["truth"].loc[{"concept": "sky"}] = False
    ds["output_total"].loc[{"concept": "sky"}] = -50
    result = score(ds)
    assert np.isnan(result["iou"].sel(concept="sky"))
    assert float(result["mean_iou"]) == pytest.approx(float(result["iou"][:2].mean()))


def test_score_among_some_concepts() -> None:
    result = score(dataset(truth=True, signal=20.0), concepts=["sky", "dog"])
    assert result["concept"].values.tolist() == ["sky", "dog"]
    assert float(result["accuracy"]) == 1


def test_score_refuses_what_has_no_meaning() -> None:
    with pytest.raises(InputError, match=r"no truth to compare with; add masks: ds\.wb\.with_truth"):
        score(dataset())
    ds = dataset(truth=True)
    with pytest.raises(InputError, match="leave out keep"):
        score(ds, keep=["layer"])
    with pytest.raises(InputError, match="leave out keep"):
        score(ds, space="prompt")
    with pytest.raises(SelectionError, match="layer 9"):
        score(ds, layers=9)


def test_void_pixels_count_nowhere() -> None:
    ds = dataset(truth=True, signal=2.0, seed=4)
    masks = {str(name): ds["truth"].sel(concept=name).values for name in ds.concept.values}
    void = np.zeros((32, 48), bool)
    void[:, 31:] = True
    found = segment(ds, upsample="nearest").values
    known = ds.wb.with_truth(masks | {"void": void}, ignore="void").wb.score()
    cut = {name: (found == place)[:, :31] for place, name in enumerate(masks)}
    expected = iou([(cut, {name: mask[:, :31] for name, mask in masks.items()})])
    np.testing.assert_allclose(known["iou"], list(expected.values()))
    right = np.stack([cut[name] & masks[name][:, :31] for name in masks]).any(0)
    assert float(known["accuracy"]) == pytest.approx(right.mean())
    lost = ds.wb.with_truth({name: mask & ~void for name, mask in masks.items()}).wb.score()
    assert float(known["mean_iou"]) > float(lost["mean_iou"]) + 0.05, "false positives before"
