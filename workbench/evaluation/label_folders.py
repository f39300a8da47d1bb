"""Folders of images beside label maps: ADE20K's layout, and one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Task, check_count, unique_names
from workbench.evaluation.pixels import read_image, read_labels
from workbench.images import IMAGE_SUFFIXES
from workbench.numerics.confusion import VOID
from workbench.schema import InputError
from workbench.schema.paths import expanded

ADE_IMAGES: Final = 2000
ADE_CLASSES: Final = 150
ADE_EXPECTED: Final = (
    "ADEChallengeData2016.zip from the makers of ADE20K, http://sceneparsing.csail.mit.edu/, unpacked: a folder with "
    "images/validation, annotations/validation and objectInfo150.txt"
)
OWN_EXPECTED: Final = (
    "a folder with images/NAME.jpg, masks/NAME.png (numbers of classes) and classes.json, such as "
    '{"0": "background", "1": "dog", "255": null}, where null is void and "background" stands for background words; '
    "or masks/WORD/NAME.png (white on black) and no classes.json"
)


@dataclass(frozen=True)
class LabelFolder(DataSet):
    """Images and label maps of one name each."""

    images: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    values: Mapping[int, int] = field(default_factory=dict)

    def all_names(self) -> tuple[str, ...]:
        """Names of the files without suffix."""
        return tuple(self.images)

    def files(self) -> Iterable[Path]:
        """Images and label maps."""
        return (*self.images.values(), *self.masks.values())

    def image(self, name: str) -> NDArray[np.uint8]:
        """The image file."""
        return read_image(self.images[name])

    def labels(self, name: str) -> Labels:
        """The label map, with numbers as positions of classes."""
        if name not in self.masks:
            raise InputError(f"{name} has no label map; expected a file of this name beside the others.")
        path = self.masks[name]
        numbers = read_labels(path)
        table = np.full(int(numbers.max(initial=0)) + 1, -2, dtype=np.int16)
        for value, position in self.values.items():
            if value < len(table):
                table[value] = position
        found: Labels = table[numbers]
        if (found == -2).any():
            raise InputError(
                f"{path} holds the number {int(numbers[found == -2][0])}, which is no class; the classes have "
                f"{', '.join(map(str, list(self.values)[:12]))}: add it to classes.json (null for void)."
            )
        return found


@dataclass(frozen=True)
class MaskFolder(DataSet):
    """Black and white masks in one folder for each word; an image of two words is there twice, ``word/name``."""

    pairs: Mapping[str, tuple[Path | None, Path]] = field(default_factory=dict)

    def all_names(self) -> tuple[str, ...]:
        """``word/name``."""
        return tuple(self.pairs)

    @property
    def one_class_each(self) -> bool:
        """Every mask is of one word."""
        return True

    def files(self) -> Iterable[Path]:
        """Images and masks."""
        return (path for pair in self.pairs.values() for path in pair if path is not None)

    def image(self, name: str) -> NDArray[np.uint8]:
        """The image file."""
        path = self.pairs[name][0]
        if path is None:
            raise InputError(f"the mask {name} has no image of its name in images/.")
        return read_image(path)

    def labels(self, name: str) -> Labels:
        """Where the mask is not black."""
        values = read_labels(self.pairs[name][1])
        return np.where(values != 0, self.classes.index(name.partition("/")[0]), 0).astype(np.int16)


def open_folder(path: str | Path, task: Task | None = None) -> LabelFolder | MaskFolder:
    """A folder of one's own images and masks.

    Parameters
    ----------
    path
        A folder with ``images`` and ``masks``: label maps with ``classes.json``, or black and white masks in a folder
        for each word.
    task
        For label maps: ``"multi"`` (default), or ``"single"`` for those that show one class.

    Raises
    ------
    InputError
        If the layout is another one, or there is no image.
    """
    folder = expanded(path, "path")
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise InputError(f"{folder} has not both of images and masks; expected {OWN_EXPECTED}.")
    listing = folder / "classes.json"
    source = {"data": "folder", "path": str(folder.absolute())}
    images = _by_stem(folder / "images")
    if not listing.is_file():
        words = sorted(place.name for place in (folder / "masks").iterdir() if place.is_dir())
        found = {
            f"{word}/{stem}": (images.get(stem), mask)
            for word in words
            for stem, mask in _by_stem(folder / "masks" / word).items()
        }
        names = unique_names(list(found), f"{folder / 'masks'} (expected {OWN_EXPECTED})")
        return MaskFolder(
            name=folder.name,
            task="single",
            classes=("background", *words),
            source=source,
            pairs={name: found[name] for name in names},
        )
    numbers, classes, background = _classes(listing)
    unique_names(list(images), str(folder / "images"))
    kind: Task = task or "multi"
    return LabelFolder(
        name=folder.name,
        task=kind,
        classes=classes,
        background=background,
        source={**source, "task": kind},
        images=images,
        masks=_by_stem(folder / "masks"),
        values=numbers,
    )


def open_ade(path: str | Path, any_count: bool = False) -> LabelFolder:
    """ADE20K's validation images in the layout of the scene-parsing challenge; 0 is void, and nothing background.

    Raises
    ------
    InputError
        If the layout is another one, or there is another number of images or classes.
    """
    folder = expanded(path, "path")
    places = [folder, folder / "ADEChallengeData2016"]
    root = next((place for place in places if (place / "annotations" / "validation").is_dir()), None)
    if root is None or not (root / "objectInfo150.txt").is_file():
        raise InputError(
            f"{folder} has not both of annotations/validation and objectInfo150.txt; expected {ADE_EXPECTED}. Nothing "
            "is downloaded for you."
        )
    lines = (root / "objectInfo150.txt").read_text("utf-8", "replace").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    rows = [[part.strip() for part in row] for row in rows if row[0].strip().isdecimal()]
    check_count(len(rows), ADE_CLASSES, f"classes in {root / 'objectInfo150.txt'}", any_count)
    classes = _distinct([row[-1].split(",")[0].strip() for row in rows])
    images = _by_stem(root / "images" / "validation")
    unique_names(list(images), str(root / "images" / "validation"))
    check_count(len(images), ADE_IMAGES, f"images in {root}", any_count)
    return LabelFolder(
        name="ADE20K validation",
        task="multi",
        classes=classes,
        background=None,
        source={"data": "ade", "path": str(folder.absolute())},
        expected={"full": ADE_IMAGES, "resized": ADE_IMAGES},
        images=images,
        masks=_by_stem(root / "annotations" / "validation"),
        values={0: VOID, **{int(row[0]): place for place, row in enumerate(rows)}},
    )


def _distinct(words: list[str]) -> tuple[str, ...]:
    """Words, with a number behind those that came before: ADE20K has two classes called "screen"."""
    seen: dict[str, int] = {}
    found = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        found.append(word if seen[word] == 1 else f"{word} {seen[word]}")
    return tuple(found)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise InputError(f"{folder} holds {found[path.stem].name} and {path.name}: every image needs its own name.")
        found[path.stem] = path
    return found


def _classes(listing: Path) -> tuple[dict[int, int], tuple[str, ...], int | None]:
    """Positions by number, words, and the position of the background."""
    try:
        content: Any = json.loads(listing.read_text("utf-8"))
        numbers = {int(number): word for number, word in content.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{listing} cannot be read ({error}); expected {OWN_EXPECTED}.") from error
    words = list(dict.fromkeys(word for word in numbers.values() if word is not None))
    if not words or not all(isinstance(word, str) and word.strip() for word in words) or min(numbers) < 0:
        raise InputError(f"{listing} holds {content!r:.200}; expected {OWN_EXPECTED}.")
    values = {number: VOID if word is None else words.index(word) for number, word in numbers.items()}
    return values, tuple(words), words.index("background") if "background" in words else None
