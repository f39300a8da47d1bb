"""The runs of a start panel: what was asked, what came out, and the code of the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr

from workbench import schema
from workbench.widgets.shared.python_code import arguments, code
from workbench.widgets.start.form import StartForm, described
from workbench.widgets.start.subjects import Picture


@dataclass(frozen=True)
class Entry:
    """A finished run.

    Attributes
    ----------
    number
        From 1, in order.
    form
        What was asked.
    picture
        Of what; None for a prompt.
    ds
        What came out, with its truth where that is known.
    seconds
        How long it took.
    passes
        Forward passes that were made: none of a stored run.
    notes
        Warnings.
    """

    number: int
    form: StartForm
    picture: Picture | None
    ds: xr.Dataset
    seconds: float
    passes: int
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of the stored run."""
        return str(self.ds.attrs.get("key", ""))

    def row(self) -> dict[str, Any]:
        """Plain values for the browser."""
        return {
            "number": self.number,
            "what": described(self.form, self.picture.name if self.picture else ""),
            "model": str(self.ds.attrs.get("model", "")),
            "seconds": self.seconds,
            "stored": not self.passes,
            "key": self.key,
            "code": self.code(),
            "notes": list(self.notes),
            "form": self.form.to_json(),
        }

    def code(self) -> str:
        """Python that makes the same dataset and shows it."""
        lines = ["import workbench as wb", ""]
        if self.picture is None:
            subject, form = code(self.form.prompt), self.form
        elif self.picture.path:
            subject, form = code(self.picture.path), self.form
        else:
            subject, form = "image", self._sized()
            lines.append(f"# {_comment(self.picture.name)}, at the size at which the model saw it")
            lines.append(f"image = wb.open({code(self.key)}).image.to_numpy()")
        lines.append(f"ds = {form.call(subject)}")
        if (truth := truth_of(self.picture, self.form, self.ds)) is not None:
            path, options = truth
            lines.append(f"ds = ds.wb.with_truth({code(path)}{arguments(options)})")
        return "\n".join([*lines, "wb.explore(ds)"])

    def _sized(self) -> StartForm:
        """The form with the size that came out: another picture of that shape might be brought to another."""
        import dataclasses

        height, width = self.ds.attrs["size"]
        return self.form if height == width else dataclasses.replace(self.form, size=f"{height} x {width}")


def truth_of(picture: Picture | None, form: StartForm, ds: xr.Dataset) -> tuple[str, dict[str, Any]] | None:
    """The label map of a picture and the other arguments of ``with_truth``; None where it lacks a concept."""
    if picture is None or not (values := picture.truth(form.concepts)):
        return None
    same = tuple(ds.sizes[dim] for dim in (schema.PIXEL_Y, schema.PIXEL_X)) == picture.pixels.shape[:2]
    return picture.labels, {"labels": values, **({} if same else {"resize": True})}


def _comment(name: str) -> str:
    """A name that stays in its line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
