"""The contract of model families, each rule tried on tiny random models of every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.families import LONE, Sample, every, params
from workbench.contract import RULES, Case
from workbench.contract.case import _BLOCKS
from workbench.schema import PROMPT, SPACES

pytestmark = pytest.mark.filterwarnings(LONE)

EDITS = "edits_land_where_they_say"
ALWAYS = "prompt_is_its_own_concepts"
"""Tried on every family at each run; so is the picture, in one mode."""


def case_of(sample: Sample) -> Case:
    """The case of a sample."""
    hidden = tuple(range(sample.length - sample.masked, sample.length))
    return Case(sample.model, sample.inputs, sample.concepts, sample.prompt, hidden=hidden)


@pytest.fixture(params=params())
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(Sample.of(request.param))


@pytest.fixture(params=params(edited=True))
def edited(request: pytest.FixtureRequest) -> Case:
    return case_of(Sample.of(request.param))


@pytest.fixture(params=every())
def each(request: pytest.FixtureRequest) -> Sample:
    """Every family at each run."""
    return Sample.of(request.param)


@pytest.mark.parametrize("rule", [name for name in RULES if name not in (EDITS, ALWAYS)])
def test_a_family_keeps_the_rule(case: Case, rule: str) -> None:
    assert RULES[rule](case)


def test_edits_land_where_they_say(edited: Case) -> None:
    assert RULES[EDITS](edited)


def test_every_family_keeps_the_strongest_rules(each: Sample) -> None:
    case = case_of(each)
    assert case.spaces == SPACES
    assert len(case.layers) <= _BLOCKS, "no tolerance is enlarged for depth"
    assert RULES["picture_is_untouched"](replace(case, modes=("both",)))
    assert RULES[ALWAYS](case)


@pytest.mark.slow
def test_text_is_as_long_as_in_the_blocks_and_all_that_is_seen_is_attended_to(each: Sample) -> None:
    """In random models no attention is so sharp that it rounds to nothing."""
    _, seen = case_of(each).traced(spaces=(PROMPT,), text_mass=True)
    tokens = each.length - each.masked
    assert seen.scores[PROMPT].shape[3] == each.length
    mass = seen.mass["text_mass"]
    assert mass.shape[-1] == each.length
    assert (mass[..., :tokens] > 0).all()
    assert mass.dtype == torch.float32
