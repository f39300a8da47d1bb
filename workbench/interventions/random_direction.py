"""Edits that stand beside others for comparison: as large a change at the same place, in a random direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.interventions.describing import Intervention
from workbench.interventions.fields import Source
from workbench.schema import InputError


@dataclass(frozen=True)
class RandomDirection(Intervention):
    """In place of an edit's change, a random one of the same L2 norm at the same place, for each token.

    It perturbs as much as the edit, and removes nothing: a head that is knocked out is gone, one that is moved in a
    random direction mostly stays. Where the edit changes heads, the norm is kept for each head of each token.
    Directions are drawn anew for each image, prompt and seed of the noise, and for each concept by its name; with
    ``shared=True`` all images, prompts and noise samples get the same ones, as in early versions.

    With ``matched=True`` directions have the covariance of the activations at that place (of the same head, over the
    tokens of the same stream), so that they lie where activations vary. The few concept tokens, whose covariance says
    little, are moved in directions without a preference.
    """

    of: Intervention
    seed: int = 0
    shared: bool = False
    matched: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.of, Intervention) or isinstance(self.of, RandomDirection):
            raise InputError(f"RandomDirection is of {self.of!r}; expected an edit such as SkipBlock(3).")
        Source(seed=self.seed)
        for name in ("shared", "matched"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} of a random direction is {getattr(self, name)!r}; expected True or False.")
        if self.matched and self.of.of_concepts:
            raise InputError(
                f"{self.of} changes concept tokens alone, of which there are too few for a covariance: leave matched "
                "out."
            )

    @property
    def of_concepts(self) -> bool:
        return self.of.of_concepts

    def lag(self, space: str) -> float:
        return self.of.lag(space)

    def as_dict(self) -> dict[str, Any]:
        # Early versions, whose directions were shared, wrote no such field: their runs keep keys of their own.
        return super().as_dict() | {"shared": self.shared}

    def __getitem__(self, name: Any) -> Any:
        return getattr(self, name) if name in ("of", "seed", "shared", "matched") else self.of[name]

    def sources(self) -> tuple[Source, ...]:
        return self.of.sources()
