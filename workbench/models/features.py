"""What each family can do, from the declarations of its adapters; ``python -m workbench.models.features`` prints it.

With the path of a page, docs/models.md, it writes the table there, between the lines that mark it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench.models.family import adapter_class
from workbench.models.known import FAMILIES, Family
from workbench.models.pipeline import PipelineAdapter
from workbench.schema import FLOW, PROMPT, SPACES, InputError

BEGIN: Final = "<!-- families: `make readme` writes this table -->"
END: Final = "<!-- end of families -->"
_CHANGES: Final = ("change_text", "change_attention", "change_heads", "change_block")


@dataclass(frozen=True)
class Features:
    """What a family can do.

    Attributes
    ----------
    family : Family
        Which.
    capture, generate, trace : bool
        Whether the functions of these names take its classes.
    edits : bool
        Whether its blocks can be edited.
    spaces : tuple of str
        What can be read from its blocks.
    positions : bool
        Whether a concept has a position in the text that changes its scores.
    text_mass : bool
        Whether the image's attention to each token of the text can be recorded.
    process : str
        How noise is added; empty for a family that has no pipeline.
    inputs : tuple of str
        Inputs of the pipeline's own that ``generate`` hands on.
    """

    family: Family
    capture: bool
    generate: bool
    trace: bool
    edits: bool
    spaces: tuple[str, ...]
    positions: bool
    text_mass: bool
    process: str
    inputs: tuple[str, ...]


def features(family: Family) -> Features:
    """What a family can do; its adapters are imported.

    Parameters
    ----------
    family : Family
        Any.

    Raises
    ------
    ModelError
        If another distribution brings it, and its adapters cannot be imported.
    """
    whole: Any = adapter_class(family, "pipeline_adapter") if family.pipelines else None
    side: Any = adapter_class(family, "adapter") if family.adapter else whole.transformer_side
    return Features(
        family=family,
        capture=whole is not None and not getattr(whole, "uncaptured", ""),
        generate=whole is not None,
        trace=bool(family.transformers),
        edits=all(not getattr(getattr(side, name), "__isabstractmethod__", False) for name in _CHANGES),
        spaces=side.spaces,
        positions=whole is not None and whole.concept_positions is not PipelineAdapter.concept_positions,
        text_mass=PROMPT in side.spaces,  # both need the prompt's keys or queries, masked as the model does
        process="" if whole is None else whole.process,
        inputs=() if whole is None else getattr(whole, "extras", ()),
    )


def table(families: Iterable[Family] = FAMILIES) -> str:
    """What families can do, as a Markdown table.

    Parameters
    ----------
    families : iterable of Family
        Those of this package by default.
    """
    marked = ("capture", "generate", "trace", "edits", "text_mass", "positions")
    head = ("family", "pipelines", *marked, "spaces", "guidance in `generate`", "further inputs", "licences of weights")
    rows: list[tuple[str, ...]] = [head, tuple(":---:" if name in marked else "---" for name in head)]
    for one in map(features, families):
        family = one.family
        spaces = "all" if set(one.spaces) == set(SPACES) else ", ".join(f"`{space}`" for space in one.spaces)
        noise = f" ({one.process})" if one.process not in ("", FLOW) else ""
        rows.append(
            (
                family.name + noise,
                ", ".join(f"`{name}`" for name in family.pipelines) or f"none: `{'`, `'.join(family.transformers)}`",
                *(_mark(getattr(one, name)) for name in marked),
                spaces,
                _quoted(family.guidance) if one.generate else "–",
                ", ".join(f"`{name}`" for name in one.inputs) or "–",
                "; ".join(_licence(family)) or "–",
            )
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def write(path: Path) -> bool:
    """Write the table into a file, between the lines that mark it.

    Returns
    -------
    bool
        Whether the file has changed.

    Raises
    ------
    InputError
        If the file has no such lines.
    """
    text = path.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} has no place for the table: put the lines {BEGIN} and {END} where it belongs.")
    new = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    path.write_text(new, "utf-8")
    return new != text


def _mark(has: bool) -> str:
    return "✓" if has else "–"


def _quoted(text: str) -> str:
    """A sentence with the options in it marked as code."""
    return " ".join(f"`{word.rstrip(',')}`{',' * word.endswith(',')}" if "=" in word else word for word in text.split())


def _licence(family: Family) -> list[str]:
    return [
        f"{each.name}{f' ({each.terms})' if each.terms else ''}: {', '.join(each.models)}" for each in family.licences
    ]


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    if arguments:
        write(Path(arguments[0]))
    else:
        print(table())


if __name__ == "__main__":
    main(sys.argv[1:])
