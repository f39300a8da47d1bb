"""Commands of the command line that write what the views show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.options import Command, Home, Json
from workbench.schema import InputError


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("page", cls=Command, epilog="Example: workbench page 3f2a maps.html")(page)
    example = "Example: workbench sweep 3f2a --over layer sweep.pdf sweep.csv"
    app.command("sweep", cls=Command, epilog=example)(sweep)


def page(
    run: Annotated[str, typer.Argument(help="Key of a run, its beginning, or the path or URL of a run.")],
    file: Annotated[Path, typer.Argument(help="What to write: .html, .png or .gif.")],
    state: Annotated[
        Path | None, typer.Option(help="What it shows: a JSON file that a view saved; the default maps without one.")
    ] = None,
    over: Annotated[str | None, typer.Option(help="Of a .gif: timestep or layer, over which it runs.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the view of a stored run: a page that slices without a kernel, a picture, or one that moves."""
    import workbench as wb
    from workbench.widgets.explore.explorer import Explorer
    from workbench.widgets.explore.state import State
    from workbench.widgets.shared.refusals import problem, shown

    asked = None if state is None else _read(state)
    ds = wb.open(run, home)
    if sentence := problem(ds):
        raise InputError(sentence)
    if asked is not None:
        asked = State.from_json(asked, shown(ds)).to_json()
    options: dict[str, Any] = {} if over is None else {"over": over}
    written = Explorer(ds, state=asked).save(file, **options)
    size = written.stat().st_size
    if as_json:
        typer.echo(json.dumps({"path": str(written.absolute()), "bytes": size}, indent=2))
    else:
        from workbench.store.listing import readable

        typer.echo(f"{written.absolute()}  {readable(size)}")


def sweep(
    run: Annotated[str, typer.Argument(help="Key of a run, its beginning, or the path or URL of a run.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="What to write: .csv (every point), .nc (the dataset), .png, .pdf or .svg (the figure)."),
    ] = None,
    over: Annotated[
        list[str] | None, typer.Option(help="layer, timestep, head, sample or space; two for a matrix.")
    ] = None,
    how: Annotated[str, typer.Option(help="only, drop, prefix, suffix, window or greedy.")] = "only",
    metric: Annotated[
        str | None, typer.Option(help="Such as iou; without truth full_map_iou, the IoU with the full map.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space to read; the first that was recorded by default.")] = None,
    window: Annotated[int, typer.Option(help="Neighbours in a window.")] = 3,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Measure the maps of every choice of layers, timesteps or heads of a stored run, and draw them when asked.

    A choice made afterwards among recorded scores: the network is neither changed nor run.
    """
    from threading import Event

    import workbench as wb
    from workbench.analysis.origin import provenance
    from workbench.figures.output_files import check_file, check_writable
    from workbench.widgets.ablate.finished_runs import SWEPT_FILES, Result
    from workbench.widgets.ablate.tasks import Sweeps
    from workbench.widgets.shared.python_code import continued
    from workbench.widgets.shared.refusals import problem, shown

    for file in files or ():
        check_writable(file) if file.suffix.lower() in SWEPT_FILES else check_file(file)
    ds = wb.open(run, home)
    if sentence := problem(ds):
        raise InputError(sentence)
    asked = {"over": over or ["layer"], "how": how, "window": window, "metric": metric, "space": space, "truth": "own"}
    task = Sweeps(shown(ds)).task({name: value for name, value in asked.items() if value is not None})
    result: Result = replace(task.finish(task.work(lambda *_: None, Event()), 1, 0.0), facts=provenance(ds))
    opened = f"import workbench as wb\n\nds = wb.open({run!r}{'' if home is None else f', {home!r}'})"
    result = replace(result, code=continued(opened, result.code))
    for file in files or ():
        file.write_bytes(result.file(file.suffix[1:].lower()))
    told = result.told()
    if as_json:
        typer.echo(json.dumps({**told, "files": [str(file.absolute()) for file in files or ()]}, indent=2))
        return
    typer.echo(f"{told['what']}: {told['measure']}{', truth: ' * bool(told['truth'])}{told['truth']}")
    width = max(len(point["point"]) for point in told["points"])
    for point in told["points"]:
        value = "–" if point["value"] is None else f"{point['value']:.4g}"
        typer.echo(f"  {point['point']:<{width}}  {value}")
    typer.echo(f"{told['peak']}: {told['best'] or '–'}")
    for file in files or ():
        typer.echo(f"written {file.absolute()}")


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): give a JSON file that a view saved.") from error
    except ValueError as error:
        raise InputError(f"{file} is no JSON file ({error}): give one that a view saved.") from error
