"""Commands of the command line that write what the views show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.options import Command, Home, Json
from workbench.schema import InputError


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("page", cls=Command, epilog="Example: workbench page 3f2a maps.html")(page)


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


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): give a JSON file that a view saved.") from error
    except ValueError as error:
        raise InputError(f"{file} is no JSON file ({error}): give one that a view saved.") from error
