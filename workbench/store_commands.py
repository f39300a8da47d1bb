"""Commands of the command line about stored runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.command_output import (
    check_figure,
    count_in_words,
    described,
    finish,
    made_in_words,
    size_in_words,
    time_in_words,
)
from workbench.options import Command, Figure, Home, Json
from workbench.schema import MANY

_RUN = "Key of a run, its beginning, or the path or URL of a run."


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    command = partial(app.command, cls=Command)
    command("show", epilog="Example: workbench show 3f2a --figure maps.pdf")(show)
    command("runs", epilog="Example: workbench runs --json")(runs)
    command("verify", epilog="Example: workbench verify --delete")(verify)
    command("prune", epilog="Example: workbench prune --older-than 30d --keep 10 --dry-run")(prune)
    command("export", epilog="Example: workbench export 3f2a figure-2.zarr.zip")(export)
    command("import", epilog="Example: workbench import figure-2.zarr.zip")(import_)


def show(
    run: Annotated[str, typer.Argument(help=_RUN)],
    home: Home = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Describe a stored run, and draw it when asked."""
    import workbench as wb
    from workbench import store

    if figure is not None:
        check_figure(figure)
    told = store.info(run, home)
    found = wb.open_many(run, home) if told.kind == MANY else wb.open(run, home)
    finish(found, figure, home, as_json, told)


def runs(
    every: Annotated[
        bool, typer.Option("--all", help="Also list each run that was made for an experiment, below its own run.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List the stored runs; those that were made for experiments are counted below the run that they belong to."""
    import workbench as wb

    found = wb.runs(home)
    if as_json:
        typer.echo(json.dumps([described(run) for run in found], indent=2))
    elif found:
        typer.echo(found.table(every=every))
        own, made = ([run for run in found if run.own is mine] for mine in (True, False))
        more = f"; and {made_in_words(made)}, {size_in_words(sum(run.size for run in made))}" if made else ""
        typer.echo(f"{count_in_words(own)}, {size_in_words(sum(run.size for run in own))}{more}")
        if old := [run for run in found if run.superseded]:
            typer.echo(f"{count_in_words(old)} superseded, which no call finds any more: workbench prune --superseded")
    else:
        typer.echo(f"no runs yet in {_place(home)}: make one with `workbench capture IMAGE CONCEPT...`")


def verify(
    chosen: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=f"{_RUN} All by default.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is damaged, so that the same call computes it again.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare every file of stored runs with its checksum; exit code 1 when one is damaged."""
    from workbench import store

    results: list[dict[str, Any]] = []
    for checked in store.check(chosen or None, home):
        removed = delete and checked.stored and bool(checked.problems)
        if removed:
            store.discard(checked.key, home)
        results.append(
            {
                "key": checked.key,
                "path": str(checked.path),
                "problems": checked.problems,
                "note": checked.note,
                "removed": removed,
            }
        )
        if not as_json:
            state = "damaged" if checked.problems else "not checked" if checked.note else "sound"
            typer.echo(f"{checked.key}  {state}{', removed' * removed}")
            for line in [*checked.problems, *filter(None, [checked.note])]:
                typer.echo(f"  {line}")
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    elif not results:
        typer.echo(f"no runs yet in {_place(home)}")
    raise typer.Exit(int(any(result["problems"] for result in results)))


def prune(
    older_than: Annotated[str | None, typer.Option(help="Remove runs made before that: 12h, 30d, 2w.")] = None,
    keep: Annotated[int | None, typer.Option(help="Keep that many of your own newest runs in any case.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Keep the newest runs that fit into that: 500MB, 20GB.")] = None,
    superseded: Annotated[
        bool,
        typer.Option("--superseded", help="Remove runs that no call finds any more: its numbers would differ now."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where nobody can tell whether a run is being read: at a URL.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Remove old runs and what interrupted processes left behind; never a run that is being written or read.

    Runs that were made for experiments are removed before your own.
    """
    from workbench import store

    limits: dict[str, Any] = {"older_than": older_than, "keep": keep, "max_size": max_size, "superseded": superseded}
    done = store.prune(home, **limits, dry_run=dry_run, force=force)
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in done], indent=2))
        return
    verb = "would remove" if dry_run else "removed"
    gone = [item for item in done if not item.kept]
    own, made = ([item for item in gone if item.what == "run" and bool(item.role) is of] for of in (False, True))
    for item in [item for item in done if item.what != "lock" and (item.kept or not item.role)]:
        fate = f"left, {item.kept}:" if item.kept else verb
        size, time = size_in_words(item.size), time_in_words(item.modified)
        typer.echo(f"{fate} {item.what} {item.key}  {size}  {time}  ({item.reason})")
    for reason in dict.fromkeys(item.reason for item in made):
        alike = [item for item in made if item.reason == reason]
        size = size_in_words(sum(item.size for item in alike))
        typer.echo(f"{verb} {made_in_words(alike, 'an experiment')}  {size}  ({reason})")
    more = f" and {made_in_words(made)}" if made else ""
    typer.echo(f"{verb} {count_in_words(own)}{more}, {size_in_words(sum(item.size for item in gone))}")


def export(
    chosen: Annotated[list[str], typer.Argument(metavar="RUN...", help=_RUN)],
    file: Annotated[Path, typer.Argument(help="New file; its name ends in .zarr.zip.")],
    derived: Annotated[
        bool, typer.Option("--derived", help="Also take the runs that were made for experiments with these.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write runs into one file for `workbench import`; workbench.open and plain xarray read the first of them."""
    from workbench import store

    written = store.export_runs(chosen, file, home, derived=derived)
    size = written.stat().st_size
    if as_json:
        typer.echo(json.dumps({"path": str(written.absolute()), "bytes": size}, indent=2))
    else:
        typer.echo(f"{written.absolute()}  {size_in_words(size)}")


def import_(
    file: Annotated[Path, typer.Argument(help="What `workbench export` wrote.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check exported runs and take them into the store."""
    from workbench import store

    found = store.import_runs(file, home)
    if as_json:
        typer.echo(json.dumps([described(run) for run in found], indent=2))
    for run in [] if as_json else found:
        typer.echo(f"{run.key}  {size_in_words(run.size)}  {run.path}")


def _place(home: str | None) -> str:
    from workbench.store.locations import home as home_of

    return str(home_of(home))
