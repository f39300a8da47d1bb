from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workbench.experiments.planning import Arm
from workbench.experiments.reach import Recorded, read_out
from workbench.interventions import (
    AttendMode,
    DropConcept,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    Patch,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
    Source,
)
from workbench.schema import InputError

CAPTURED = Recorded((800.0, 200.0), (0, 1, 2, 3), "output", generated=False)
GENERATED = Recorded((800.0, 200.0), (0, 1, 2, 3), "output", generated=True)
OTHER = Source(seed=1)


@pytest.mark.parametrize(
    ("edit", "kinds"),
    [
        (SkipBlock(1), "unreachable skipped downstream downstream"),
        (SkipBlock([1, 3]), "unreachable skipped downstream skipped"),
        (RandomDirection(SkipBlock(1)), "unreachable unreachable downstream downstream"),
        (Patch(1, source=OTHER), "unreachable unreachable downstream downstream"),
        (Patch(1, 0, OTHER), "unreachable own downstream downstream"),
        (Patch(1, 0, OTHER, "text"), "unreachable unreachable downstream downstream"),
        (ScaleHeads(1), "unreachable own downstream downstream"),
        (ScaleHeads(1, streams="text"), "unreachable unreachable downstream downstream"),
        (ScaleHeads(1, streams="concepts"), "unreachable own downstream downstream"),
        (MeanHeads(1, streams="text"), "unreachable unreachable downstream downstream"),
        (NullText([1, 3]), "unreachable own downstream own"),
        (MaskText(), "own own own own"),
        (AttendMode("image", 2), "unreachable unreachable own downstream"),
        (DropConcept("dog", 2), "unreachable unreachable own downstream"),
        (SkipBlock(7), "unreachable unreachable unreachable unreachable"),
    ],
    ids=str,
)
def test_reach_is_a_property_of_each_edit(edit: Intervention, kinds: str) -> None:
    assert CAPTURED.kinds((edit,)) == kinds.split()
    read = CAPTURED.reached((edit,)).all(axis=0)
    assert read.tolist() == [kind in ("own", "downstream") for kind in kinds.split()]


def test_other_spaces_change_behind_an_edit() -> None:
    for space, kind in (("output", "own"), ("cross", "unreachable"), ("prompt", "own"), ("query", "unreachable")):
        assert Recorded((500.0,), (1,), space, generated=False).kinds((NullText(1),)) == [kind]
    assert Recorded((500.0,), (1,), "prompt", generated=False).kinds((MaskText(1),)) == ["unreachable"]
    text = ScaleHeads(1, streams="text")
    assert Recorded((500.0,), (1, 2, 3), "cross", generated=False).kinds((text,)) == ["unreachable"] * 2 + [
        "downstream"
    ]


def test_edits_that_act_together_reach_what_any_of_them_reaches() -> None:
    assert CAPTURED.kinds((SkipBlock(0), ScaleHeads(2))) == ["skipped", "downstream", "own", "downstream"]


def test_timesteps_that_are_not_edited_are_not_reached() -> None:
    edit = ScaleHeads(1, timesteps=(0, 300))
    np.testing.assert_array_equal(CAPTURED.reached((edit,)), [[0, 0, 0, 0], [0, 1, 1, 1]])
    assert CAPTURED.kinds((ScaleHeads(1, timesteps=(900, 1000)),)) == ["unreachable"] * 4


def test_later_passes_of_a_generation_are_reached_whole() -> None:
    early, late = SkipBlock(2, timesteps=(700, 900)), SkipBlock(2, timesteps=(0, 300))
    np.testing.assert_array_equal(GENERATED.reached((early,)), [[0, 0, 0, 1], [1, 1, 1, 1]])
    np.testing.assert_array_equal(GENERATED.reached((late,)), [[0, 0, 0, 0], [0, 0, 0, 1]])
    assert GENERATED.kinds((early,)) == ["later", "later", "later", "downstream"]
    np.testing.assert_array_equal(GENERATED.reached((AttendMode("none", 2),)), [[0, 0, 1, 1]] * 2)
    assert not GENERATED.reached((ScaleHeads(2, streams="concepts"),))[:, :2].any()


def test_a_read_out_is_all_there_or_not() -> None:
    np.testing.assert_array_equal(CAPTURED.read((SkipBlock(1),), (2, 3)), [[0, 0, 1, 1]] * 2)
    assert not CAPTURED.read((SkipBlock(2),), (2, 3)).any()
    np.testing.assert_array_equal(CAPTURED.read((ScaleHeads(2),), "downstream"), [[0, 0, 0, 1]] * 2)
    assert CAPTURED.how((ScaleHeads(2),), (2, 3)) == "downstream + own"
    assert CAPTURED.how((SkipBlock(2),), (1, 2, 3)) == "skipped + unreachable"
    assert CAPTURED.how((SkipBlock(3),), "downstream") == "unreachable"


def test_what_has_no_effect_to_read_says_why() -> None:
    assert CAPTURED.why(Arm((SkipBlock(1),)), (2, 3)) == ""
    sentence = CAPTURED.why(Arm((SkipBlock(2),)), (1, 2))
    assert sentence == (
        "SkipBlock(2) cannot reach layer 1 and leaves out layer 2, and the read-out is layers 1, 2: "
        "it has no effect to read there."
    )
    assert "no recorded layer lies behind it" in CAPTURED.why(Arm((SkipBlock(3),)), "downstream")


@pytest.mark.parametrize(
    ("plan", "given", "expected"),
    [
        ([SkipBlock(1)], None, (2, 3)),
        ([SkipBlock(1), ScaleHeads(2)], None, (3,)),
        ([SkipBlock(4)], None, (5,)),
        ([SkipBlock(5)], None, (5,)),
        ([MaskText()], None, (5,)),
        ([SkipBlock(1)], 4, (4,)),
        ([SkipBlock(1)], [3, 2], (2, 3)),
        ([SkipBlock(1)], slice(5, 3), (3, 4, 5)),
        ([SkipBlock(1)], "downstream", "downstream"),
    ],
)
def test_the_read_out_is_common_to_a_plan(plan: list[Intervention], given: Any, expected: Any) -> None:
    assert read_out(given, [Arm((edit,)) for edit in plan], range(6), (0, 1, 2, 3)) == expected


@pytest.mark.parametrize("given", [6, [], [1, 9], True, "all", 1.5, slice(0, None), slice(0, 4, 2)])
def test_a_read_out_that_is_not_recorded_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="readout is"):
        read_out(given, [Arm((SkipBlock(1),))], range(6), (0, 1, 2, 3))
