"""What capture and generate are asked alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.interventions import SkipBlock
from workbench.recording.request import Request, check_home, read_request
from workbench.schema import InputError, StoreError


def asked(**changes: Any) -> Request:
    right: dict[str, Any] = {
        "concepts": [" dog ", "sky"],
        "prompt": "",
        "made": False,
        "layers": None,
        "spaces": "output",
        "samples": 3,
        "seed": 5,
        "size": None,
        "attend": "both",
        "pool": "first",
    }
    return read_request(**(right | changes))


def test_a_request_is_what_was_asked_in_the_form_it_is_used_in() -> None:
    request = asked(interventions=SkipBlock(1), size=(16, 24))
    assert (request.concepts, request.spaces, request.seeds) == (("dog", "sky"), ("output",), (5, 6, 7))
    assert request.interventions == (SkipBlock(1),)
    assert request.size == (16, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": []}, "concepts is empty"),
        ({"made": True}, "prompt is blank"),
        ({"spaces": ["prompt"]}, "needs a prompt"),
        ({"samples": 0}, "samples is 0"),
        ({"verify": 1}, "verify is 1; expected True or False"),
        ({"interventions": 3}, "3"),
    ],
)
def test_the_first_wrong_thing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(**changes)


def test_whoever_runs_the_checks_may_go_on_after_one_that_fails() -> None:
    failed: list[str] = []

    def tried(check: Any, *given: Any) -> Any:
        try:
            return check(*given)
        except InputError as error:
            failed.append(str(error))

    asked(concepts=[], samples=0, seed=-1, attend="a", size=(0, 0), tried=tried)
    assert [message.split()[0] for message in failed] == ["concepts", "samples", "seed", "attend", "size"]


def test_a_home_that_can_be_written_is_fine(home: Path) -> None:
    assert check_home(home) is None


def test_a_home_that_cannot_be_written_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="cannot write to"):
        check_home(file)
