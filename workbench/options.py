"""What the commands of the command line have in common: their options, and what is said of unknown ones."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from workbench.schema import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Model = Annotated[str, typer.Option(help="tiny-flux, a folder in diffusers format, or a name on the Hugging Face hub.")]
Layers = Annotated[list[int] | None, typer.Option("--layer", help="Block to record, by depth; repeat for more.")]
Spaces = Annotated[list[str], typer.Option("--space", help="Space to record; repeat for more.")]
Samples = Annotated[int, typer.Option(help="Noise samples or pictures.")]
Seed = Annotated[int, typer.Option(help="Seed of the first sample.")]
Size = Annotated[str | None, typer.Option(help="Height x width in pixels, such as 1024x768.")]
Attend = Annotated[str, typer.Option(help="What concepts attend to: both, image, concepts or none.")]
Pool = Annotated[str, typer.Option(help="Tokens of a concept: first, last or mean.")]
Lse = Annotated[bool, typer.Option("--lse", help="Also record the log-sum-exps of the concepts' logits.")]
TextMass = Annotated[bool, typer.Option("--text-mass", help="Also record the image's attention to each text token.")]
Verify = Annotated[bool, typer.Option("--verify", help="Check a stored run, and compute it anew when it is damaged.")]
Home = Annotated[
    str | None, typer.Option(help="Folder or URL of the runs; WORKBENCH_HOME or the cache folder by default.")
]
Figure = Annotated[Path | None, typer.Option(help="Also write the concept grid to this file (.png, .pdf or .svg).")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", help="Further input of the pipeline, image=photo.png or strength=0.6; repeat for more (see models)."
    ),
]
Pipeline = Annotated[
    str | None, typer.Option(help="Class to load the model as, where it is not its own: FluxImg2ImgPipeline.")
]
PerImage = Annotated[
    Path | None,
    typer.Option(
        help="Of a folder: a .csv, .tsv or .json file with the name of each image (that of its file, without suffix) "
        "and its own concepts (with commas between them), prompt, or both."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def read_size(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels from ``1024x768``.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"size is {text!r}; expected height x width in pixels, such as 1024x768.")
    return int(parts[0]), int(parts[1])


def read_per_image(file: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Concepts and prompts by the names of images, from a table with the columns ``name``, ``concepts``, ``prompt``.

    Parameters
    ----------
    file
        Ends in ``.csv`` or ``.tsv``, with a head and with commas between concepts; or in ``.json``, a list of objects.

    Returns
    -------
    concepts, prompts : dict
        Empty for a column that is not there.

    Raises
    ------
    InputError
        If it cannot be read, or an image comes twice or lacks what others have.
    """
    expected = "expected a .csv, .tsv or .json file with the columns name, and concepts, prompt or both"
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            rows = json.loads(text)
        elif file.suffix.lower() in (".csv", ".tsv"):
            delimiter = "," if file.suffix.lower() == ".csv" else "\t"
            rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True))
        else:
            raise InputError(f"--per-image is {os.fspath(file)!r}; {expected}.")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"--per-image: {file} cannot be read ({error}); {expected}.") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"--per-image: {file} holds no rows; {expected}.")
    columns = {column: column in rows[0] for column in ("concepts", "prompt")}
    concepts, prompts, names = {}, {}, set()
    for place, row in enumerate(rows, 1):
        name, unknown = row.get("name"), [column for column in row if column not in ("name", *columns)]
        if not isinstance(name, str) or name in names or unknown or not any(columns.values()):
            wrong = f"the column {unknown[0]!r}" if unknown else f"the name {name!r}" + " again" * (name in names)
            raise InputError(f"--per-image: row {place} of {file} has {wrong}; {expected}, and each image once.")
        names.add(name)
        if lacking := [column for column, there in columns.items() if there != (row.get(column) is not None)]:
            raise InputError(f"--per-image: of {name!r} and others, one alone has {lacking[0]} in {file}; {expected}.")
        if columns["concepts"]:
            words = row["concepts"]
            concepts[name] = [word.strip() for word in words.split(",")] if isinstance(words, str) else words
        if columns["prompt"]:
            prompts[name] = row["prompt"]
    return concepts, prompts


def read_inputs(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Inputs from ``name=value`` each: numbers, true and false as such, several values of a name as a list.

    Raises
    ------
    InputError
        If one has no name or no value.
    """
    found: dict[str, Any] = {}
    for one in given or ():
        name, _, text = one.partition("=")
        if not name or not text:
            raise InputError(f"--input is {one!r}; expected name=value, such as image=photo.png or strength=0.6.")
        value = _value(text)
        found[name] = value if name not in found else [*_listed(found[name]), value]
    return found or None


def _value(text: str) -> Any:
    """A number, True or False where it is written like one; else the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _NamesEveryUnknown:
    """Of a command: tells all options that it does not know, not the first only, and of those that come twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(itertools.takewhile(lambda one: one != "--", args))
        if not ctx.allow_interspersed_args:  # the rest belongs to a command
            given = list(itertools.takewhile(lambda one: one.startswith("-"), given))
        try:
            left: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except Exception as error:
            unknown = self._unknown(ctx.command.get_params(ctx), given)
            if getattr(error, "option_name", None) in unknown and len(unknown) > 1:
                ctx.fail(f"No such options: {', '.join(unknown)}")
            raise
        known = _known(ctx.command.get_params(ctx))
        counts = Counter(id(known[name]) for name in _named(known, given) if name in known)
        once = {id(option): name for name, option in known.items() if not getattr(option, "multiple", False)}
        if twice := [once[one] for one, count in counts.items() if count > 1 and one in once]:
            ctx.fail(f"{', '.join(twice)} given more than once; expected one value each.")
        return left

    def _unknown(self, parameters: Sequence[Any], given: Sequence[str]) -> list[str]:
        known = _known(parameters)
        return [name for name in dict.fromkeys(_named(known, given)) if name not in known]


def _known(parameters: Sequence[Any]) -> dict[str, Any]:
    """Options by each of their names."""
    return {name: option for option in parameters for name in (*option.opts, *option.secondary_opts)}


def _named(known: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """The names of options in a command line, in order; what follows an option with a value is none."""
    valued = {name for name, option in known.items() if not getattr(option, "is_flag", True)}
    options = (one for before, one in itertools.pairwise(["", *given]) if one[:1] == "-" and before not in valued)
    return [one.partition("=")[0] for one in options]


class Command(_NamesEveryUnknown, TyperCommand):
    """A command that tells all options that it does not know."""


class Group(_NamesEveryUnknown, TyperGroup):
    """The commands; their own options are told likewise, and an interruption in words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # Typer ends with 130 too, without a word
            typer.echo("interrupted; what was written is kept, and the same call goes on from there", err=True)
            raise typer.Exit(130) from None
