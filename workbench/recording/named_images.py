"""Many images as users give them: a folder, a list, a mapping or a stream, each image with a name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from PIL import Image

from workbench.images import IMAGE_SUFFIXES, shown
from workbench.recording.arguments import check_concepts, check_prompt, check_text
from workbench.recording.pictures import Pixels, image_hash
from workbench.recording.request import Request
from workbench.schema import PROMPT, InputError, PerItem
from workbench.schema.paths import expanded, is_folder

_ACCEPTED: Final = (
    "a folder, a mapping from names to images, or a list or other iterable of images, or of (name, image) pairs; for "
    "one image call wb.capture"
)


class Named(NamedTuple):
    """An image and what it is called; an empty name is made of its content once it is read."""

    name: str
    image: Any


@dataclass(frozen=True)
class NamedImages:
    """Images in the order that they were given in.

    Attributes
    ----------
    images
        Read once.
    total
        How many; None for a stream.
    """

    images: Iterable[Named]
    total: int | None

    @property
    def names(self) -> list[str] | None:
        """All names; None for a stream."""
        return [one.name for one in self.images] if isinstance(self.images, list) else None


def name_images(images: Any, names: Iterable[str] | None = None) -> NamedImages:
    """The images of a call, with their names.

    Names are those that are given; otherwise those of files without their suffix, with as much of their folders as
    tells them apart; otherwise they are made of an image's content, see :func:`content_name`.

    Parameters
    ----------
    images
        A folder; a mapping from names; a 4-D array; or an iterable of images, or of pairs of a name and an image.
    names
        One for each image.

    Raises
    ------
    InputError
        If it is one image or none, or two have the same name. Of a stream only what can be known before it is read.
    """
    if isinstance(images, str | os.PathLike):
        images = _of_folder(images)
    if isinstance(images, Image.Image | bytes | bytearray | memoryview) or callable(getattr(images, "read", None)):
        raise InputError(f"images is one {type(images).__name__}; expected {_ACCEPTED}.")
    if (shape := getattr(images, "shape", None)) is not None and len(shape) != 4:
        raise InputError(
            f"images is a {type(images).__name__} of shape {tuple(shape)}; expected {_ACCEPTED}, or an array of four "
            "dimensions, the first of which goes over images."
        )
    if isinstance(images, set | frozenset) or not isinstance(images, Iterable):
        raise InputError(f"images is a {type(images).__name__}; expected {_ACCEPTED}.")
    if isinstance(images, Mapping):
        if names is not None:
            raise InputError("images is a mapping, which names its images: leave names out.")
        images = list(images.items())
        for name, _ in images:
            _check_name(name)
    if isinstance(names, str):
        raise InputError(f"names is the string {names!r}; expected one name for each image, in a list.")
    given = None if names is None else [_check_name(name) for name in names]
    if not isinstance(images, Sequence) and shape is None:
        return NamedImages(_stream(images, given), None)
    listed = [_pair(image) for image in images]
    if not listed:
        raise InputError(f"there are no images; expected {_ACCEPTED}.")
    if given is not None:
        if len(given) != len(listed):
            raise InputError(f"there are {len(given)} names and {len(listed)} images; expected a name for each image.")
        listed = [Named(name, one.image) for name, one in zip(given, listed, strict=True)]
    listed = _with_file_names(listed)
    called = [one.name for one in listed if one.name]
    if twice := sorted({name for name in called if called.count(name) > 1} if len(set(called)) < len(called) else ()):
        raise InputError(f"two images are called {twice[0]!r}; expected another name for each: give names=.")
    return NamedImages(listed, len(listed))


def content_name(pixels: Pixels) -> str:
    """The name of an image that has none: the same whenever and wherever the same pixels are given."""
    return f"image-{image_hash(pixels)[:8]}"


def read_concepts(concepts: Any) -> tuple[str, ...] | PerItem:
    """Words that all images are asked, or those of each.

    Raises
    ------
    InputError
        If they are neither.
    """
    if isinstance(concepts, Mapping):
        given = {_check_name(name): check_concepts(words) for name, words in concepts.items()}
        return PerItem("concepts", _filled("concepts", given))
    if isinstance(concepts, Sequence) and any(isinstance(words, list | tuple) for words in concepts):
        return PerItem("concepts", [check_concepts(words) for words in concepts])
    return check_concepts(concepts)


def read_prompts(prompt: Any) -> str | PerItem:
    """What the model is told about all images; or about each.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(prompt, Mapping):
        given = {_check_name(name): check_text("prompt", text) for name, text in prompt.items()}
        return PerItem("prompts", _filled("prompts", given))
    if isinstance(prompt, list | tuple):
        return PerItem("prompts", _filled("prompts", [check_text("prompt", text) for text in prompt]))
    if not isinstance(prompt, str):
        raise InputError(
            f"prompt is a {type(prompt).__name__}; expected one text for all images, a list of texts in the order of "
            "the images, or a mapping from the names of images to texts"
            + (": list(prompt) makes a list of it." if _is_iterable(prompt) else ".")
        )
    return check_text("prompt", prompt)


