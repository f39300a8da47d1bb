"""Data sets by name, as the command line takes them, and a word for what is missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from workbench.evaluation.datasets import DataSet
from workbench.schema import InputError

SOURCES: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "scenes-single": (
        "drawn_scenes:open_scenes",
        {"task": "single"},
        "drawn scenes of one object; comes with the package",
    ),
    "scenes-multi": ("drawn_scenes:open_scenes", {"task": "multi"}, "drawn scenes, all words; comes with the package"),
    "imagenet": ("imagenet:open_imagenet", {}, "ImageNet-Segmentation: gtsegs_ijcv.mat"),
    "voc-single": ("voc:open_voc", {"task": "single"}, "PascalVOC 2012 val, images of one class: folder or tar"),
    "voc-multi": ("voc:open_voc", {"task": "multi"}, "PascalVOC 2012 val, all classes: folder or tar"),
    "ade": ("label_folders:open_ade", {}, "ADE20K validation, scene-parsing layout: folder"),
    "coco": ("coco:open_coco", {}, "COCO's JSON format: instances_*.json, images in images="),
    "folder": ("label_folders:open_folder", {}, "a folder of your own with images and masks"),
}
"""By name: where the reader is, what it is called with, and what it reads."""


def open_data(name: str, **options: Any) -> DataSet:
    """Open a data set by name.

    Parameters
    ----------
    name
        One of :data:`SOURCES`.
    **options
        Those of its reader, such as ``path=`` and ``any_count=``; None counts as not given.

    Raises
    ------
    InputError
        If the name or an option is unknown, an option is missing, or the reader refuses.
    """
    if name not in SOURCES:
        known = "\n".join(f"  {key:<14} {what}" for key, (_, _, what) in SOURCES.items())
        raise InputError(f"unknown data set {name!r}; expected one of\n{known}")
    _, fixed, what = SOURCES[name]
    reader = _reader(name)
    given = {key: value for key, value in options.items() if value is not None and value is not False}
    accepted = inspect.signature(reader).parameters
    if unknown := [key for key in given if key not in accepted or (key in fixed and fixed[key] != given[key])]:
        choices = ", ".join(key for key in accepted if key not in fixed)
        raise InputError(f"{name} ({what}) takes no {', '.join(unknown)}; it takes {choices}.")
    if "path" in accepted and "path" not in given:
        raise InputError(f"{name} needs a path. Expected {expected(name)}. Nothing is downloaded for you.")
    return reader(**{**given, **fixed})


def expected(name: str) -> str:
    """What to get for a data set, from whom, and in which layout."""
    module = import_module(f"{__package__}.{SOURCES[name][0].partition(':')[0]}")
    named = {"ade": "ADE_EXPECTED", "folder": "OWN_EXPECTED"}
    return str(getattr(module, named.get(name, "EXPECTED"), SOURCES[name][2]))


def reopen(source: dict[str, Any]) -> DataSet | None:
    """The data set that a record names, if it is still where it was."""
    options = {key: value for key, value in source.items() if key != "data"}
    if source.get("data") not in SOURCES:
        return None
    accepted = inspect.signature(_reader(str(source["data"]))).parameters
    if "any_count" in accepted:
        options["any_count"] = True
    try:
        return open_data(str(source["data"]), **{key: value for key, value in options.items() if key in accepted})
    except (InputError, OSError):
        return None


def _reader(name: str) -> Callable[..., DataSet]:
    module, _, function = SOURCES[name][0].partition(":")
    found: Callable[..., DataSet] = getattr(import_module(f"{__package__}.{module}"), function)
    return found


def is_file_based(name: str) -> bool:
    """Whether a data set has to be got first."""
    return "path" in inspect.signature(_reader(name)).parameters
