from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from workbench.interventions import (
    Amplify,
    AttendMode,
    BlurAttention,
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
    read,
)
from workbench.interventions.fields import CHECKS, LIMITS
from workbench.schema import InputError, WorkbenchWarning

EXAMPLES: tuple[Intervention, ...] = (
    SkipBlock([3, 1], timesteps=(0, 500)),
    ScaleHeads(3, heads=range(2), factor=0.5, streams="image"),
    MeanHeads(2, reference=(Source(), Source(prompt="a dog", seed=4))),
    NullText(tokens=["dog", 2]),
    Amplify(1),
    MaskText([1, 2], tokens=0, heads=3),
    BlurAttention(width=2),
    AttendMode("image", layers=slice(2, 4)),
    DropConcept("dog"),
    Patch(4, heads=[0], source=Source(image="dog.png")),
    RandomDirection(MaskText(1), seed=7),
)


@pytest.mark.parametrize("edit", EXAMPLES, ids=str)
def test_a_description_survives_json(edit: Intervention) -> None:
    (again,) = read(json.loads(json.dumps(edit.as_dict())))
    assert again == edit
    assert hash(again) == hash(edit)


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(edit) for edit in EXAMPLES} == set(Intervention.__subclasses__())


def test_what_means_the_same_is_equal() -> None:
    assert SkipBlock([3, 1]) == SkipBlock((1, 3)) != SkipBlock(3)
    assert SkipBlock(slice(4, 2)) == SkipBlock(range(2, 5))
    assert ScaleHeads(1, streams=["text", "image"]) == ScaleHeads(1)
    assert SkipBlock(1, timesteps=(700, 500)) == SkipBlock(1, timesteps=slice(500, 700))


def test_a_description_is_frozen() -> None:
    with pytest.raises(AttributeError):
        SkipBlock(1).layers = 2  # type: ignore[misc]


def test_a_description_reads_as_it_was_written() -> None:
    assert [str(edit) for edit in EXAMPLES[:4]] == [
        "SkipBlock([1, 3], timesteps=[0, 500])",
        "ScaleHeads(3, heads=[0, 1], factor=0.5, streams='image')",
        "MeanHeads(2, reference=[Source(), Source(prompt='a dog', seed=4)])",
        "NullText(tokens=[2, 'dog'])",
    ]


def test_defaults_are_left_out_of_the_written_form() -> None:
    assert SkipBlock(2).as_dict() == {"edit": "SkipBlock", "layers": [2]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkipBlock(-1), "layers of SkipBlock is -1; expected whole numbers from 0"),
        (lambda: SkipBlock([]), "layers of SkipBlock"),
        (lambda: SkipBlock([1, 1]), "each once"),
        (lambda: SkipBlock(1.5), "layers of SkipBlock is 1.5"),
        (lambda: SkipBlock(True), "layers of SkipBlock is True"),
        (lambda: SkipBlock(10**9), "layers of SkipBlock"),
        (lambda: SkipBlock(slice(2, None)), "both ends of a slice"),
        (lambda: SkipBlock(1, timesteps=500), "a range"),
        (lambda: SkipBlock(1, timesteps=(0, 1001)), "within 0 to 1000"),
        (lambda: SkipBlock(1, timesteps=(-1, 10)), "within 0 to 1000"),
        (lambda: SkipBlock(1, timesteps=(0, float("nan"))), "within 0 to 1000"),
        (lambda: ScaleHeads(1, factor=float("inf")), "expected a number"),
        (lambda: MeanHeads(1, streams="concepts"), "image, text"),
        (lambda: ScaleHeads(1, streams=()), "image, text, concepts"),
        (lambda: MaskText(tokens=""), "words of the prompt"),
        (lambda: BlurAttention(width=-1), "0 or more"),
        (lambda: AttendMode("all"), "both, image, concepts, none"),
        (lambda: DropConcept([]), "one or more concepts"),
        (lambda: MeanHeads(1, reference=()), "reference of MeanHeads is empty"),
        (lambda: Patch(1, source="a dog"), "expected a Source"),
        (lambda: Source(seed=-1), "0 to 2"),
        (lambda: Source(prompt=3), "expected str"),
        (lambda: RandomDirection(RandomDirection(SkipBlock(1))), "expected an edit"),
        (lambda: RandomDirection(SkipBlock(1), seed=-2), "seed"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    "given", ["SkipBlock", 3, None, [3], {"edit": "Skip"}, {"edit": "SkipBlock"}, SkipBlock.each(), [Intervention()]]
)
def test_what_is_no_description_is_not_read(given: Any) -> None:
    with pytest.raises(InputError, match="interventions"):
        read(given)


@pytest.mark.parametrize("given", [SkipBlock.each(), [SkipBlock.each()], [SkipBlock(1), SkipBlock.each()]])
def test_a_plan_is_no_edit(given: Any) -> None:
    with pytest.raises(InputError, match=r"interventions is a plan for wb\.intervene.*expected edits such as Skip"):
        read(given)


@pytest.mark.parametrize("edit", EXAMPLES, ids=str)
def test_a_name_that_no_edit_has_is_refused(edit: Intervention) -> None:
    names = [field.name for field in fields(edit)]
    plain = edit.of if isinstance(edit, RandomDirection) else edit
    known = ", ".join(field.name for field in fields(plain))
    for typo in ("layer", "typo", "units", "__dict__", ""):
        with pytest.raises(InputError, match=f"{type(plain).__name__} has no field {typo!r}; it has {known}, and any"):
            edit[typo]  # type: ignore[call-overload]
    for name in names:
        assert edit[name] == getattr(edit, name)  # type: ignore[call-overload]


