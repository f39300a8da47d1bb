from __future__ import annotations

import pytest

from workbench.experiments.assembly import edits_of, least_repeats
from workbench.experiments.planning import Arm
from workbench.interventions import MaskText, SkipBlock


@pytest.mark.parametrize(("level", "least"), [(0.05, 19), (0.01, 99), (0.2, 4), (1 / 3, 2), (0.5, 1), (0.03, 33)])
def test_a_level_takes_so_many_controls(level: float, least: int) -> None:
    assert least_repeats(level) == least
    assert 1 / (least + 1) <= level + 1e-12 < 1 / least + 1e-12 or least == 1


def test_what_each_arm_does_is_json() -> None:
    arms = [Arm((SkipBlock(1), MaskText(2)))]
    assert edits_of(arms) == ['[{"edit": "SkipBlock", "layers": [1]}, {"edit": "MaskText", "layers": [2]}]']
