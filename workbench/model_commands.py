"""Commands of the command line about models: those that are supported, and one at hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workbench.options import Command, Json
from workbench.schema import InputError


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    example = (
        "Example: workbench check-model black-forest-labs/FLUX.1-schnell --photo dog.jpg --concept dog --concept sky"
    )
    app.command(cls=Command, epilog="Example: workbench models --json")(models)
    app.command("check-model", cls=Command, epilog=example)(check_model)


def models(as_json: Json = False) -> None:
    """List the model families that are supported: pipeline classes, licences of weights, where each comes from."""
    from workbench.models.known import families

    if as_json:
        typer.echo(json.dumps([asdict(family) for family in families()], indent=2))
        return
    for family in families():
        typer.echo(f"{family.name}: {', '.join(family.models)}")
        typer.echo(f"  capture, generate  {', '.join(family.pipelines) or 'no'}")
        typer.echo(f"  trace              {', '.join(family.transformers)}")
        typer.echo(f"  guidance           {family.guidance}")
        for licence in family.licences:
            terms = f" ({licence.terms})" if licence.terms else ""
            typer.echo(f"  licence            {licence.name}{terms}: {', '.join(licence.models)}")
        typer.echo(f"  from               {family.origin}")
        if family.note:
            typer.echo(f"  note               {family.note}")


def check_model(
    model: Annotated[
        str, typer.Argument(help="tiny-flux, a folder in diffusers format, or a name on the Hugging Face hub.")
    ] = "tiny-flux",
    photo: Annotated[Path | None, typer.Option(help="Picture to capture; a drawn scene without one.")] = None,
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", help="Concept word; repeat for more, two at least.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The report: .html (with the picture and its maps), .json or .txt.")
    ] = Path("model-check.html"),
    device: Annotated[str | None, typer.Option(help="Torch device; a GPU where there is one.")] = None,
    offload: Annotated[str | None, typer.Option(help="model or sequential: keep weights in host memory.")] = None,
    as_json: Json = False,
) -> None:
    """Check a model that nobody has tried: what maps rest on, on small inputs, then a capture; write a report to share.

    Exit code 1 when a check fails.
    """
    from workbench.contract.report import check_file

    check_file(output)
    if photo is not None and not photo.is_file():
        raise InputError(f"the photo {str(photo)!r} does not exist: give the path of a picture.")
    if concepts is not None and len(dict.fromkeys(concepts)) < 2:
        raise InputError("one concept was given; expected at least two, which a map can tell apart: repeat --concept.")
    _check_known(model)
    from workbench.contract.model_check import check_model as checked
    from workbench.models.loading import load_model

    report = checked(
        model,
        photo,
        concepts,
        progress=None if as_json else lambda what: typer.echo(f"… {what}", err=True),
        load=None if device is None and offload is None else lambda: load_model(model, device=device, offload=offload),
    )
    written = report.save(output)
    typer.echo(report.to_json().rstrip() if as_json else f"{report}\n\nwritten to {written.absolute()}")
    raise typer.Exit(int(not report.passed))


def _check_known(model: str) -> None:
    """Refuse a name that no model can have, before torch is loaded."""
    from workbench.folders import local_folder

    local_folder(model)
