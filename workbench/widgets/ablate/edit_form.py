"""The edits that the ablation panel offers, their limits, and plans of them as values and as code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from workbench import interventions, schema
from workbench.interventions import ITSELF, Source
from workbench.schema import ATTEND_MODES, InputError
from workbench.widgets.shared.python_code import code

ALL: Final = "intervention"
"""In place of a dimension: one edit of everything that is chosen."""
HEAD_KINDS: Final = ("ScaleHeads", "MeanHeads")
"""Those whose ``each()`` goes over heads."""

_LAYER, _HEAD, _TIME, _TOKEN = (schema.LAYER,), (schema.LAYER, schema.HEAD), (schema.LAYER, schema.TIMESTEP), ("token",)
_PROMPT: Final = (_LAYER, _TIME, _TOKEN, (schema.LAYER, "token"), (ALL,))
_ATTENTION: Final = (_LAYER, _HEAD, _TIME, _TOKEN, (schema.LAYER, "token"), (ALL,))


@dataclass(frozen=True)
class Edit:
    """How one kind of edit is offered.

    Attributes
    ----------
    text
        What it is called.
    meaning
        What it does, as a sentence.
    over
        What there can be one of for each edit.
    """

    text: str
    meaning: str
    over: tuple[tuple[str, ...], ...]


EDITS: Final[Mapping[str, Edit]] = {
    "SkipBlock": Edit(
        "skip blocks", "A block is left out: picture, prompt and concepts pass it unchanged.", (_LAYER, _TIME, (ALL,))
    ),
    "ScaleHeads": Edit(
        "scale heads’ output",
        "What heads put out is multiplied before the output projection; 0 knocks them out.",
        (_HEAD, _LAYER, _TIME, (ALL,)),
    ),
    "MeanHeads": Edit(
        "replace heads’ output by its mean",
        "What heads put out is replaced by the image’s own spatial mean (over its patches, without an edit), or by the "
        "mean over another run.",
        (_HEAD, _LAYER, _TIME, (ALL,)),
    ),
    "NullText": Edit(
        "null prompt tokens", "Prompt tokens are nulled where they enter the attention of a block.", _PROMPT
    ),
    "Amplify": Edit(
        "amplify prompt tokens", "Prompt tokens are multiplied where they enter the attention of a block.", _PROMPT
    ),
    "MaskText": Edit(
        "hide prompt tokens", "The picture’s patches do not see prompt tokens; the prompt sees itself.", _ATTENTION
    ),
    "BlurAttention": Edit(
        "blur attention to the prompt",
        "How patches attend to prompt tokens is blurred over the picture, with a Gaussian of so many patches.",
        _ATTENTION,
    ),
    "AttendMode": Edit(
        "what concepts attend to",
        "Concepts see both the picture and one another, one of them, or nothing; the picture stays as it is.",
        (("mode",), _LAYER, _TIME, (ALL,)),
    ),
    "DropConcept": Edit(
        "drop concepts",
        "A concept is hidden from the others; the picture stays as it is.",
        (("concept",), (schema.LAYER, "concept")),
    ),
    "Patch": Edit(
        "patch in another run",
        "Outputs of blocks, or of heads, are taken from another run: another prompt, noise or picture.",
        (_LAYER, _HEAD, _TIME, (ALL,)),
    ),
}
"""By class."""

_FIELDS: Final = {"layer": "layers", "head": "heads", "timestep": "timesteps", "token": "tokens", "concept": "concepts"}


def kind_of(edit: str) -> Any:
    """The class of an edit."""
    return getattr(interventions, edit)


def settings_of(edit: str) -> dict[str, Any]:
    """What an edit can be limited by, and its other settings, with their defaults (None without one).

    Other runs are called ``source`` everywhere.
    """
    found = {one.name: None if one.default is MISSING else one.default for one in fields(kind_of(edit))}
    found.pop("concepts", None)
    return {("source" if name == "reference" else name): value for name, value in found.items()}


def labels_of(over: Sequence[str], chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> list[list[Any]]:
    """The labels along each dimension that there is one edit for.

    Parameters
    ----------
    over
        The dimensions.
    chosen
        Limits: ``layers`` and ``timesteps``, each two ends or None, ``heads`` and ``tokens``, lists.
    facts
        What there is, see :class:`workbench.widgets.ablate.intervention_form.EditBackend`.

    Raises
    ------
    InputError
        If there is nothing along a dimension.
    """
    low, high = chosen["timesteps"] or (0, 1000)
    held: dict[str, list[Any]] = {
        schema.LAYER: _layers(chosen, facts),
        schema.HEAD: list(chosen["heads"] or facts["heads"]),
        schema.TIMESTEP: [at for at in facts["timesteps"] if low <= at <= high],
        "token": list(chosen["tokens"] or facts["words"]),
        schema.CONCEPT: list(facts["names"]),
        "mode": [mode for mode in ATTEND_MODES if mode != facts["attend"]],
    }
    for dim in over:
        if dim != ALL and not held[dim]:
            wanted = {
                "token": "type them: words of the prompt, or places in it",
                schema.TIMESTEP: "choose a wider range",
                schema.HEAD: "type their numbers",
            }[dim]
            raise InputError(f"there are no {dim}s to go over: {wanted}.")
    return [[""] if dim == ALL else held[dim] for dim in over]


def fixed(edit: str, over: Sequence[str], chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that all edits of a plan share: those that differ from the defaults of the class."""
    found: dict[str, Any] = {}
    kind = {one.name: one for one in fields(kind_of(edit))}
    # Without a default all there are have to be named.
    named = chosen["layers"] is not None or kind["layers"].default is MISSING
    if named and schema.LAYER not in over:
        layers = _layers(chosen, facts)
        found["layers"] = slice(layers[0], layers[-1]) if len(layers) > 1 else layers[0]
    for name in ("heads", "tokens"):
        if name in kind and name[:-1] not in over and chosen[name]:
            found[name] = list(chosen[name])
    if chosen["timesteps"] is not None and schema.TIMESTEP not in over:
        found["timesteps"] = chosen["timesteps"]
    for name in ("factor", "width", "mode", "streams"):
        if name in kind and name not in over and chosen[name] is not None and chosen[name] != kind[name].default:
            found[name] = chosen[name]
    source = chosen["source"]
    if source != ITSELF and "source" in kind:
        found["source"] = source
    elif source != ITSELF and "reference" in kind:
        found["reference"] = source
    elif edit == "Patch":
        raise InputError(
            "Patch takes activations of another run: give the prompt, the seed or the picture of that run."
        )
    return found


