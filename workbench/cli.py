"""The command line: a thin layer over the public functions."""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import __version__, evaluation_commands, model_commands, view_commands
from workbench.lab import lab
from workbench.options import (
    Attend,
    Command,
    Figure,
    Group,
    Home,
    Inputs,
    Json,
    Layers,
    Lse,
    Model,
    PerImage,
    Pipeline,
    Pool,
    Samples,
    Seed,
    Size,
    Spaces,
    TextMass,
    Verify,
    read_inputs,
    read_per_image,
    read_size,
)
from workbench.schema import FAILED, MANY, InputError, WorkbenchError
from workbench.schema.paths import is_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from workbench.store import Pruned, Run


app = typer.Typer(
    name="workbench",
    cls=Group,
    help="Concept attention for diffusion transformers: capture, look, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_command = partial(app.command, cls=Command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_SPACES = ["output", "cross"]
_RUN = "Key of a run, its beginning, or the path or URL of a run."


@app.command(
    cls=Command, epilog="Example: workbench capture data/scenes/scene-08.png house heart grass --figure maps.png"
)
def capture(
    image: Annotated[Path, typer.Argument(help="Image file, or a folder of them.")],
    concepts: Annotated[list[str] | None, typer.Argument(help="Concept words.")] = None,
    model: Model = "tiny-flux",
    prompt: Annotated[str, typer.Option(help="What the model is told about the image.")] = "",
    per_image: PerImage = None,
    timesteps: Annotated[
        list[float] | None, typer.Option("--timestep", help="1000 x sigma, in (0, 1000]; repeat for more.")
    ] = None,
    layers: Layers = None,
    spaces: Spaces = _SPACES,
    samples: Samples = 1,
    seed: Seed = 0,
    size: Size = None,
    attend: Attend = "both",
    pool: Pool = "first",
    lse: Lse = False,
    text_mass: TextMass = False,
    home: Home = None,
    verify_stored: Verify = False,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Record concept attention of an image file, or of all in a folder as one dataset.

    Of a folder, images that cannot be captured are skipped, and listed; the same call tries them again.
    """
    words: Any = concepts or []
    told: Any = prompt
    if per_image is not None:
        if not is_folder(image):
            raise InputError(f"--per-image is of the images of a folder, and {image} is none: give the words.")
        of_each, prompts = read_per_image(per_image)
        if (of_each and words) or (prompts and prompt):
            what = "concepts" if of_each and words else "a prompt"
            raise InputError(f"{per_image} has {what} of each image, and the command has {what} for all: give one.")
        words, told = of_each or words, prompts or prompt
    asked: dict[str, Any] = {
        "model": model,
        "timesteps": timesteps or None,
        "layers": layers or None,
        "spaces": spaces,
        "samples": samples,
        "seed": seed,
        "size": read_size(size),
        "attend": attend,
        "pool": pool,
        "home": home,
    }
    if figure is not None and is_folder(image):
        raise InputError(f"{image} is a folder, and --figure draws one image: leave it out, or capture one image.")
    first = [next(iter(each.values())) if isinstance(each, dict) else each for each in (words, told)]
    _check(figure, first[0], image=image, prompt=first[1], **asked)
    import workbench as wb

    recorded: dict[str, Any] = {"lse": lse, "text_mass": text_mass, "verify": verify_stored, "progress": not as_json}
    if is_folder(image):
        found = wb.capture_many(image, words, prompt=told, **asked, **recorded, errors="skip")
        _finish(found, None, home, as_json)
        return
    _finish(wb.capture(image, words, prompt=told, **asked, **recorded), figure, home, as_json)


@app.command(
    cls=Command, epilog='Example: workbench generate "a red heart on grass" heart grass --seed 3 --figure heart.png'
)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    concepts: Annotated[list[str], typer.Argument(help="Concept words.")],
    model: Model = "tiny-flux",
    pipeline: Pipeline = None,
    inputs: Inputs = None,
    steps: Annotated[int | None, typer.Option(help="Length of the schedule.")] = None,
    record: Annotated[
        list[int] | None, typer.Option("--record", help="Step to record, from 0; repeat for more; all by default.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale, for models that take one.")] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to draw; may be empty. Turns true guidance on.")
    ] = None,
    true_guidance: Annotated[float, typer.Option(help="Scale of true classifier-free guidance.")] = 1.0,
    layers: Layers = None,
    spaces: Spaces = _SPACES,
    samples: Samples = 1,
    seed: Seed = 0,
    size: Size = None,
    attend: Attend = "both",
    pool: Pool = "first",
    lse: Lse = False,
    text_mass: TextMass = False,
    home: Home = None,
    verify_stored: Verify = False,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Make pictures, and record concept attention at every step."""
    asked: dict[str, Any] = {
        "model": model,
        "steps": steps,
        "record": record or None,
        "guidance": guidance,
        "negative_prompt": negative_prompt,
        "true_guidance": true_guidance,
        "layers": layers or None,
        "spaces": spaces,
        "samples": samples,
        "seed": seed,
        "size": read_size(size),
        "attend": attend,
        "pool": pool,
        "home": home,
        "inputs": read_inputs(inputs),
    }
    _check(figure, concepts, prompt=prompt, **asked)
    import workbench as wb

    if pipeline is not None:
        asked["model"] = wb.load_model(model, pipeline=pipeline)
    ds = wb.generate(
        prompt, concepts, **asked, lse=lse, text_mass=text_mass, verify=verify_stored, progress=not as_json
    )
    _finish(ds, figure, home, as_json)


@_command(epilog="Example: workbench show 3f2a --figure maps.pdf")
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
        _check_figure(figure)
    told = store.info(run, home)
    found = wb.open_many(run, home) if told.kind == MANY else wb.open(run, home)
    _finish(found, figure, home, as_json, told)


@_command(epilog="Example: workbench runs --json")
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
        typer.echo(json.dumps([_described(run) for run in found], indent=2))
    elif found:
        typer.echo(found.table(every=every))
        own, made = ([run for run in found if run.own is mine] for mine in (True, False))
        more = f"; and {_made(made)}, {_readable(sum(run.size for run in made))}" if made else ""
        typer.echo(f"{_count(own)}, {_readable(sum(run.size for run in own))}{more}")
        if old := [run for run in found if run.superseded]:
            typer.echo(f"{_count(old)} superseded, which no call finds any more: workbench prune --superseded")
    else:
        typer.echo("no runs yet: make one with `workbench capture IMAGE CONCEPT...`")


@_command(epilog="Example: workbench verify --delete")
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
        typer.echo("no runs yet")
    raise typer.Exit(int(any(result["problems"] for result in results)))


@_command(epilog="Example: workbench prune --older-than 30d --keep 10 --dry-run")
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
        typer.echo(f"{fate} {item.what} {item.key}  {_readable(item.size)}  {_when(item.modified)}  ({item.reason})")
    for reason in dict.fromkeys(item.reason for item in made):
        alike = [item for item in made if item.reason == reason]
        size = _readable(sum(item.size for item in alike))
        typer.echo(f"{verb} {_made(alike, 'an experiment')}  {size}  ({reason})")
    more = f" and {_made(made)}" if made else ""
    typer.echo(f"{verb} {_count(own)}{more}, {_readable(sum(item.size for item in gone))}")


@_command(epilog="Example: workbench export 3f2a figure-2.zarr.zip")
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
        typer.echo(f"{written.absolute()}  {_readable(size)}")


@_command("import", epilog="Example: workbench import figure-2.zarr.zip")
def import_(
    file: Annotated[Path, typer.Argument(help="What `workbench export` wrote.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check exported runs and take them into the store."""
    from workbench import store

    found = store.import_runs(file, home)
    if as_json:
        typer.echo(json.dumps([_described(run) for run in found], indent=2))
    for run in [] if as_json else found:
        typer.echo(f"{run.key}  {_readable(run.size)}  {run.path}")


_command(epilog="Example: workbench lab --folder my-notebooks -- --port 9999")(lab)


def _described(run: Run) -> dict[str, Any]:
    return {
        "key": run.key,
        "kind": run.kind,
        "model": run.model,
        "prompt": run.prompt,
        "concepts": list(run.concepts),
        "created": run.created,
        "bytes": run.size,
        "path": str(run.path),
        "note": run.note,
        "edit": run.edit,
        "role": run.role,
        "parent": run.parent,
        "superseded": run.superseded,
    }


def _readable(size: int) -> str:
    from workbench.store.listing import readable

    return readable(size)


def _when(time: str) -> str:
    from workbench.store.times import told

    return told(time)


def _check(figure: Path | None, concepts: Sequence[str], **asked: Any) -> None:
    """Refuse what cannot succeed, all of it at once, before torch is imported, which takes seconds."""
    from workbench.recording.asking import check_asked

    said: list[str] = []
    kind: type[WorkbenchError] = InputError
    try:
        check_asked(concepts, **asked)
    except WorkbenchError as error:
        kind, said = type(error), [str(error)]
    if figure is not None:
        try:
            _check_figure(figure)
        except InputError as error:
            kind, said = InputError, [*said, str(error)]
    if said:
        raise kind("\n".join(said))


def _check_figure(figure: Path) -> None:
    from workbench.figures.output_files import check_file

    check_file(figure)


def _count(items: Sequence[object]) -> str:
    from workbench.store.listing import counted

    return counted(items)


def _made(runs: Sequence[Run | Pruned], experiments: str = "experiments") -> str:
    from workbench.store.listing import made_runs

    return made_runs([run.role for run in runs], experiments)


def _finish(
    found: xr.Dataset | xr.DataTree, figure: Path | None, home: str | None, as_json: bool, run: Run | None = None
) -> None:
    """Print what a run holds, and draw it when asked."""
    import xarray as xr

    from workbench import figures, store

    groups = {"": found} if isinstance(found, xr.Dataset) else {name: one.to_dataset() for name, one in found.items()}
    ds = next(iter(groups.values()))
    if figure is not None:
        options: dict[str, Any] = {"samples": int(ds["sample"][0])} if ds.attrs["kind"] == "generate" else {}
        figures.concept_grid(ds, **options).savefig(figure, dpi=200)
    run = run or store.info(ds.attrs["key"], home)
    if as_json:
        summary = _described(run) | {"sizes": dict(ds.sizes), "attrs": ds.attrs, "figure": str(figure or "")}
        if len(groups) > 1:
            summary["groups"] = {name: dict(one.sizes) for name, one in groups.items()}
        typer.echo(json.dumps(summary, indent=2))
        return
    for one in groups.values():
        typer.echo(str(one.wb))
    typer.echo(f"key   {run.key}")
    typer.echo(f"made  {_when(run.created)}")
    typer.echo(f"size  {_readable(run.size)}{' without its items' * (run.kind == MANY)}")
    typer.echo(f"path  {run.path}")
    for failure in ds.attrs.get(FAILED, ()):
        typer.echo(f"failed {failure['name']}: {failure['error']}")
    if figure is not None:
        typer.echo(f"drawn {figure.absolute()}")


model_commands.register(app)
view_commands.register(app)
evaluation_commands.register(app)


def main() -> None:
    """Entry point: 0 when done, 1 when something failed, 2 when the call was wrong, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal may be unable to show a concept's letters; that is no reason to show nothing.
            stream.reconfigure(errors="replace")
    warnings.showwarning = lambda message, *rest: typer.echo(f"Warning: {message}", err=True)
    try:
        app()
    except InputError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except WorkbenchError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"Error: {error}: check the paths of this call, and whether they may be read and written.", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted; what was written is kept, and the same call goes on from there", err=True)
        sys.exit(130)
