from __future__ import annotations

import pytest

from workbench.interventions import MaskText, SkipBlock, edit_of, in_words, layers_in_words
from workbench.schema import InputError

EDITS = [SkipBlock(3), MaskText(tokens="dog")]


def test_edits_that_act_together_are_one_line() -> None:
    assert in_words(EDITS) == "SkipBlock(3) + MaskText(tokens='dog')"
    assert in_words([edit.as_dict() for edit in EDITS]) == in_words(EDITS)
    assert in_words(()) == ""
    with pytest.raises(InputError, match="expected edits"):
        in_words("SkipBlock")


def test_what_a_dataset_says_about_its_edits() -> None:
    given = [edit.as_dict() for edit in EDITS]
    assert edit_of({}) == edit_of({"interventions": []}) == ""
    assert edit_of({"interventions": given}) == in_words(EDITS)
    assert edit_of({"interventions": given, "edit": "as it was stored"}) == "as it was stored"


@pytest.mark.parametrize("given", [[{"edit": "OfTomorrow"}], "[{}]", 3, [{"edit": "SkipBlock", "depth": 3}]])
def test_edits_of_another_version_are_edits(given: object) -> None:
    assert "does not know" in edit_of({"interventions": given})


def test_layers_are_named() -> None:
    assert [layers_in_words(layers) for layers in ([4], [2, 4], [3, 4, 5])] == ["layer 4", "layers 2, 4", "layers 3–5"]
