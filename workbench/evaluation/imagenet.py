"""ImageNet-Segmentation (Guillaumin et al. 2014): 4,276 images of 445 categories in one MATLAB file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Problem, Selection, check_count, unique_names
from workbench.evaluation.vocabulary import Vocabulary, imagenet_words, word
from workbench.schema import InputError
from workbench.schema.paths import expanded

IMAGES: Final = 4276
CATEGORIES: Final = 445
EXPECTED: Final = (
    "gtsegs_ijcv.mat (MATLAB 7.3, that is HDF5) from the makers of ImageNet-Segmentation, "
    "http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat, with /value/id, /value/img and /value/gt, "
    f"{IMAGES:,} images of {CATEGORIES} categories"
)


@dataclass(frozen=True)
class ImageNetSegmentation(DataSet):
    """Images by their ids, such as ``n02084071_1234``."""

    path: Path = field(default_factory=Path)
    places: Mapping[str, int] = field(default_factory=dict)

    def all_names(self) -> tuple[str, ...]:
        """The ids, in the order of the file."""
        return tuple(self.places)

    @property
    def one_class_each(self) -> bool:
        """Every image is of one category."""
        return True

    def select(self, discovery: Any, size: int | None) -> Selection:
        """All images of known categories; the others are problems."""
        problems = tuple(
            Problem(name, _unknown(_offset(name), name))
            for name in self.places
            if _offset(name) not in imagenet_words()
        )
        bad = {problem.name for problem in problems}
        return Selection(tuple(name for name in self.places if name not in bad), problems)

    def files(self) -> Iterable[Path]:
        """The MATLAB file."""
        return (self.path,)

    def image(self, name: str) -> NDArray[np.uint8]:
        """An image, (pixel_y, pixel_x, channel)."""
        values = self._read("img", name)
        if values.ndim != 3 or values.shape[0] != 3 or values.dtype != np.uint8:
            raise InputError(
                f"the image of {name} is {values.dtype} {values.shape}; expected uint8 (3, width, height)."
            )
        return np.ascontiguousarray(values.transpose(2, 1, 0))

    def labels(self, name: str) -> Labels:
        """Where the category is: the first of the annotations, whatever is not zero."""
        values = self._read("gt", name)
        if values.ndim != 2:
            raise InputError(f"the mask of {name} has shape {values.shape}; expected (width, height).")
        offset = _offset(name)
        if offset not in self.classes:
            raise InputError(_unknown(offset, name))
        return np.where(values.transpose(1, 0) != 0, self.classes.index(offset), 0).astype(np.int16)

    def word(self, key: str, vocabulary: Vocabulary) -> str:
        """The word for an offset."""
        return key if key == "background" else word(imagenet_words(), key, vocabulary)

    def _read(self, part: str, name: str) -> NDArray[Any]:
        import h5py

        with h5py.File(self.path, "r") as file:
            try:
                found = file[file[f"/value/{part}"][self.places[name], 0]]
                if part == "gt":
                    found = file[found[0, 0]]
                return np.asarray(found)
            except (KeyError, ValueError, TypeError, IndexError, OSError, RuntimeError) as error:
                what = "mask" if part == "gt" else "image"
                raise InputError(f"the {what} of {name} is missing from {self.path.name} ({error}).") from error


def open_imagenet(path: str | Path, any_count: bool = False) -> ImageNetSegmentation:
    """ImageNet-Segmentation from its MATLAB file.

    Parameters
    ----------
    path
        ``gtsegs_ijcv.mat``, or the folder that holds it.
    any_count
        Go on with another number of images or categories than the published one.

    Raises
    ------
    InputError
        If the file is missing, another one, or holds another number of images or categories.
    """
    file = expanded(path, "path")
    if file.is_dir():
        file = file / "gtsegs_ijcv.mat"
    if not file.is_file():
        raise InputError(f"there is no {file}; expected {EXPECTED}. Nothing is downloaded for you.")
    try:
        import h5py
    except ImportError as error:
        raise InputError("reading it needs h5py: pip install 'concept-workbench[evaluation]'.") from error
    try:
        with h5py.File(file, "r") as held:
            names = [_name(np.asarray(held[reference])) for reference in held["/value/id"][:, 0]]
            missing = [part for part in ("img", "gt") if len(held[f"/value/{part}"]) != len(names)]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{file} cannot be read ({error}); expected {EXPECTED}. It may be truncated or another file."
        ) from error
    if missing:
        raise InputError(f"{file} holds {len(names):,} ids and another number of {missing[0]}; expected {EXPECTED}.")
    places = {name: place for place, name in enumerate(unique_names(names, str(file)))}
    check_count(len(places), IMAGES, f"images in {file}", any_count)
    check_count(len({_offset(name) for name in places}), CATEGORIES, f"categories in {file}", any_count)
    return ImageNetSegmentation(
        name="ImageNet-Segmentation",
        task="single",
        classes=("background", *imagenet_words()),
        source={"data": "imagenet", "path": str(file.absolute())},
        expected={"full": IMAGES, "resized": IMAGES},
        path=file,
        places=places,
    )


def _unknown(offset: str, name: str) -> str:
    return (
        f"the WordNet offset {offset} of {name} is none of the {CATEGORIES} categories: check that the file is "
        "ImageNet-Segmentation's own."
    )


def _name(values: NDArray[Any]) -> str:
    return values.astype(np.uint16).tobytes().decode("utf-16-le").strip("\0 ")


def _offset(name: str) -> str:
    return name.partition("_")[0].removeprefix("n")
