from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.widgets.ablate.test_intervention_form import FACTS, NETWORK, EditBackend
from workbench import interventions
from workbench.experiments.planning import arms_of
from workbench.widgets.ablate.edit_form import EDITS, read_list
from workbench.widgets.ablate.intervention_form import EditForm, Interventions

LIMITS: dict[str, Any] = {
    "layers": [1, 2],
    "heads": "1",
    "tokens": "red, 5-6",
    "timesteps": [500.0, 100.0],
    "factor": 0.5,
    "width": 2,
    "mode": "concepts",
    "streams": "prompt",
    "prompt": "a blue house",
    "seed": 3,
}


def test_every_kind_of_edit_is_offered() -> None:
    kinds = {kind.__name__ for kind in interventions.Intervention.__subclasses__()}
    assert set(EDITS) == kinds - {"RandomDirection"}
    offered = {edit["name"]: edit for edit in Interventions(EditBackend()).describe()["edits"]}
    assert set(offered) == set(EDITS)
    for name, edit in offered.items():
        known = {one.name for one in fields(getattr(interventions, name))} - {"concepts", "reference"}
        assert known <= set(edit["settings"]), "every limit can be set"


@pytest.mark.parametrize("edit", EDITS)
def test_every_limit_is_that_of_the_edits(edit: str) -> None:
    """Also the code says it, and an edit without a limit says nothing of it."""
    for over in EDITS[edit].over:
        form = EditForm.from_json({"edit": edit, "over": list(over), **LIMITS}, FACTS, None)
        arms = arms_of(form.plan(FACTS), NETWORK)
        written = arms_of(eval(form.plan_code(FACTS), {"wb": wb}), NETWORK)
        assert [arm.edits for arm in written] == [arm.edits for arm in arms]
        assert written[0].exhaustive == arms[0].exhaustive
        for (one,) in (arm.edits for arm in arms):
            settings = one.as_dict() | {field.name: one[field.name] for field in fields(one)}
            expected = {
                "layers": (1, 2),
                "heads": (1,),
                "tokens": (5, 6, "red"),
                "timesteps": (100.0, 500.0),
                "factor": 0.5,
                "width": 2.0,
                "mode": "concepts",
                "streams": ("text",),
                "source": wb.Source(prompt="a blue house", seed=3),
                "reference": (wb.Source(prompt="a blue house", seed=3),),
            }
            for name, value in expected.items():
                if name in settings and name.removesuffix("s") not in over:
                    assert settings[name] == value, (over, name)


@pytest.mark.parametrize("edit", EDITS)
def test_every_plan_goes_over_its_labels_and_its_code_makes_it(edit: str) -> None:
    for over in EDITS[edit].over:
        form = EditForm.from_json({"edit": edit, "over": list(over), "layers": [1, 2], "seed": 1}, FACTS, None)
        labels = form.labels(FACTS)
        arms = arms_of(form.plan(FACTS), NETWORK)
        assert len(arms) == int(np.prod([len(each) for each in labels]))
        written = arms_of(eval(form.plan_code(FACTS), {"wb": wb}), NETWORK)
        assert [arm.edits for arm in written] == [arm.edits for arm in arms]
        for arm, at in zip(arms, np.ndindex(*(len(each) for each in labels)), strict=True):
            (edited,) = arm.edits
            for dim, place in zip(over, at, strict=True):
                label = labels[list(over).index(dim)][place]
                if dim == "timestep":
                    assert edited["timesteps"] == (label, label)
                elif dim == "mode":
                    assert edited["mode"] == label
                elif dim != "intervention":
                    assert edited[f"{dim}s"] == (label,)


def test_typed_lists_are_numbers_ranges_and_words() -> None:
    assert read_list("heads", " 3, 0-2,, 1 ") == (3, 0, 1, 2)
    assert read_list("tokens", "red, 7–8", words=True) == ("red", 7, 8)
    assert read_list("heads", "") == ()
