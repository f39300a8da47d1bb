"""The command line: a thin layer over the public functions."""

from __future__ import annotations

import io
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import __version__, evaluation_commands, model_commands, store_commands, view_commands
from workbench.command_output import check_figure, finish
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
from workbench.schema import InputError, WorkbenchError
from workbench.schema.paths import is_folder

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        finish(found, None, home, as_json)
        return
    finish(wb.capture(image, words, prompt=told, **asked, **recorded), figure, home, as_json)


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
    finish(ds, figure, home, as_json)


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
            check_figure(figure)
        except InputError as error:
            kind, said = InputError, [*said, str(error)]
    if said:
        raise kind("\n".join(said))


store_commands.register(app)
_command(epilog="Example: workbench lab --folder my-notebooks -- --port 9999")(lab)
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
