"""What is chosen in the start panel, as plain values, as arguments, and as code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from workbench.schema import POOLS, PROMPT, SPACES, InputError
from workbench.widgets.ablate.edit_form import read_list
from workbench.widgets.shared.forms import flag, one_of, optional, plain, read, several, text, whole
from workbench.widgets.shared.python_code import arguments, code

PICTURE: Final = "picture"
SOURCES: Final = (PICTURE, PROMPT)
"""What maps are made of: a picture that exists, or one that is made from a prompt."""
BUNDLED: Final = "tiny-flux"
BACKGROUNDS: Final = (
    *("sky", "grass", "water", "ground", "wall", "background", "floor", "sand", "snow", "night"),
    *("brick", "wood", "stone", "lava"),
)
"""Words that are offered for what is not an object: with such a word the objects' maps need not share the rest."""
_OFFERED: Final = tuple(space for space in SPACES if space != PROMPT)


@dataclass(frozen=True)
class StartForm:
    """Everything that is chosen, as it was typed.

    Attributes
    ----------
    source : str
        One of :data:`SOURCES`.
    prompt : str
        What to make.
    about : str
        What the model is told of a picture.
    concepts : tuple of str
        The words.
    model : str
        A name, a path, or, with ``kernel``, the variable of a loaded pipeline.
    kernel : bool
        Whether the model is a variable of the kernel.
    timesteps, layers, size : str
        Lists as typed, ``"250, 500"``, ``"0-5"``, ``"128 x 96"``; empty for the model's own choice.
    steps : int or None
        Length of the schedule of a prompt's picture.
    samples, seed : int
        As :func:`workbench.capture` takes them.
    spaces : tuple of str
        Which spaces are recorded.
    pool : str
        ``first`` or ``last`` token of a concept, or the ``mean`` of its tokens.
    """

    source: str = PICTURE
    prompt: str = ""
    about: str = ""
    concepts: tuple[str, ...] = ()
    model: str = BUNDLED
    kernel: bool = False
    timesteps: str = ""
    layers: str = ""
    size: str = ""
    steps: int | None = None
    samples: int = 1
    seed: int = 0
    spaces: tuple[str, ...] = ("output", "cross")
    pool: str = "first"

    @classmethod
    def from_json(cls, values: Any) -> StartForm:
        """Read a form; what is left out is as at first.

        Raises
        ------
        InputError
            If a value is of the wrong kind; what is typed into lists is looked at by :meth:`options`.
        """
        return cls(**read("the form", values, _FIELDS))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found: dict[str, Any] = plain(self)
        return found

    @property
    def prompted(self) -> bool:
        """Whether a picture is made."""
        return self.source == PROMPT

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the call, beside the model: those that differ from the function's own defaults.

        Raises
        ------
        InputError
            If something typed cannot be read, or a word or the prompt is lacking.
        """
        if not self.concepts:
            raise InputError("there is no word to look for: type one, such as dog, and press Enter.")
        if self.prompted and not self.prompt.strip():
            raise InputError("there is no prompt: type what to make, such as a dog on grass.")
        if not self.model.strip():
            raise InputError("there is no model: type a folder or a name on the Hugging Face hub.")
        if not self.spaces:
            raise InputError("no space is chosen: choose at least one, such as output.")
        found: dict[str, Any] = {}
        if self.prompted:
            if self.steps is not None:
                found["steps"] = self.steps
        else:
            if self.about.strip():
                found["prompt"] = self.about
            if self.timesteps.strip():
                found["timesteps"] = _timesteps(self.timesteps)
        if self.layers.strip():
            found["layers"] = list(read_list("layers", self.layers))
        if self.size.strip():
            found["size"] = _size(self.size)
        for name in ("samples", "seed", "spaces", "pool"):
            value = getattr(self, name)
            if value != getattr(StartForm, name):
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    def call(self, subject: str) -> str:
        """The call that makes the dataset, from the code of its picture or prompt."""
        function = "generate" if self.prompted else "capture"
        model = "" if self._bundled else f", model={self.model if self.kernel else code(self.model)}"
        return f"wb.{function}({subject}, {code(list(self.concepts))}{model}{arguments(self.options())})"

    @property
    def _bundled(self) -> bool:
        return not self.kernel and self.model == BUNDLED


def described(form: StartForm, name: str) -> str:
    """A run in a few words: what was looked for, and where."""
    where = f"“{form.prompt.strip()}”" if form.prompted else name
    return f"{', '.join(form.concepts)} in {where}"


def choices() -> dict[str, Any]:
    """What the browser offers beside what the backend knows."""
    return {
        "backgrounds": list(BACKGROUNDS),
        "spaces": list(_OFFERED),
        "bundled": BUNDLED,
        "hub": ["black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-dev"],
    }


_FIELDS: Final = {
    **dict.fromkeys(("prompt", "about", "model", "timesteps", "layers", "size"), text),
    "source": one_of(SOURCES),
    "concepts": several(text),
    "kernel": flag,
    "steps": optional(whole()),
    "samples": whole(),
    "seed": whole(),
    "spaces": several(one_of(_OFFERED)),
    "pool": one_of(POOLS),
}
"""What reads each field of the form."""


def _timesteps(typed: str) -> list[float]:
    parts = [part for part in re.split(r"[,;\s]+", typed.strip()) if part]
    if not all(re.fullmatch(r"\d{1,4}(?:\.\d+)?", part) for part in parts):
        raise InputError(f"timesteps is {typed!r}; expected numbers above 0, up to 1000, such as 250, 500, 750.")
    return [float(part) for part in parts]


def _size(typed: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*(\d{1,5})\s*[x×,]\s*(\d{1,5})\s*", typed)
    if found is None:
        raise InputError(f"size is {typed!r}; expected height x width in pixels, such as 128 x 96.")
    return int(found[1]), int(found[2])
