"""The command line: a thin layer over the public functions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.schema import InputError, WorkbenchError

if TYPE_CHECKING:
    import xarray as xr

app = typer.Typer(
    name="workbench",
    help="Concept attention for diffusion transformers: capture, look, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[str, typer.Option(help="tiny-flux, a folder in diffusers format, or a name on the Hugging Face hub.")]
Layers = Annotated[list[int] | None, typer.Option("--layer", help="Block to record, by depth; repeat for more.")]
Spaces = Annotated[list[str], typer.Option("--space", help="Space to record; repeat for more.")]
Samples = Annotated[int, typer.Option(help="Noise samples or pictures.")]
Seed = Annotated[int, typer.Option(help="Seed of the first sample.")]
Size = Annotated[str | None, typer.Option(help="Height x width in pixels, such as 1024x768.")]
Attend = Annotated[str, typer.Option(help="What concepts attend to: both, image, concepts or none.")]
Pool = Annotated[str, typer.Option(help="Tokens of a concept: first or mean.")]
Home = Annotated[Path | None, typer.Option(help="Folder of the runs; WORKBENCH_HOME or the cache folder by default.")]
Figure = Annotated[Path | None, typer.Option(help="Also write the concept grid to this file (.png, .pdf or .svg).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

_SPACES = ["output", "cross"]


@app.command(epilog="Example: workbench capture data/scenes/scene-08.png house heart grass --figure maps.png")
def capture(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    concepts: Annotated[list[str], typer.Argument(help="Concept words.")],
    model: Model = "tiny-flux",
    prompt: Annotated[str, typer.Option(help="What the model is told about the image.")] = "",
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
    home: Home = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Record concept attention of an image file."""
    import workbench as wb

    ds = wb.capture(
        image,
        concepts,
        model=model,
        prompt=prompt,
        timesteps=timesteps or None,
        layers=layers or None,
        spaces=spaces,
        samples=samples,
        seed=seed,
        size=_size(size),
        attend=attend,
        pool=pool,
        home=home,
        progress=not as_json,
    )
    _finish(ds, figure, home, as_json)


@app.command(epilog='Example: workbench generate "a red heart on grass" heart grass --seed 3 --figure heart.png')
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    concepts: Annotated[list[str], typer.Argument(help="Concept words.")],
    model: Model = "tiny-flux",
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
    home: Home = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Make pictures, and record concept attention at every step."""
    import workbench as wb

    ds = wb.generate(
        prompt,
        concepts,
        model=model,
        steps=steps,
        record=record or None,
        guidance=guidance,
        negative_prompt=negative_prompt,
        true_guidance=true_guidance,
        layers=layers or None,
        spaces=spaces,
        samples=samples,
        seed=seed,
        size=_size(size),
        attend=attend,
        pool=pool,
        home=home,
        progress=not as_json,
    )
    _finish(ds, figure, home, as_json)


@app.command(epilog="Example: workbench show 3f2a --figure maps.pdf")
def show(
    key: Annotated[str, typer.Argument(help="Key of a run, its beginning, or the path of a run.")],
    home: Home = None,
    figure: Figure = None,
    as_json: Json = False,
) -> None:
    """Describe a stored run, and draw it when asked."""
    import workbench as wb

    _finish(wb.open(key, home), figure, home, as_json)


@app.command(epilog="Example: workbench runs --json")
def runs(home: Home = None, as_json: Json = False) -> None:
    """List the stored runs."""
    import workbench as wb

    found = wb.runs(home)
    if as_json:
        records = [
            {
                "key": run.key,
                "kind": run.kind,
                "model": run.model,
                "prompt": run.prompt,
                "concepts": list(run.concepts),
                "created": str(run.created),
                "bytes": run.size,
                "path": str(run.path),
            }
            for run in found
        ]
        typer.echo(json.dumps(records, indent=2))
    else:
        typer.echo(found if found else "no runs yet: make one with `workbench capture IMAGE CONCEPT...`")


@app.command(epilog="Example: workbench lab --folder my-notebooks")
def lab(
    folder: Annotated[Path, typer.Option(help="Where the notebooks are, or are copied to.")] = Path("notebooks"),
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Start JupyterLab on the notebooks; those that the folder lacks are copied into it first."""
    if find_spec("jupyterlab") is None:
        raise InputError("JupyterLab is not installed: pip install 'concept-workbench[lab]', then call again.")
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in _notebooks():
        target = folder / notebook.name
        if not target.exists():
            shutil.copyfile(notebook, target)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}"]
    raise typer.Exit(subprocess.run(command if browser else [*command, "--no-browser"], check=False).returncode)


def _notebooks() -> list[Path]:
    """The notebooks that come with the package: inside it, or beside it in a checkout."""
    package = Path(str(resources.files("workbench")))
    return sorted([*(package / "data" / "notebooks").glob("*.ipynb"), *(package.parent / "notebooks").glob("*.ipynb")])


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"size is {text!r}; expected height x width in pixels, such as 1024x768.")
    return int(parts[0]), int(parts[1])


def _finish(ds: xr.Dataset, figure: Path | None, home: Path | None, as_json: bool) -> None:
    """Print what a run holds, and draw it when asked."""
    from workbench import figures, store

    if figure is not None:
        if figure.suffix not in (".png", ".pdf", ".svg"):
            raise InputError(f"the figure is {figure}; expected a name that ends in .png, .pdf or .svg.")
        options: dict[str, Any] = {"samples": int(ds["sample"][0])} if ds.attrs["kind"] == "generate" else {}
        figures.concept_grid(ds, **options).savefig(figure, dpi=200)
    path = store.find(ds.attrs["key"], home)
    if as_json:
        summary = {"key": ds.attrs["key"], "path": str(path or ""), "sizes": dict(ds.sizes), "attrs": ds.attrs}
        typer.echo(json.dumps(summary | {"figure": str(figure or "")}, indent=2))
        return
    typer.echo(str(ds.wb))
    typer.echo(f"key   {ds.attrs['key']}")
    if path is not None:
        typer.echo(f"path  {path}")
    if figure is not None:
        typer.echo(f"drawn {figure.absolute()}")


def main() -> None:
    """Entry point: 0 when done, 1 when something failed, 2 when the call was wrong, 130 when interrupted."""
    warnings.showwarning = lambda message, *rest: typer.echo(f"Warning: {message}", err=True)
    try:
        app()
    except InputError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except WorkbenchError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted; what was written is kept, and the same call goes on from there", err=True)
        sys.exit(130)
