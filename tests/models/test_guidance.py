"""Which passes and items are of which branch of guidance."""

from __future__ import annotations

import pytest

from workbench.models.guidance import Branch, BranchName, alone, in_batch, in_passes

WHOLE = slice(None)


def taken(branches: dict[str, Branch], names: list[str | None]) -> list[list[str]]:
    return [[b.name for b in branches.values() if b.takes(name, index)] for index, name in enumerate(names)]


def test_without_guidance_every_pass_is_conditional() -> None:
    assert taken(alone(), [None, None]) == [["conditional"]] * 2
    assert alone()["conditional"].items == WHOLE


@pytest.mark.parametrize("first", ["conditional", "unconditional"])
def test_passes_without_names_are_known_by_their_place(first: BranchName) -> None:
    other = {"conditional": "unconditional", "unconditional": "conditional"}[first]
    assert taken(in_passes(first), [None] * 4) == [[first], [other], [first], [other]]


def test_names_count_more_than_places() -> None:
    assert taken(in_passes(), ["uncond", "cond", "cond"]) == [["unconditional"], ["conditional"], ["conditional"]]
    # Those of guidance of other kinds are of neither branch.
    assert taken(in_passes(), ["uncond_stg", "cond_skip"]) == [[], []]


@pytest.mark.parametrize("first", ["conditional", "unconditional"])
@pytest.mark.parametrize("name", [None, "cond_uncond"])
def test_a_batch_has_both_in_every_pass(first: BranchName, name: str | None) -> None:
    branches = in_batch(first)
    assert taken(branches, [name] * 3) == [list(branches)] * 3
    assert branches[first].items == slice(0, 1)
    assert {b.items.start for b in branches.values()} == {0, 1}
    assert in_batch(first, count=2)[first].items == slice(0, 2)


def test_only_what_is_named_otherwise_is_left_out_by_default() -> None:
    names = [None, "cond", "uncond", "cond_uncond", "pred_skip"]
    assert [Branch().takes(name, index) for index, name in enumerate(names)] == [True, True, False, True, False]
