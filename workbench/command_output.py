"""What the command line prints of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from workbench.schema import FAILED, MANY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import xarray as xr

    from workbench.store import Pruned, Run


def described(run: Run) -> dict[str, Any]:
    """What JSON says of a run."""
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


def size_in_words(size: int) -> str:
    """Bytes in a unit that fits."""
    from workbench.store.listing import readable

    return readable(size)


def time_in_words(time: str) -> str:
    """A time in words."""
    from workbench.store.times import told

    return told(time)


def check_figure(figure: Path) -> None:
    """Refuse a figure that cannot be written."""
    from workbench.figures.output_files import check_file

    check_file(figure)


def count_in_words(items: Sequence[object]) -> str:
    """How many runs, in words."""
    from workbench.store.listing import counted

    return counted(items)


def made_in_words(runs: Sequence[Run | Pruned], experiments: str = "experiments") -> str:
    """How many runs were made for experiments, in words."""
    from workbench.store.listing import made_runs

    return made_runs([run.role for run in runs], experiments)


def finish(
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
        summary = described(run) | {"sizes": dict(ds.sizes), "attrs": ds.attrs, "figure": str(figure or "")}
        if len(groups) > 1:
            summary["groups"] = {name: dict(one.sizes) for name, one in groups.items()}
        typer.echo(json.dumps(summary, indent=2))
        return
    for one in groups.values():
        typer.echo(str(one.wb))
    typer.echo(f"key   {run.key}")
    typer.echo(f"made  {time_in_words(run.created)}")
    typer.echo(f"size  {size_in_words(run.size)}{' without its items' * (run.kind == MANY)}")
    typer.echo(f"path  {run.path}")
    for failure in ds.attrs.get(FAILED, ()):
        typer.echo(f"failed {failure['name']}: {failure['error']}")
    if figure is not None:
        typer.echo(f"drawn {figure.absolute()}")
