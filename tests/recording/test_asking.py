from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.models.loading import bundled_folder
from workbench.recording.asking import check_asked
from workbench.recording.request import check_home
from workbench.schema import InputError, ModelError, StoreError

SCENE = Path(__file__).parents[2] / "data" / "scenes" / "scene-00.png"


def asked(changes: dict[str, Any]) -> dict[str, Any]:
    """A call that can succeed, with changes."""
    right = {
        "concepts": ["sun"],
        "prompt": "",
        "model": "tiny-flux",
        "layers": None,
        "spaces": ("output",),
        "samples": 1,
        "seed": 0,
        "size": None,
        "attend": "both",
        "pool": "first",
        "image": SCENE,
    }
    return right | changes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": [0, 6], "timesteps": [300, 500], "prompt": "a sun", "spaces": ["prompt"]},
        {"image": None, "prompt": "a sun", "record": [0, 27], "negative_prompt": "", "true_guidance": 2.0},
        {"image": None, "prompt": "a sun", "steps": 40, "record": [39]},
        {"model": str(bundled_folder("tiny-flux"))},
        {"model": "someone/model", "concepts": ["anything"], "layers": [99]},
    ],
)
def test_a_call_that_can_succeed_is_let_through(changes: dict[str, Any], home: Path) -> None:
    check_asked(**asked({"home": home, **changes}))


@pytest.mark.parametrize(
    ("changes", "kind", "lines"),
    [
        ({"concepts": ["elk", "sun", "red"]}, InputError, ["tiny-flux does not know 'elk', 'red'"]),
        ({"concepts": ["", " "], "seed": -1}, InputError, ["concepts holds '', ' '", "seed is -1"]),
        ({"attend": "a", "pool": "b"}, InputError, ["attend is 'a'", "pool is 'b'"]),
        ({"layers": [7]}, InputError, ["layers is [7]; expected whole numbers from 0 to 6"]),
        ({"image": None}, InputError, ["prompt is blank"]),
        ({"spaces": ["prompt"]}, InputError, ['the space "prompt" needs a prompt']),
        ({"image": None, "prompt": "a sun", "steps": 3, "record": [3]}, InputError, ["a step in record is 3"]),
        ({"model": "nowhere"}, ModelError, ["unknown model 'nowhere'"]),
        ({"model": "x" * 300}, ModelError, ["cannot be looked for (File name too long)"]),
        ({"model": "nowhere", "samples": 0}, InputError, ["samples is 0", "unknown model 'nowhere'"]),
        ({"home": SCENE}, StoreError, ["cannot write to"]),
        ({"home": "/" + "x" * 300}, StoreError, ["cannot write to"]),
    ],
)
def test_everything_that_is_wrong_is_said(
    changes: dict[str, Any], kind: type[Exception], lines: list[str], home: Path
) -> None:
    with pytest.raises(kind) as caught:
        check_asked(**asked({"home": home, **changes}))
    assert not home.exists(), "a refused call makes no folder"
    said = str(caught.value).splitlines()
    assert len(said) == len(lines)
    assert all(line in one for line, one in zip(lines, said, strict=True))


def test_a_home_that_can_be_written_is_fine(home: Path) -> None:
    assert check_home(home) is None
