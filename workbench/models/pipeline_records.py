"""What a pipeline's adapter makes of texts, images and schedules, and hands from one of its methods to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.models.block_records import ConceptText


@dataclass(frozen=True)
class Text:
    """An encoded prompt, as one family's pipeline makes it and its transformer takes it.

    Attributes
    ----------
    embeddings : Tensor (1, token, embedding_dim)
        Of the prompt, padded as the pipeline does.
    mask : Tensor (1, token) or None
        Which tokens are seen, where the family masks the others.
    pooled : Tensor (1, pooled_dim) or None
        Pooled text, where the family has one.
    positions : Any
        Positions of the tokens, where the family gives them.
    """

    embeddings: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None
    positions: Any = None


@dataclass(frozen=True)
class EncodedConcept:
    """A concept that was encoded on its own.

    Attributes
    ----------
    vector : Tensor (1, 1, embedding_dim)
        What stands for it.
    count : int
        How many tokens it has.
    text : ConceptText or None
        The text that it is on its own, for a family that refines its text.
    """

    vector: Tensor
    count: int
    text: ConceptText | None = None


@dataclass(frozen=True)
class Schedule:
    """The steps a pipeline will run.

    Attributes
    ----------
    timesteps : tuple of float
        As the scheduler has them, decreasing.
    sigmas : tuple of float
        How noisy the latents are at each, 0 to 1, decreasing.
    skipped : int
        Steps of the whole schedule that come before these and are left out, where a picture is the start.
    """

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    skipped: int = 0

    @property
    def length(self) -> int:
        """Steps of the whole schedule."""
        return self.skipped + len(self.timesteps)

    @classmethod
    def of_flow(cls, sigmas: Sequence[float]) -> Schedule:
        """That of a flow, whose timestep is 1000 x sigma."""
        return cls(tuple(1000 * sigma for sigma in sigmas), tuple(sigmas))


@dataclass(frozen=True)
class Posterior:
    """The image encoder's Gaussian for one image, in the latent units the transformer works in.

    Attributes
    ----------
    mean, std : Tensor (1, channel, latent_y, latent_x)
        float32, on the CPU.
    """

    mean: Tensor
    std: Tensor

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Draw latents from the posterior, then noise of the same shape, from one seeded CPU generator.

        Returns
        -------
        latents, noise : Tensor (1, channel, latent_y, latent_x)
            float32, on the CPU, so a seed means the same on every device.
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
        drawn, noise = (torch.randn(self.mean.shape, **options) for _ in range(2))
        return self.mean + self.std * drawn, noise
