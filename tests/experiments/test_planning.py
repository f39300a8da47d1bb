from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workbench.experiments.planning import Arm, Network, arms_of, controls_of
from workbench.interventions import (
    AttendMode,
    DropConcept,
    Intervention,
    MaskText,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
)
from workbench.schema import InputError

NETWORK = Network(
    ("dual",) * 5 + ("single",) * 3,
    reach=8,
    depth=9,
    heads=2,
    concepts=("dog", "sky", "sun"),
    words=(0, 1, 2),
    text_length=8,
)


def draws_of(plan: Any, control: str = "auto", repeats: int = 3, network: Network = NETWORK) -> Any:
    return controls_of(arms_of(plan, network), network, control, repeats, seed=7)


def units(edits: tuple[Intervention, ...]) -> set[Any]:
    return {unit for edit in edits for unit in edit.units()[1]}  # type: ignore[index]


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


def test_controls_draw_as_many_of_the_units_that_no_arm_picks() -> None:
    found = draws_of([SkipBlock([0, 1]), SkipBlock(4)])
    assert [kind for kind, _ in found] == ["units", "units"]
    # Two others of the same sort are left, so there is one draw of two and two of one.
    assert [[units(draw) for draw in draws] for _, draws in found] == [[{2, 3}], [{2}, {3}]]


def test_draws_are_distinct_and_repeatable() -> None:
    plan = [ScaleHeads(1, heads=0, factor=0.5)]
    ((kind, draws),) = draws_of(plan, repeats=6)
    assert kind == "units"
    assert len(set(draws)) == 6
    for draw in draws:
        ((layer, head),) = units(draw)
        assert (layer, head) != (1, 0)
        assert layer < 5
        assert all(isinstance(edit, ScaleHeads) and edit.factor == 0.5 for edit in draw)
    assert draws_of(plan, repeats=6) == [(kind, draws)]
    other = controls_of(arms_of(plan, NETWORK), NETWORK, "auto", 6, seed=8)
    assert other != [(kind, draws)]


def test_what_acts_together_is_drawn_together() -> None:
    ((_, draws),) = draws_of([(SkipBlock(0), SkipBlock(5))], repeats=20)
    for draw in draws:
        assert [edit.layers[0] < 5 for edit in draw] == [True, False]  # type: ignore[index]
        assert not units(draw) & {0, 5}
    assert len(set(draws)) == len(draws) == 4 * 2


def test_tokens_are_drawn_among_their_like_and_concepts_by_name() -> None:
    ((_, draws),) = draws_of([MaskText(2, tokens=1)], repeats=9)
    assert [units(draw) for draw in draws] == [{0}, {2}]
    ((_, draws),) = draws_of([MaskText(2, tokens=[1, 5])], repeats=50)
    assert len(draws) == 2 * 4
    ((_, draws),) = draws_of([DropConcept(1)], repeats=9)
    assert [draw[0] for draw in draws] == [DropConcept("dog"), DropConcept("sun")]


@pytest.mark.parametrize(
    "plan", [SkipBlock.each(), [SkipBlock([0, 1, 2])], [MaskText(tokens=None)], [RandomDirection(SkipBlock(1), 3)]]
)
def test_what_leaves_too_few_others_is_compared_with_a_direction(plan: Any) -> None:
    arms = arms_of(plan, NETWORK)
    for arm, (kind, draws) in zip(arms, draws_of(plan), strict=True):
        assert kind == "direction"
        edit = arm.edits[0].of if isinstance(arm.edits[0], RandomDirection) else arm.edits[0]
        assert draws == [(RandomDirection(edit, seed),) for seed in (7, 8, 9)]


def test_a_control_can_be_chosen() -> None:
    assert draws_of([SkipBlock(1)], control="direction")[0][0] == "direction"
    assert draws_of([SkipBlock.each(layer=[0, 1])], control="units")[0][0] == "units"
    with pytest.raises(InputError, match="leaves too few"):
        draws_of(SkipBlock.each(), control="units")


def test_blocks_that_cannot_show_are_no_controls_unless_concepts_are_edited() -> None:
    network = Network(("dual",) * 3, 2, 9, 2, ("dog",), (), 8)
    ((_, draws),) = draws_of([SkipBlock(0)], network=network)
    assert [units(draw) for draw in draws] == [{1}]
    ((_, draws),) = draws_of([AttendMode("image", layers=0)], network=network)
    assert [units(draw) for draw in draws] == [{1}, {2}]


def test_controls_of_concepts_do_not_depend_on_their_order() -> None:
    words = ("dog", "sky", "sun", "moon", "car", "tree")
    found = []
    for order in (words, words[::-1], words[2:] + words[:2]):
        network = replace(NETWORK, concepts=order)
        ((_, draws),) = draws_of([DropConcept(["dog", "sun"])], repeats=3, network=network)
        found.append([units(draw) for draw in draws])
    assert found[0] == found[1] == found[2]


def test_shared_draws_are_asked_for_by_name() -> None:
    arms = arms_of([SkipBlock(1)], NETWORK)
    ((_, draws),) = controls_of(arms, NETWORK, "direction", 2, 7, True)
    assert draws == [(RandomDirection(SkipBlock(1), seed, shared=True),) for seed in (7, 8)]