def check_prompts(prompts: Sequence[str], request: Request) -> None:
    """Refuse prompts that lack what is asked for, or that differ where what is recorded has their tokens.

    Raises
    ------
    InputError
        If they do.
    """
    for prompt in dict.fromkeys(prompts):
        check_prompt(prompt, request.spaces, False)
    if len(set(prompts)) > 1 and (PROMPT in request.spaces or request.text_mass):
        what = 'the space "prompt"' if PROMPT in request.spaces else "text_mass"
        raise InputError(
            f"images have {len(set(prompts))} different prompts, and {what} is over the tokens of the prompt, which "
            "one dataset cannot hold for all: give one prompt for all images, or leave it out."
        )


def _is_iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return not isinstance(value, bytes | bytearray | memoryview)


def _filled(what: str, given: Any) -> Any:
    if not given:
        raise InputError(f"{what} are an empty {type(given).__name__}; expected an entry for every image.")
    return given


def _of_folder(given: str | os.PathLike[str]) -> list[Path]:
    folder = expanded(given, "images")
    if not is_folder(folder):
        raise InputError(f"images is {shown(repr(os.fspath(given)))}, which is no folder; expected {_ACCEPTED}.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not files:
        raise InputError(
            f"the folder {folder} holds no images; expected files that end in {', '.join(IMAGE_SUFFIXES)}."
        )
    return files


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not check_text("a name", name).strip() or any(map(_is_control, name)):
        raise InputError(
            f"an image is called {name!r}; expected a string that is not blank and holds no control characters."
        )
    return name


def _pair(image: Any) -> Named:
    if isinstance(image, tuple) and len(image) == 2 and isinstance(image[0], str):
        return Named(_check_name(image[0]), image[1])
    return Named("", image)


def _stream(images: Iterable[Any], names: list[str] | None) -> Iterator[Named]:
    count = 0
    for place, image in enumerate(images):
        one = _pair(image)
        if names is not None:
            if place >= len(names):
                raise InputError(f"there are {len(names)} names, and more images; expected a name for each image.")
            one = Named(names[place], one.image)
        file = _file(one.image)
        yield one if one.name or file is None else Named(_stem(file), one.image)
        count = place + 1
    if names is not None and count < len(names):
        raise InputError(
            f"there are {len(names)} names, and there were {count} images; expected a name for each image. What was "
            "finished is kept."
        )


def _file(image: Any) -> Path | None:
    """The file that an image comes from."""
    named = image if isinstance(image, str | os.PathLike) else None
    if isinstance(image, Image.Image):
        named = getattr(image, "filename", None)
    elif callable(getattr(image, "read", None)):
        named = getattr(image, "name", None)
    return Path(os.fsdecode(named)) if isinstance(named, str | os.PathLike) and os.fspath(named) else None


def _with_file_names(listed: list[Named]) -> list[Named]:
    """Names of files for those that have none: stems, more of the path, or the whole file name, as far as is needed."""
    files = {place: file for place, one in enumerate(listed) if not one.name and (file := _file(one.image))}
    absolute = {place: Path(os.path.abspath(file)) for place, file in files.items()}  # noqa: PTH100 - links stay
    common = Path(os.path.commonpath([path.parent for path in absolute.values()])) if _one_drive(absolute) else None
    taken = {one.name for one in listed if one.name}
    rules: list[Callable[[Path], str]] = [_stem]
    if common is not None:
        rules.append(lambda path: _shown(path.relative_to(common).with_suffix("").as_posix()))
        rules.append(lambda path: _shown(path.relative_to(common).as_posix()))
    found: dict[int, str] = {}
    for rule in rules:
        found = {place: rule(path) for place, path in absolute.items()}
        if len(set(found.values()) | taken) == len(found) + len(taken):
            break
    return [Named(found.get(place, one.name), one.image) for place, one in enumerate(listed)]


def _stem(file: Path) -> str:
    return _shown(file.stem if file.stem.strip() else file.name)


def _shown(name: str) -> str:
    """A file's name as text that can be stored and printed: bytes that are none, and control characters, escaped."""
    whole = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(repr(letter)[1:-1] if _is_control(letter) else letter for letter in whole)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc"


def _one_drive(paths: Mapping[int, Path]) -> bool:
    return len({path.drive for path in paths.values()}) == 1