def test_a_limit_that_an_edit_does_not_have_is_none() -> None:
    assert {name: SkipBlock(3)[name] for name in LIMITS} == dict.fromkeys(LIMITS) | {"layers": (3,)}
    assert RandomDirection(MaskText(3, heads=[1]))["heads"] == (1,)
    with pytest.raises(InputError, match="SkipBlock has no field 'factor'; it has layers, timesteps"):
        SkipBlock(3)["factor"]  # type: ignore[call-overload]


def test_every_field_has_a_check() -> None:
    kinds = set(Intervention.__subclasses__()) - {RandomDirection}
    assert {field.name for kind in kinds for field in fields(kind)} == set(CHECKS)
    assert set(LIMITS) < set(CHECKS)


def test_one_or_several_are_read() -> None:
    assert read(SkipBlock(1)) == (SkipBlock(1),)
    assert read([SkipBlock(1), MaskText(2).as_dict()]) == (SkipBlock(1), MaskText(2))
    assert read(()) == ()


def test_each_is_resolved_against_a_model() -> None:
    assert SkipBlock.each().resolve(3, 2, ()) == (SkipBlock(0), SkipBlock(1), SkipBlock(2))
    assert ScaleHeads.each(layer=1, factor=0.5).resolve(3, 2, ()) == (
        ScaleHeads(1, 0, factor=0.5),
        ScaleHeads(1, 1, factor=0.5),
    )
    assert AttendMode.each(slice(0, 1), mode="none").resolve(3, 2, ()) == (AttendMode("none", 0), AttendMode("none", 1))
    assert DropConcept.each().resolve(3, 2, ("dog", "sky")) == (DropConcept("dog"), DropConcept("sky"))
    with pytest.raises(InputError, match="expected 0 to 2"):
        SkipBlock.each(layer=[1, 3]).resolve(3, 2, ())
    with pytest.raises(InputError, match="cannot be made with"):
        AttendMode.each().resolve(3, 2, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SkipBlock.each(factor=2, typo=1),
            "SkipBlock.each cannot be made with factor, typo; .* share timesteps",
        ),
        (lambda: ScaleHeads.each(heads=1), "cannot be made with heads; .* share factor, streams, timesteps"),
        (lambda: DropConcept.each(concepts="dog"), "cannot be made with concepts"),
    ],
)
def test_a_plan_with_options_that_its_members_lack_is_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "units"),
    [
        (SkipBlock([1, 3]), ("layer", (1, 3))),
        (ScaleHeads([1, 2], heads=[0, 1]), ("head", ((1, 0), (1, 1), (2, 0), (2, 1)))),
        (ScaleHeads(1), ("layer", (1,))),
        (MaskText(1, tokens=[2, 5]), ("token", (2, 5))),
        (MaskText(), None),
        (DropConcept(["dog"]), ("concept", ("dog",))),
    ],
    ids=str,
)
def test_units_are_what_an_edit_picks(edit: Intervention, units: Any) -> None:
    assert edit.units() == units
    if units is not None:
        assert edit.with_units(*units)[0] == edit or len(edit.with_units(*units)) > 1


def test_heads_of_several_layers_take_several_descriptions() -> None:
    edit = ScaleHeads(0, heads=0, factor=0.5)
    assert edit.with_units("head", [(2, 1), (1, 0), (2, 0)]) == (
        ScaleHeads(1, 0, factor=0.5),
        ScaleHeads(2, [0, 1], factor=0.5),
    )


def test_a_set_of_references_may_be_paths_and_its_former_name_is_taken() -> None:
    edit = MeanHeads(1, reference=["a.png", Source(seed=3)])
    assert edit.sources() == (Source(image="a.png"), Source(seed=3))
    assert str(MeanHeads(1)) == "MeanHeads(1)"
    with pytest.warns(WorkbenchWarning, match="references of MeanHeads is called reference now"):
        assert MeanHeads(1, references=["a.png", Source(seed=3)]) == edit
    early = edit.as_dict()
    early["references"] = early.pop("reference")
    assert read(early) == (edit,)
    with pytest.raises(InputError, match="its former name: give one"):
        MeanHeads(1, reference="a.png", references="b.png")


@pytest.mark.parametrize(
    ("edit", "reached"),
    [
        (SkipBlock([1, 3]), [2, 3, 4]),
        (ScaleHeads([1, 3]), [1, 2, 3, 4]),
        (RandomDirection(SkipBlock(3)), [4]),
        (MaskText(), [0, 1, 2, 3, 4]),
    ],
    ids=str,
)
def test_an_edit_says_which_layers_it_reaches(edit: Intervention, reached: list[int]) -> None:
    assert [layer for layer in range(5) if edit.reaches(layer)] == reached


def test_a_matched_direction_is_another_edit_and_needs_more_than_concepts() -> None:
    edit = RandomDirection(SkipBlock(1), 3, matched=True)
    assert str(edit) == "RandomDirection(SkipBlock(1), seed=3, matched=True)"
    assert read(edit.as_dict()) == (edit,)
    assert RandomDirection(SkipBlock(1), 3).as_dict() == {
        "edit": "RandomDirection",
        "of": SkipBlock(1).as_dict(),
        "seed": 3,
        "shared": False,
    }
    with pytest.raises(InputError, match="too few for a covariance"):
        RandomDirection(DropConcept("dog"), matched=True)
