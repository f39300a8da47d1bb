"""What is given for each image of many: by its name, by its place, or by a function of the name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.schema.errors import InputError


@dataclass(frozen=True)
class PerItem:
    """Something that is given for each image.

    Attributes
    ----------
    what
        What it is, in the plural, for messages.
    given
        A mapping from names, a list, or a function of the name.
    """

    what: str
    given: Mapping[str, Any] | Sequence[Any] | Callable[[str], Any]

    @classmethod
    def read(cls, what: str, given: Any) -> PerItem:
        """What a user gave.

        Raises
        ------
        InputError
            If it is none of the three.
        """
        if not isinstance(given, Mapping | list | tuple) and not callable(given):
            raise InputError(
                f"{what} are a {type(given).__name__}; expected those of each image: a mapping from names, a list in "
                "the order of the images, or a function of the name."
            )
        return cls(what, given)

    @property
    def entries(self) -> list[Any]:
        """All of them; those of a function are not known."""
        if callable(self.given):
            return []
        return list(self.given.values() if isinstance(self.given, Mapping) else self.given)

    def check(self, names: Sequence[str] | None, total: int | None) -> None:
        """Refuse what cannot be one for each image, as far as the images are known.

        Parameters
        ----------
        names, total
            The names of all images and their number; None where they are not known yet.

        Raises
        ------
        InputError
            If there are more or fewer, or a name is not among them.
        """
        if isinstance(self.given, Mapping) and names is not None:
            if absent := [name for name in names if name not in self.given]:
                raise self._absent(absent[0])
        elif isinstance(self.given, Sequence) and total not in (None, len(self.given)):
            raise InputError(
                f"{self.what} are given for {len(self.given)} images, and there are {total}; expected one entry for "
                "each image, or a mapping from their names."
            )

    def of(self, name: str, place: int) -> Any:
        """That of one image.

        Raises
        ------
        InputError
            If there is none.
        """
        if callable(self.given):
            return self.given(name)
        try:
            return self.given[name] if isinstance(self.given, Mapping) else self.given[place]
        except LookupError:
            raise self._absent(name) from None

    def _absent(self, name: str) -> InputError:
        which = f"there are none for {name!r}" if name else "an image has no name"
        return InputError(
            f"{self.what} are given for each image, and {which}; expected an entry for every image: by its name in a "
            "mapping, or a list in the order of the images."
        )
