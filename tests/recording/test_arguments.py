"""Arguments that are refused, and what the messages say."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from workbench.models.layers import Layer
from workbench.recording.arguments import (
    check_concepts,
    check_layers,
    check_options,
    check_scale,
    check_seed,
    check_spaces,
    check_text,
    check_timesteps,
    check_vocabulary,
    warn_beyond_training,
)
from workbench.schema import InputError, WorkbenchWarning
from workbench.schema.given_options import check_count

LAYERS = tuple(Layer(i, "dual" if i < 3 else "single", f"blocks.{i}") for i in range(5))
SINGLE = tuple(Layer(i, "single", f"blocks.{i}") for i in range(2))


def test_what_is_accepted() -> None:
    assert check_concepts([" dog ", "red sky"]) == ("dog", "red sky")
    assert check_concepts(np.array(["dog", "sky"])) == ("dog", "sky")
    assert check_concepts({"dog": 1, "sky": 2}.keys()) == ("dog", "sky")
    assert len(check_concepts([f"word{i}" for i in range(64)])) == 64
    assert check_timesteps(500) == (500.0,)
    assert check_timesteps([250, np.float32(1000), Fraction(1, 4)]) == (1000.0, 250.0, 0.25)
    assert check_timesteps(np.array([1.5, 2.5])) == (2.5, 1.5)
    assert check_count("samples", np.int64(3), 1, 5) == 3
    assert check_seed(0) == 0
    assert check_scale("guidance", 3) == 3.0
    assert check_text("prompt", "") == ""
    assert check_spaces("cross") == ("cross",)
    assert check_spaces(["prompt", "output"]) == ("prompt", "output")
    check_options("none", "mean")


def test_an_array_among_the_concepts_is_not_told_in_full() -> None:
    with pytest.raises(InputError, match="concepts holds array") as error:
        check_concepts(np.zeros((64, 64, 3)))  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


def test_layers_by_depth() -> None:
    assert check_layers(None, LAYERS) == LAYERS[:3]
    assert check_layers(None, SINGLE) == SINGLE, "a model without dual-stream blocks"
    assert check_layers(4, LAYERS) == LAYERS[4:]
    assert check_layers([3, np.int64(0)], LAYERS) == (LAYERS[0], LAYERS[3])
    assert check_layers(range(5), LAYERS) == LAYERS


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ([], "concepts is empty; expected one or more words"),
        ("dog", r"the single string 'dog'; expected a list of words, such as \['dog'\]"),
        ([""], "concepts holds ''; expected words that are not blank"),
        (["dog", " \t"], r"concepts holds ' \\t'; expected words that are not blank"),
        (["dog", "sky", "dog "], "holds 'dog' more than once; expected each word once"),
        ([f"word{i}" for i in range(65)], "there are 65 concepts; expected at most 64: split them"),
        (["dog", 3], "concepts holds 3; expected words"),
        ([None], "concepts holds None; expected words"),
        (b"dog", "concepts holds 100; expected words"),
        ({"dog": 1}, "concepts is a dict; expected a list of words"),
        ({"dog", "sky"}, "concepts is a set; expected a list of words"),
        (3, "concepts is a int; expected a list of words"),
        (None, "concepts is a NoneType; expected a list of words"),
    ],
)
def test_refused_concepts(concepts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_concepts(concepts)


@pytest.mark.parametrize(
    "wrong",
    [0, -1, 1001, math.nan, math.inf, -math.inf, "500", True, None, 1j, Decimal(5), 10**400, torch.tensor(500.0)],
    ids=str,
)
def test_refused_timesteps(wrong: Any) -> None:
    for timesteps in (wrong, [250, wrong]):
        with pytest.raises(InputError) as error:
            check_timesteps(timesteps)
        assert str(error.value) == (f"timesteps holds {wrong!r}; expected numbers above 0, up to 1000 (1000 x sigma).")


def test_refused_lists_of_timesteps() -> None:
    with pytest.raises(InputError, match="timesteps is empty; expected one or more numbers above 0"):
        check_timesteps([])
    with pytest.raises(InputError, match=r"timesteps is \[500, 250, 500.0\], with one of them twice; expected each"):
        check_timesteps([500, 250, 500.0])


@pytest.mark.parametrize(
    "wrong", [[5], [-1], [1.0], 1.0, [True], True, "1", ["1"], [0, 0], [], [None], slice(0, 2), np.array(1.5)], ids=str
)
def test_refused_layers(wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        check_layers(wrong, LAYERS)
    given = wrong if isinstance(wrong, list) else [wrong]
    assert str(error.value) == (
        f"layers is {given}; expected whole numbers from 0 to 4, each once "
        "(this model has 3 dual-stream blocks, then 2 single-stream blocks)."
    )


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_count("samples", 0, 1, 9), "samples is 0; expected a whole number from 1 to 9"),
        (lambda: check_count("samples", 10, 1, 9), "samples is 10; expected a whole number from 1 to 9"),
        (lambda: check_count("samples", 2.0, 1, 9), "samples is 2.0; expected a whole number"),
        (lambda: check_count("samples", True, 1, 9), "samples is True; expected a whole number"),
        (lambda: check_count("samples", "2", 1, 9), "samples is '2'; expected a whole number"),
        (lambda: check_seed(-1), "seed is -1; expected a whole number from 0"),
        (lambda: check_seed(1.5), "seed is 1.5; expected a whole number from 0"),
        (lambda: check_seed(2**63), "seed is 9223372036854775808; expected a whole number from 0"),
        (lambda: check_scale("guidance", -1), "guidance is -1; expected a number, 0 or above"),
        (lambda: check_scale("guidance", float("nan")), "guidance is nan; expected a number"),
        (lambda: check_scale("guidance", "3"), "guidance is '3'; expected a number"),
        (lambda: check_text("prompt", None), "prompt is a NoneType; expected a string"),
        (lambda: check_text("prompt", ["a"]), "prompt is a list; expected a string"),
        (lambda: check_spaces("attention"), r"spaces is \('attention',\); expected one or more of output, cross"),
        (lambda: check_spaces(["output", "output"]), "expected one or more of output, .*, prompt, each once"),
        (lambda: check_spaces([]), r"spaces is \(\); expected one or more of output"),
        (lambda: check_spaces(None), r"spaces is \(None,\); expected one or more of output"),  # type: ignore[arg-type]
        (lambda: check_spaces([["output"]]), r"spaces is \(\['output'\],\); expected"),  # type: ignore[list-item]
        (lambda: check_options("all", "first"), "attend is 'all'; expected one of both, image, concepts, none"),
        (lambda: check_options("both", "middle"), "pool is 'middle'; expected one of first, last, mean"),
        (lambda: check_options(["both"], "first"), r"attend is \['both'\]; expected one of"),  # type: ignore[arg-type]
    ],
)
def test_refused(check: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check()


def test_closed_vocabulary() -> None:
    info = {"vocabulary": ["sun", "grass"], "fillers": ["a", "on"]}
    check_vocabulary(["sun", "grass sun"], "a sun on grass", "small", info)
    check_vocabulary(["anything"], "at all", "large", {})
    with pytest.raises(InputError, match=r"small does not know 'moon'. Its words: sun, grass. For other words load"):
        check_vocabulary(["sun", "moon"], "", "small", info)
    with pytest.raises(InputError, match=r"small does not know 'the', 'sea'. Its words: sun, grass, a, on\."):
        check_vocabulary(["sun"], "the sun on sea", "small", info)
    with pytest.raises(InputError, match="does not know 'a'"):
        check_vocabulary(["a"], "", "small", info)  # a filler is no concept


def _adapter(**info: Any) -> Any:
    """What the warning asks of an adapter."""
    return SimpleNamespace(info=info, native=(128, 128))


@pytest.mark.parametrize("size", [(512, 512), (128, 136), (48, 64)])
def test_a_size_beyond_the_training_is_warned_about(size: tuple[int, int]) -> None:
    with pytest.warns(WorkbenchWarning, match=r"sides of 64 to 128 pixels.*Leave size out for its own 128 x 128"):
        warn_beyond_training(_adapter(sides=[64, 128]), "small", size)


def test_what_a_model_was_made_for_is_not_warned_about(recwarn: pytest.WarningsRecorder) -> None:
    warn_beyond_training(_adapter(sides=[64, 128]), "small", (64, 128))
    warn_beyond_training(_adapter(sides=[64, 128]), "small", None)
    warn_beyond_training(_adapter(), "large", (1024, 1024))
    assert not recwarn.list
