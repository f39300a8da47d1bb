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
        from pycocotools import mask as masks

        record = self.records[name]
        size = int(record["height"]), int(record["width"])
        found = np.zeros(size, dtype=np.int16)
        held = self.annotations.get(int(record["id"]), ())
        for one in sorted(held, key=lambda one: -float(one.get("area", 0))):
            shape = one.get("segmentation")
            try:
                if isinstance(shape, list):
                    runs = masks.merge(masks.frPyObjects(shape, *size))
                elif isinstance(shape, dict) and isinstance(shape.get("counts"), list):
                    runs = masks.frPyObjects(shape, *size)
                else:
                    runs = shape
                inside = masks.decode(runs).astype(bool)
            except Exception as error:  # the library raises many kinds for malformed shapes
                raise InputError(f"annotation {one.get('id')} of {name} cannot be read ({error}).") from error
            if inside.shape != size:
                raise InputError(f"annotation {one.get('id')} of {name} is {inside.shape}; expected {size}.")
            found[inside] = VOID if one.get("iscrowd") else self.places[int(one["category_id"])]
        return found


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
        raise InputError(f"there is no {file}; expected {EXPECTED}. Nothing is downloaded for you.")
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
