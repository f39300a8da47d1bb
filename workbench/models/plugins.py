"""Families that other distributions bring, by the entry points group ``workbench.families``.

They are read when a family is first looked for. A distribution that fails, or names what another one names, is left
out with a sentence about it; the others are not touched by that.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, entry_points
from typing import Any, Final

from workbench.models import known
from workbench.models.known import Family
from workbench.models.quiet import quiet
from workbench.schema import InputError, warn

GROUP: Final = "workbench.families"
"""Each entry point names a :class:`.known.Family`, a list of them, or a callable that gives either."""
OWN: Final = "concept-workbench"
"""The distribution of the families of this package."""
PROCESS_ONLY: Final = "this process"
"""In place of a distribution, of a family that was registered by hand."""

_registered: list[Family] = []
_told: set[str] = set()


@dataclass(frozen=True)
class Plugins:
    """Families of other distributions.

    Attributes
    ----------
    families : tuple of Family
        Those that can be used.
    problems : tuple of str
        What is wrong with the others, a sentence each that names the distribution.
    """

    families: tuple[Family, ...]
    problems: tuple[str, ...]


def plugins() -> Plugins:
    """Families of installed distributions and those that were registered, read once for each ``sys.path``.

    Warns
    -----
    WorkbenchWarning
        Of each problem, once.
    """
    found = _read(tuple(sys.path), tuple(_registered), known.FAMILIES)
    for problem in found.problems:
        if problem not in _told:
            _told.add(problem)
            warn(problem, stacklevel=3)
    return found


def register(family: Family) -> None:
    """Use a family in this process without installing it, as while it is written.

    Runs of its pipelines are not stored, since no key can hold code that has no version: with ``store=False`` they are
    kept in memory. Registering another family of the same name replaces it.

    Parameters
    ----------
    family : Family
        Its adapters may be classes of a notebook: ``"__main__:MyAdapter"``.

    Raises
    ------
    InputError
        If it is no family, or a name of it is taken.
    """
    if not isinstance(family, Family):
        raise InputError(f"a {type(family).__name__} was given; expected a workbench.models.Family.")
    mine = replace(family, distribution=PROCESS_ONLY, version="")
    others = [each for each in known.families() if (each.distribution, each.name) != (PROCESS_ONLY, family.name)]
    for kind, name in _names(mine):
        for other in others:
            if (kind, name) in _names(other):
                raise InputError(
                    f"the family {family.name!r} was not registered: its {kind} {name} is taken by the family "
                    f"{other.name!r} of {_from(other)}. Give it another name."
                )
    _registered[:] = [each for each in _registered if each.name != family.name] + [mine]


def identity(family: Family) -> dict[str, str]:
    """What the key of a run says of a family of another distribution.

    Returns
    -------
    dict
        ``name``, ``distribution``, ``version``, and ``files``, a hash over the code that was installed: a version may
        be installed anew with other code.
    """
    brings = (each.dist for each in entry_points(group=GROUP))
    found = next(each for each in brings if each is not None and each.name == family.distribution)
    told = {"name": family.name, "distribution": family.distribution, "version": family.version}
    return told | {"files": _installed_code(found)}


def _installed_code(distribution: Distribution) -> str:
    """Hash of the checksums of all code in a distribution's record; empty where it has none."""
    files = distribution.files or ()
    code = sorted(f"{file} {file.hash.value}" for file in files if file.hash and file.suffix in (".py", ".so", ".pyd"))
    return hashlib.sha256("\n".join(code).encode()).hexdigest() if code else ""


@cache
def _read(path: tuple[str, ...], registered: tuple[Family, ...], own: tuple[Family, ...]) -> Plugins:
    """What the entry points on a ``sys.path`` give; the argument only tells when to look again."""
    found: list[Family] = []
    problems: list[str] = []
    for entry_point in entry_points(group=GROUP):
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution else (entry_point.value, "")
        try:
            with quiet():
                given = list(_families(entry_point.load()))
            found += [replace(family, distribution=name, version=version) for family in given]
        except (Exception, SystemExit) as error:  # whatever another's code does
            reason = " ".join(str(error).split()) or type(error).__name__
            problems.append(
                f"the families of {name} {version} are not used: its entry point {entry_point.name} = "
                f"{entry_point.value} failed ({type(error).__name__}: {reason.rstrip('.')}). Install a version that "
                f"works, or uninstall it: pip uninstall {name}."
            )
    # This package's own come first: who takes a name of it takes none from anybody else.
    for others in (own, ()):
        clashes = {family: told for family in found if (told := _clash(family, others or found))}
        found = [family for family in found if family not in clashes]
        problems += dict.fromkeys(clashes.values())
    return Plugins((*found, *registered), tuple(problems))


def _families(given: Any) -> Iterable[Family]:
    """The families that an entry point gives.

    Raises
    ------
    InputError
        If it gives something else.
    """
    if not isinstance(given, Family | list | tuple) and isinstance(given, Callable):  # type: ignore[arg-type]
        given = given()
    listed = [given] if isinstance(given, Family) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, Family) for each in listed):
        raise InputError(f"it gives a {type(given).__name__}; expected a Family, or a list of them")
    return listed


def _names(family: Family) -> list[tuple[str, str]]:
    """What no two distributions may both have: the family's name, and the classes that it serves."""
    transformers = [("transformer class", name) for name in family.transformers]
    return [("name", family.name), *transformers, *(("pipeline class", name) for name in family.pipelines)]


def _clash(family: Family, others: Iterable[Family]) -> str:
    """Why a family cannot be used beside others, or nothing.

    Of two distributions neither is preferred, since which is read first says nothing.
    """
    for other in others:
        if other.distribution == family.distribution:
            if other is not family and other.name == family.name:
                return (
                    f"the family {family.name!r} of {family.origin} is not used: that distribution brings two of this "
                    f"name. Install a version that works, or uninstall it: pip uninstall {family.distribution}."
                )
            continue
        for kind, name in _names(family):
            if (kind, name) in _names(other):
                either = f" or {other.distribution}" if other.distribution else ""
                return (
                    f"the family {family.name!r} of {family.origin} is not used: its {kind} {name} is also that of "
                    f"the family {other.name!r} of {_from(other)}. Uninstall one of them: pip uninstall "
                    f"{family.distribution}{either}."
                )
    return ""


def _from(family: Family) -> str:
    return family.origin if family.distribution else OWN
