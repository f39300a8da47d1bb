"""Annotations in COCO's JSON format: polygons and run lengths become one label map an image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Task, unique_names
from workbench.evaluation.pixels import read_image
from workbench.numerics.confusion import VOID
from workbench.schema import InputError
from workbench.schema.paths import expanded

EXPECTED: Final = (
    "a JSON file with images, annotations and categories as COCO has them (instances_val2017.json from "
    "https://cocodataset.org), and the folder of its images"
)


@dataclass(frozen=True)
class CocoInstances(DataSet):
    """Images by their file names. Smaller objects lie on larger ones; crowds are void."""

    folder: Path = field(default_factory=Path)
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    annotations: Mapping[int, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    places: Mapping[int, int] = field(default_factory=dict)

    def all_names(self) -> tuple[str, ...]:
        """Names of the image files."""
        return tuple(self.records)

    def files(self) -> Iterable[Path]:
        """The JSON file and the images."""
        yield Path(self.source["path"])
        for name in self.records:
            yield self.folder / name

    def image(self, name: str) -> NDArray[np.uint8]:
        """The image file."""
        return read_image(self.folder / name)

    def labels(self, name: str) -> Labels:
        """Annotations laid over one another, the largest first."""
        record = self.records[name]
        size = int(record["height"]), int(record["width"])
        found = np.zeros(size, dtype=np.int16)
        held = self.annotations.get(int(record["id"]), ())
        for one in sorted(held, key=lambda one: -float(one.get("area", 0))):
            try:
                inside = shape_of(one.get("segmentation"), size)
            except Exception as error:  # the library raises many kinds for malformed shapes
                raise InputError(f"annotation {one.get('id')} of {name} cannot be read ({error}).") from error
            found[inside] = VOID if one.get("iscrowd") else self.places[int(one["category_id"])]
        return found


def shape_of(shape: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A segmentation, polygons or run lengths, as a mask (pixel_y, pixel_x).

    Raises
    ------
    ValueError
        If it is of another size, or malformed in a way that pycocotools does not notice.
    """
    from pycocotools import mask as masks

    if isinstance(shape, list):  # pycocotools fills polygons as COCO's own figures have them
        runs = _lengths(masks.merge(masks.frPyObjects(shape, *size))["counts"])
    elif tuple(shape["size"]) != size:
        raise ValueError(f"its size is {shape['size']}, the image's {list(size)}")
    else:
        counts = shape["counts"]
        runs = counts if isinstance(counts, list) else _lengths(counts)
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError(f"its runs are of {sum(runs)} pixels, the image has {size[0] * size[1]}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T


def _lengths(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits a letter, differences to the run before the last."""
    letters = text.encode("ascii") if isinstance(text, str) else text
    runs: list[int] = []
    place = 0
    while place < len(letters):
        value, shift, more = 0, 0, True
        while more:
            letter = letters[place] - 48
            value |= (letter & 0x1F) << shift
            more = bool(letter & 0x20)
            place, shift = place + 1, shift + 5
            if not more and letter & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def open_coco(path: str | Path, images: str | Path | None = None, task: Task = "multi") -> CocoInstances:
    """Images with annotations in COCO's format.

    Parameters
    ----------
    path
        The JSON file.
    images
        The folder of its images; by default that of the file, or ``val2017`` beside ``annotations``.
    task
        ``"multi"``, or ``"single"`` for images of one category.

    Raises
    ------
    InputError
        If the file is missing, of another format, or names files outside the folder.
    """
    file = expanded(path, "path")
    if not file.is_file():
        raise InputError(f"{file} is no file; expected {EXPECTED}. Nothing is downloaded for you.")
    try:
        import pycocotools as pycocotools
    except ImportError as error:
        raise InputError("reading it needs pycocotools: pip install 'concept-workbench[evaluation]'.") from error
    try:
        content = json.loads(file.read_text("utf-8"))
        categories = {int(one["id"]): str(one["name"]) for one in content["categories"]}
        records: list[dict[str, Any]] = [
            {"id": int(one["id"]), "file": str(one["file_name"]), **{k: int(one[k]) for k in ("height", "width")}}
            for one in content["images"]
        ]
        annotations: dict[int, list[Mapping[str, Any]]] = {}
        for one in content["annotations"]:
            if int(one["category_id"]) not in categories:
                raise KeyError(f"category_id {one['category_id']}")
            annotations.setdefault(int(one["image_id"]), []).append(one)
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({type(error).__name__}: {error}); expected {EXPECTED}.") from error
    for record in records:
        inner = PurePosixPath(record["file"])
        if inner.is_absolute() or ".." in inner.parts or "\\" in record["file"]:
            raise InputError(f"{file} names the image {record['file']!r:.120}, which lies outside its folder.")
    names = unique_names([str(record["file"]) for record in records], str(file))
    beside = file.parent.parent / file.stem.rpartition("_")[2]
    folder = expanded(images, "images") if images is not None else beside if beside.is_dir() else file.parent
    words = tuple(dict.fromkeys(categories.values()))
    return CocoInstances(
        name=file.stem,
        task=task,
        classes=("background", *words),
        source={"data": "coco", "path": str(file.absolute()), "images": str(folder.absolute()), "task": task},
        folder=folder,
        records=dict(zip(names, records, strict=True)),
        annotations={key: tuple(held) for key, held in annotations.items()},
        places={number: 1 + words.index(word) for number, word in categories.items()},
    )
