from __future__ import annotations

from typing import Any

import pytest

from workbench.experiments.planning import Arm, Network, arms_of
from workbench.interventions import MaskText, ScaleHeads, SkipBlock
from workbench.schema import InputError

NETWORK = Network(
    ("dual",) * 5 + ("single",) * 3,
    depth=9,
    heads=2,
    concepts=("dog", "sky", "sun"),
    words=(0, 1, 2),
    text_length=8,
)


def test_plans_may_be_single_listed_together_and_exhaustive() -> None:
    assert arms_of(SkipBlock(1), NETWORK) == [Arm((SkipBlock(1),))]
    assert arms_of([SkipBlock(1), (MaskText(1), ScaleHeads(2, 0))], NETWORK) == [
        Arm((SkipBlock(1),)),
        Arm((MaskText(1), ScaleHeads(2, 0))),
    ]
    each = arms_of([SkipBlock.each(), MaskText(3)], NETWORK)
    assert [arm.exhaustive for arm in each] == [True] * 8 + [False], "blocks that do not run are left out"
    assert each[3].label == "SkipBlock(3)"
    assert arms_of(SkipBlock(1).as_dict(), NETWORK) == [Arm((SkipBlock(1),))]


@pytest.mark.parametrize("plan", [[], [()], 3, "SkipBlock", [SkipBlock(1), SkipBlock([1])]])
def test_plans_of_nothing_or_twice_the_same_are_refused(plan: Any) -> None:
    with pytest.raises(InputError):
        arms_of(plan, NETWORK)
