from __future__ import annotations

import pytest

from workbench.interventions import BlurAttention, DropConcept, MaskText, RandomDirection, ScaleHeads, SkipBlock
from workbench.recording.edits.resolving import missing_pieces, resolve, warn_of_idle
from workbench.schema import InputError, WorkbenchWarning

WORDS = [(0, "a"), (1, "dog"), (2, "and"), (3, "a"), (4, "cat")]


def test_words_become_all_their_places_and_concepts_positions() -> None:
    found = resolve(
        [MaskText(tokens=["a", 4]), RandomDirection(DropConcept(["sky", 0]), 2)], 3, 2, ["dog", "sky"], 8, WORDS
    )
    assert found == (MaskText(tokens=[0, 3, 4]), RandomDirection(DropConcept([1, 0]), 2))


def test_blurs_of_different_heads_layers_or_times_do_not_meet() -> None:
    one = BlurAttention(1, heads=0, timesteps=(0, 400))
    for other in (
        BlurAttention(2, heads=0, timesteps=(0, 400)),
        BlurAttention(1, heads=1),
        BlurAttention(1, timesteps=(500, 600)),
    ):
        assert resolve([one, other], 3, 2, ()) == (one, other)
    with pytest.raises(InputError, match="blur the same heads"):
        resolve([one, BlurAttention(timesteps=(400, 600))], 3, 2, ())


def test_missing_pieces_are_those_of_skipped_blocks() -> None:
    edits = [SkipBlock([1, 4], timesteps=(0, 300)), RandomDirection(SkipBlock(2)), ScaleHeads(3)]
    assert missing_pieces(edits, 2, [500.0, 300.0], [1, 2, 3]) == [
        {"sample": sample, "timestep": 300.0, "layer": 1} for sample in (0, 1)
    ]


def test_what_changes_nothing_warns() -> None:
    with pytest.warns(WorkbenchWarning) as warned:
        warn_of_idle([SkipBlock(1, timesteps=(0, 10)), ScaleHeads([3, 4]), ScaleHeads([2, 4])], [500.0], 2, 1)
    assert len(warned) == 2
    assert "the passes are at 500" in str(warned[0].message)
    assert "ends after layer 2" in str(warned[1].message)
