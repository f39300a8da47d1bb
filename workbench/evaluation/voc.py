"""PascalVOC 2012 (Everingham et al. 2010): the validation images with segmentations, as a folder or its archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Task, check_count, unique_names
from workbench.evaluation.pixels import read_image, read_labels
from workbench.evaluation.unpacking import is_archive, md5, unpack
from workbench.evaluation.vocabulary import Vocabulary, voc_words, word
from workbench.numerics.confusion import VOID
from workbench.schema import InputError
from workbench.schema.paths import expanded
from workbench.store.locations import local_home

IMAGES: Final = 1449
SINGLE: Final = 930
"""Images that show one class, by the public code's rule at 224 x 224."""
MD5: Final = "6cd6e144f989b92b3379bac3b3de84fd"
EXPECTED: Final = (
    "VOCtrainval_11-May-2012.tar from the makers of PascalVOC, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, md5 "
    f"{MD5}, or the folder it unpacks to: VOCdevkit/VOC2012 with JPEGImages, SegmentationClass and "
    "ImageSets/Segmentation/val.txt"
)
_VOID_VALUE: Final = 255
_PARTS: Final = ("JPEGImages", "SegmentationClass", "ImageSets")


@dataclass(frozen=True)
class PascalVOC(DataSet):
    """Images by the names of the development kit."""

    folder: Path = field(default_factory=Path)
    listed: tuple[str, ...] = ()

    def all_names(self) -> tuple[str, ...]:
        """The names in ``val.txt``."""
        return self.listed

    def files(self) -> Iterable[Path]:
        """Images and label maps of all names."""
        for name in self.listed:
            yield self.folder / "JPEGImages" / f"{name}.jpg"
            yield self.folder / "SegmentationClass" / f"{name}.png"

    def image(self, name: str) -> NDArray[np.uint8]:
        """An image; greyscale ones become RGB."""
        return read_image(self.folder / "JPEGImages" / f"{name}.jpg")

    def labels(self, name: str) -> Labels:
        """Numbers of the palette, 255 as void."""
        path = self.folder / "SegmentationClass" / f"{name}.png"
        values = read_labels(path).astype(np.int64)
        found = np.where(values == _VOID_VALUE, VOID, values)
        if found.max(initial=VOID) >= len(self.classes):
            raise InputError(f"{path} holds the label {found.max()}; expected 0 to {len(self.classes) - 1}, and 255.")
        return found.astype(np.int16)

    def word(self, key: str, vocabulary: Vocabulary) -> str:
        """The word for a class."""
        return key if key == "background" else word(voc_words(), key, vocabulary)


def open_voc(path: str | Path, task: Task = "single", any_count: bool = False) -> PascalVOC:
    """PascalVOC 2012's validation images.

    Parameters
    ----------
    path
        The archive, or a folder: that of ``VOC2012``, or one above it. An archive is unpacked into the cache folder.
    task
        ``"single"``: images of one class, foreground against background; ``"multi"``: all images and classes.
    any_count
        Go on with another archive, or another number of images, than the published one.

    Raises
    ------
    InputError
        If files are missing, the archive is another one, or there is another number of images.
    """
    given = expanded(path, "path")
    if given.is_file() and is_archive(given):
        folder = _unpacked(given, any_count)
    elif given.is_dir():
        folder = given
    else:
        raise InputError(f"there is no {given}; expected {EXPECTED}. Nothing is downloaded for you.")
    places = [folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"]
    root = next((place for place in places if (place / "ImageSets" / "Segmentation" / "val.txt").is_file()), None)
    if root is None:
        raise InputError(f"{folder} has no ImageSets/Segmentation/val.txt; expected {EXPECTED}.")
    listing = root / "ImageSets" / "Segmentation" / "val.txt"
    lines = listing.read_text(encoding="utf-8", errors="replace").split()
    hostile = [line for line in lines if PurePosixPath(line).name != line or "\\" in line]
    if hostile:
        raise InputError(f"{listing} names {hostile[0]!r}; expected names of files, such as 2007_000033.")
    names = unique_names(lines, str(listing))
    check_count(len(names), IMAGES, f"images in {listing}", any_count)
    return PascalVOC(
        name=f"PascalVOC 2012 val ({'single class' if task == 'single' else 'all classes'})",
        task=task,
        classes=("background", *voc_words()),
        source={"data": f"voc-{task}", "path": str(given.absolute())},
        expected={"resized": SINGLE} if task == "single" else {"full": IMAGES, "resized": IMAGES},
        folder=root,
        listed=names,
    )


def _unpacked(archive: Path, any_count: bool) -> Path:
    """The folder an archive was unpacked to, by its checksum."""
    found = md5(archive)
    if found != MD5 and not any_count:
        raise InputError(
            f"{archive} has the md5 {found}; expected {EXPECTED}. It is truncated or another archive: download it "
            "again, or go on with it by any_count=True (--any-count)."
        )
    name = hashlib.sha256(found.encode()).hexdigest()[:16]
    return unpack(archive, local_home() / "unpacked" / f"voc-{name}", _wanted, EXPECTED)


def _wanted(path: PurePosixPath) -> bool:
    return "VOC2012" in path.parts and any(part in path.parts for part in _PARTS)