def plan_of(edit: str, over: Sequence[str], chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """The plan, in the order of the labels."""
    kind, labels, options = kind_of(edit), labels_of(over, chosen, facts), fixed(edit, over, chosen, facts)
    if _exhaustive(edit, over, chosen):
        return kind.each(_limit(over, chosen, labels), **_rest(options))
    return [
        kind(
            **options, **{_FIELDS.get(dim, dim): _value(dim, at) for dim, at in zip(over, one, strict=True) if at != ""}
        )
        for one in itertools.product(*labels)
    ]


def code_of_plan(edit: str, over: Sequence[str], chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Python that makes :func:`plan_of`."""
    labels, options = labels_of(over, chosen, facts), fixed(edit, over, chosen, facts)
    if _exhaustive(edit, over, chosen):
        limit = _limit(over, chosen, labels)
        given = ([] if limit is None else [code(limit)]) + _arguments(_rest(options))
        return f"wb.{edit}.each({', '.join(given)})"
    varied = {_FIELDS.get(dim, dim): "(at, at)" if dim == schema.TIMESTEP else dim for dim in over if dim != ALL}
    call = f"wb.{edit}({', '.join([*(f'{name}={value}' for name, value in varied.items()), *_arguments(options)])})"
    names = ["at" if dim == schema.TIMESTEP else dim for dim in over]
    loops = [f"for {name} in {code(some)}" for name, some in zip(names, labels, strict=True) if name != ALL]
    return f"[{' '.join([call, *loops])}]"


def read_list(name: str, text: Any, *, words: bool = False) -> tuple[Any, ...]:
    """A typed list of whole numbers and ranges of them, ``"0, 2-4"``, with ``words`` also of words.

    Raises
    ------
    InputError
        If something else is typed.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is {text!r}; expected a text such as {'red, heart, 7' if words else '0, 2-4'!r}.")
    found: list[Any] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        numbers = re.fullmatch(r"(\d+)(?:\s*[-–]\s*(\d+))?", part)
        if numbers:
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            if last < first or last - first > 10_000:
                raise InputError(f"{name} holds {part!r}; expected the smaller number first, such as '2-4'.")
            found += range(first, last + 1)
        elif words:
            found.append(part)
        else:
            raise InputError(f"{name} holds {part!r}; expected numbers and ranges of them, such as '0, 2-4'.")
    return tuple(dict.fromkeys(found))


def _layers(chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> list[int]:
    first, last = chosen["layers"] or (facts["layers"][0], facts["layers"][-1])
    return [layer for layer in facts["layers"] if first <= layer <= last]


def _exhaustive(edit: str, over: Sequence[str], chosen: Mapping[str, Any]) -> bool:
    """Whether the plan is that of ``each()``."""
    if edit in HEAD_KINDS:
        return tuple(over) == _HEAD and not chosen["heads"]
    return tuple(over) == (("concept",) if edit == "DropConcept" else _LAYER)


def _limit(over: Sequence[str], chosen: Mapping[str, Any], labels: Sequence[Sequence[Any]]) -> Any:
    """What ``each()`` goes over, or is limited to."""
    if schema.LAYER in over:
        return list(labels[0])
    return None if chosen["layers"] is None else slice(*chosen["layers"])


def _rest(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "layers"}


def _value(dim: str, label: Any) -> Any:
    return (label, label) if dim == schema.TIMESTEP else label


def _arguments(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_written(value)}" for name, value in options.items()]


def _written(value: Any) -> str:
    if isinstance(value, Source):
        given = {one.name: getattr(value, one.name) for one in fields(value)}
        return f"wb.Source({', '.join(f'{name}={text!r}' for name, text in given.items() if text is not None)})"
    return code(value)
