"""What the commands of the command line have in common: their options, and what is said of unknown ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from workbench.schema import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

Model = Annotated[str, typer.Option(help="tiny-flux, a folder in diffusers format, or a name on the Hugging Face hub.")]
Layers = Annotated[list[int] | None, typer.Option("--layer", help="Block to record, by depth; repeat for more.")]
Spaces = Annotated[list[str], typer.Option("--space", help="Space to record; repeat for more.")]
Samples = Annotated[int, typer.Option(help="Noise samples or pictures.")]
Seed = Annotated[int, typer.Option(help="Seed of the first sample.")]
Size = Annotated[str | None, typer.Option(help="Height x width in pixels, such as 1024x768.")]
Attend = Annotated[str, typer.Option(help="What concepts attend to: both, image, concepts or none.")]
Pool = Annotated[str, typer.Option(help="Tokens of a concept: first or mean.")]
Lse = Annotated[bool, typer.Option("--lse", help="Also record the log-sum-exps of the concepts' logits.")]
TextMass = Annotated[bool, typer.Option("--text-mass", help="Also record the image's attention to each text token.")]
Verify = Annotated[bool, typer.Option("--verify", help="Check a stored run, and compute it anew when it is damaged.")]
Home = Annotated[
    str | None, typer.Option(help="Folder or URL of the runs; WORKBENCH_HOME or the cache folder by default.")
]
Figure = Annotated[Path | None, typer.Option(help="Also write the concept grid to this file (.png, .pdf or .svg).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def size_of(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels, as the option ``--size`` says them.

    Raises
    ------
    InputError
        If it says something else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"size is {text!r}; expected height x width in pixels, such as 1024x768.")
    return int(parts[0]), int(parts[1])


class _NamesEveryUnknown:
    """Of a command: tells all options that it does not know, not the first only."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(itertools.takewhile(lambda one: one != "--", args))
        if not ctx.allow_interspersed_args:  # the rest belongs to a command
            given = list(itertools.takewhile(lambda one: one.startswith("-"), given))
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc,no-any-return]
        except Exception as error:
            unknown = self._unknown(ctx.command.get_params(ctx), given)
            if getattr(error, "option_name", None) in unknown and len(unknown) > 1:
                ctx.fail(f"No such options: {', '.join(unknown)}")
            raise

    def _unknown(self, parameters: Sequence[Any], given: Sequence[str]) -> list[str]:
        known = {name: option for option in parameters for name in (*option.opts, *option.secondary_opts)}
        valued = {name for name, option in known.items() if not getattr(option, "is_flag", True)}
        options = (one for before, one in itertools.pairwise(["", *given]) if one[:1] == "-" and before not in valued)
        return [name for name in dict.fromkeys(one.partition("=")[0] for one in options) if name not in known]


class Command(_NamesEveryUnknown, TyperCommand):
    """A command that tells all options that it does not know."""


class Group(_NamesEveryUnknown, TyperGroup):
    """The commands; their own options are told likewise."""
