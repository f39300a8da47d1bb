from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.analysis.heads import rank_heads
from workbench.tiny.training import criteria
from workbench.tiny.training.card_tables import criteria_table


def _runs() -> list[xr.Dataset]:
    return [dataset(truth=True, heads=4, signal=3, seed=seed, samples=2) for seed in range(4)]


@pytest.mark.slow
def test_a_criterion_that_is_iou_correlates_fully_and_its_opposite_negatively() -> None:
    runs = _runs()
    same = criteria.row(lambda ds: rank_heads(ds, "iou")["iou"], runs)
    assert same["mean"] == pytest.approx(1)
    assert same["runs"] == 4
    assert criteria.row(lambda ds: -rank_heads(ds, "iou")["iou"], runs)["mean"] == pytest.approx(-1)
    noise = np.random.default_rng(0)
    blind = criteria.row(lambda ds: ds["output"].isel(sample=0, timestep=0, concept=0, y=0, x=0) * noise.random(), runs)
    low, high = blind["interval"]
    assert low < blind["mean"] < high


def test_rankings_go_by_better_whatever_the_direction() -> None:
    """Entropy is better when lower: a criterion by it agrees with its rank."""
    (ds,) = _runs()[:1]
    found = criteria.by("entropy")(ds)
    entropy = rank_heads(ds, "entropy")["entropy"]
    assert found.where(entropy == entropy.min()).max() == -1


@pytest.mark.slow
def test_every_row_of_the_card(untrained: Any) -> None:
    found = criteria.rows(untrained, 500.0, 2, {"mine": lambda ds: rank_heads(ds, "iou")["iou"]})
    assert list(found) == [*criteria.CRITERIA, "mine"]
    assert found["mine"]["mean"] == pytest.approx(1)
    text = criteria_table(found)
    assert text[-2].startswith("| mine | 2 | 1.00 (1.00 to 1.00)")
