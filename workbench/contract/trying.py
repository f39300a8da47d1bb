"""Trying the rules: all of them until one is broken, or each with what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from workbench.contract import rules
from workbench.contract.case import Case
from workbench.contract.edits import edits_land_where_they_say
from workbench.schema import WorkbenchError

Rule = Callable[[Any], str]

RULES: Final[Mapping[str, Callable[[Case], str]]] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            rules.picture_is_untouched,
            rules.prompt_is_its_own_concepts,
            rules.attention_is_rebuilt,
            rules.masked_text_is_unseen,
            rules.heads_make_the_whole,
            rules.order_of_concepts_is_free,
            rules.concepts_are_apart,
            rules.layers_are_all_there,
            edits_land_where_they_say,
            rules.model_is_left_as_it_was,
        )
    }
)
"""All rules about a transformer by name."""


@dataclass(frozen=True)
class Tried:
    """What came of a rule.

    Attributes
    ----------
    rule : str
        Its name.
    passed : bool
        Whether it is kept.
    told : str
        What was measured, or the sentence that says what is wrong.
    seconds : float
        How long it took.
    """

    rule: str
    passed: bool
    told: str
    seconds: float


def check(case: Case, only: Iterable[str] | None = None) -> None:
    """Try the rules on a case.

    Parameters
    ----------
    case : Case
        A transformer with the arguments of one of its passes.
    only : iterable of str, optional
        Names of the rules to try; all by default.

    Raises
    ------
    ContractError
        Of the first rule that is broken.
    """
    for name in RULES if only is None else only:
        RULES[name](case)


def tried(rule: Rule, *given: Any) -> Tried:
    """Try one rule, whatever comes of it.

    Parameters
    ----------
    rule : callable
        One of :data:`RULES`, or of :mod:`.pipelines`.
    *given
        What it is tried on.
    """
    begun = time.perf_counter()
    try:
        passed, told = True, rule(*given)
    except WorkbenchError as error:
        passed, told = False, str(error)
    except Exception as error:  # of the model, or of an adapter that does not fit it
        passed, told = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Tried(rule.__name__, passed, told, time.perf_counter() - begun)
