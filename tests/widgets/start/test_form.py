from __future__ import annotations

import pytest

from workbench.schema import InputError
from workbench.widgets.start.form import BACKGROUNDS, StartForm, choices


def test_a_form_is_read_as_it_was_written() -> None:
    form = StartForm(concepts=("dog", "sky"), layers="0-2", samples=3, spaces=("cross",))
    assert StartForm.from_json(form.to_json()) == form
    assert StartForm.from_json({}) == StartForm()
    assert form.options() == {"layers": [0, 1, 2], "samples": 3, "spaces": ["cross"]}


def test_only_what_is_not_the_default_is_given() -> None:
    form = StartForm(concepts=("dog",))
    assert form.options() == {}
    assert form.call("image") == "wb.capture(image, ['dog'])"


def test_calls_are_those_of_the_two_functions() -> None:
    told = {"timesteps": "500 250", "steps": 4, "about": "a dog", "size": "64×32", "pool": "mean", "seed": 7}
    form = StartForm.from_json({"concepts": ["dog"], **told, "prompt": "a dog on grass", "model": "me/mine"})
    assert form.call("'x.png'") == (
        "wb.capture('x.png', ['dog'], model='me/mine', prompt='a dog', timesteps=[500, 250], size=(64, 32), seed=7, "
        "pool='mean')"
    )
    made = StartForm.from_json({**form.to_json(), "source": "prompt", "model": "pipe", "kernel": True})
    assert made.call("'a dog on grass'") == (
        "wb.generate('a dog on grass', ['dog'], model=pipe, steps=4, size=(64, 32), seed=7, pool='mean')"
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "the form is a list; expected a mapping of"),
        ({"source": "film"}, "source is 'film'"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"spaces": ["prompt"]}, "spaces is 'prompt'"),
        ({"concepts": [3]}, "concepts is 3"),
        ({"samples": 1.5}, "samples is 1.5"),
        ({"samples": True}, "samples is True"),
        ({"prompt": "x" * 3000}, "3000 letters"),
    ],
)
def test_what_is_no_form_is_refused(values: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        StartForm.from_json(values)


def test_no_space_is_no_run() -> None:
    with pytest.raises(InputError, match="no space is chosen"):
        StartForm(concepts=("dog",), spaces=()).options()


def test_background_words_are_offered_once() -> None:
    assert len(set(BACKGROUNDS)) == len(BACKGROUNDS)
    assert choices()["backgrounds"][:2] == ["sky", "grass"]
