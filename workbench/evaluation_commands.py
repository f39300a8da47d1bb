"""Commands of the command line that evaluate: many images, the paper's tables, and a page about them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.options import Command, Json
from workbench.schema import InputError

if TYPE_CHECKING:
    from workbench.evaluation.harness import Evaluation

Knobs = Annotated[list[str] | None, typer.Option("--set", help="Change a knob, such as layers=14-17; repeat for more.")]
Preset = Annotated[str, typer.Option(help="default, paper, public-release or public-head.")]
Limit = Annotated[int | None, typer.Option(help="Evaluate so many images, spread evenly over the set.")]
Batch = Annotated[int, typer.Option(help="Images that are kept at once.")]
AnyCount = Annotated[bool, typer.Option("--any-count", help="Go on with another number of images than published.")]
Split = Annotated[str | None, typer.Option(help="Of drawn scenes: test, validation, …")]
Folder = Annotated[Path | None, typer.Option(help="Where results are kept; the cache folder by default.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when an image cannot be evaluated.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    example = "Example: workbench evaluate scenes-single --method output --method random --limit 20"
    app.command("evaluate", cls=Command, epilog=example)(evaluate)
    app.command("reproduce", cls=Command, epilog="Example: workbench reproduce table3")(reproduce)
    app.command("report", cls=Command, epilog="Example: workbench report FOLDER... --output report.html")(report)


def evaluate(
    data: Annotated[
        str, typer.Argument(help="scenes-single, scenes-multi, imagenet, voc-single, voc-multi, ade, coco or folder.")
    ],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="A space (output, cross, …), or background, uniform, random, centre, prior, majority, oracle; repeat "
            "for more. By default output, cross, floors and the ceiling.",
        ),
    ] = None,
    path: Annotated[Path | None, typer.Option(help="The data set's file or folder; nothing is downloaded.")] = None,
    model: Annotated[str, typer.Option(help="tiny-flux, a folder in diffusers format, or a hub name.")] = "tiny-flux",
    protocol: Preset = "default",
    knobs: Knobs = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every knob beside the paper and its code, and compute nothing.")
    ] = False,
    limit: Limit = None,
    batch: Batch = 8,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th image from the i-th, counted from 0.")] = None,
    split: Split = None,
    any_count: AnyCount = False,
    strict: Strict = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Evaluate zero-shot segmentation on many images; what was done before is not done again."""
    from workbench.evaluation.protocols import preset, set_knobs
    from workbench.evaluation.sources import open_data
    from workbench.evaluation.stored import described

    part = _shard(shard)
    _check_methods(methods or [])
    if not explain:
        _check_model(model)
    known = described(data) if explain and path is None else None
    opened = known or open_data(data, path=path, split=split, any_count=any_count)
    rules = set_knobs(preset(protocol, opened), knobs or [])
    if explain:
        _explain(rules, opened, as_json)
        return
    from workbench.evaluation import harness
    from workbench.evaluation.methods import floors

    done = harness.evaluate(
        opened,
        methods or ["output", "cross", *floors(opened)],
        model=model,
        protocol=rules,
        limit=limit,
        batch=batch,
        shard=part,
        any_count=any_count,
        folder=folder,
        progress=not as_json,
    )
    _print(str(done), [done], as_json)
    _end([done], strict)


def reproduce(
    table: Annotated[str, typer.Argument(help="table1, table2, table3, table4 or figure7.")],
    imagenet: Annotated[Path | None, typer.Option(help="gtsegs_ijcv.mat of ImageNet-Segmentation.")] = None,
    voc: Annotated[Path | None, typer.Option(help="PascalVOC 2012: its folder or tar.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="FLUX.1-schnell for the paper's data sets, tiny-flux for drawn scenes by default."),
    ] = None,
    protocol: Preset = "paper",
    knobs: Knobs = None,
    limit: Annotated[int | None, typer.Option(help="Images; all by default, and 100 drawn scenes.")] = None,
    batch: Batch = 8,
    split: Split = None,
    any_count: AnyCount = False,
    strict: Strict = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Make a table of the ConceptAttention paper again, on its data or, without them, on drawn scenes."""
    from workbench.evaluation.names import TABLES

    if table not in TABLES:
        raise InputError(f"there is no {table!r}; expected one of {', '.join(TABLES)}.")
    if model is not None:
        _check_model(model)
    from workbench.evaluation import reproducing

    done = reproducing.reproduce(
        table,
        imagenet=imagenet,
        voc=voc,
        model=model,
        protocol=protocol,
        knobs=knobs or [],
        limit=limit,
        batch=batch,
        split=split,
        any_count=any_count,
        folder=folder,
        progress=not as_json,
    )
    _print(str(done), done.evaluations, as_json)
    _end(done.evaluations, strict)


def report(
    chosen: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="What `workbench evaluate` named.")],
    output: Annotated[Path, typer.Option(help="The page; it is replaced when it exists.")] = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Write one HTML page about evaluations: tables, protocol, classes, best and worst images, failures."""
    from workbench.evaluation.report_page import write_report

    written = write_report(chosen, output)
    if as_json:
        typer.echo(json.dumps({"path": str(written.absolute()), "bytes": written.stat().st_size}))
    else:
        typer.echo(f"{written.absolute()}")


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, slash, count = text.partition("/")
    if not slash or not first.isdecimal() or not count.isdecimal() or not int(first) < int(count):
        raise InputError(f"shard is {text!r}; expected i/n with i from 0 to n - 1, such as 0/4.")
    return int(first), int(count)


def _check_methods(methods: list[str]) -> None:
    """Refuse an unknown name before anything is read, or imported."""
    from workbench.evaluation.names import METHODS

    if unknown := [name for name in methods if name not in METHODS]:
        raise InputError(f"unknown method {', '.join(map(repr, unknown))}; expected some of {', '.join(METHODS)}.")


def _check_model(model: str) -> None:
    from workbench.folders import local_folder

    local_folder(model)


def _explain(rules: Any, data: Any, as_json: bool) -> None:
    from workbench.evaluation.explaining import explain, knobs, notes

    if as_json:
        found = {"protocol": rules.name, "hash": rules.hash, "knobs": [one._asdict() for one in knobs(rules, data)]}
        typer.echo(json.dumps(found | {"notes": list(notes(data))}, indent=2))
    else:
        typer.echo(explain(rules, data))


def _print(text: str, done: Any, as_json: bool) -> None:
    evaluations: list[Evaluation] = list(done)
    if as_json:
        typer.echo(json.dumps([_plain(one) for one in evaluations], indent=2))
        return
    typer.echo(text)
    folders = dict.fromkeys(str(one.parts.folder) for evaluation in evaluations for one in evaluation.results)
    typer.echo("\nkept in")
    for folder in folders:
        typer.echo(f"  {folder}")


def _end(done: Iterable[Evaluation], strict: bool) -> None:
    """Exit with 1 when a method has no figure at all; with ``strict`` also when an image could not be evaluated."""
    if any((strict and one.problems) or any(not each.summary.images for each in one.results) for one in done):
        raise typer.Exit(1)


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    frame = evaluation.frame()
    return {
        "data": evaluation.data.name,
        "images": len(evaluation.names),
        "available": evaluation.available,
        "protocols": {one.protocol.hash: one.protocol.record() for one in evaluation.results},
        "figures": json.loads(frame.to_json(orient="records")),
        "failures": [one._asdict() for one in evaluation.problems],
        "warnings": dict(evaluation.notes),
        "folders": [str(one.parts.folder) for one in evaluation.results],
    }
