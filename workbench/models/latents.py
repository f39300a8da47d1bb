"""Between pictures and latents: what pipelines of several families have in common."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Posterior

Picture: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
"""RGB bytes (pixel_y, pixel_x, channel)."""


def pixel_tensor(adapter: PipelineAdapter, image: Picture) -> Tensor:
    """An image as its pipeline gives it to the autoencoder, (1, channel, pixel_y, pixel_x).

    Raises
    ------
    InputError
        If a side is no multiple of the patch.
    """
    height, width = image.shape[:2]
    adapter.grid(height, width)
    processor, vae = adapter.pipe.image_processor, adapter.component("vae")
    pixels: Tensor = processor.preprocess(image[None].astype(np.float32) / 255, height=height, width=width)
    return pixels.to(adapter.device, vae.dtype)


def picture(adapter: PipelineAdapter, decoded: Tensor) -> Picture:
    """What an autoencoder decoded, (1, channel, pixel_y, pixel_x), as a picture."""
    return rgb(adapter.pipe.image_processor.postprocess(decoded, output_type="pil"))


def rgb(pictures: Any) -> Picture:
    """The only picture of a list, as RGB bytes."""
    (only,) = pictures
    return np.asarray(only.convert("RGB"))


class ScaledLatents(PipelineAdapter):
    """Pipelines whose autoencoder's latents are scaled, and shifted before.

    Attributes
    ----------
    shifted : bool
        Whether the pipeline shifts them, by what the autoencoder's configuration says.
    """

    shifted: ClassVar[bool] = True

    @property
    def _shift(self) -> float:
        return float(self.component("vae").config.shift_factor or 0.0) if self.shifted else 0.0

    @torch.no_grad()
    def encode_image(self, image: Picture) -> Posterior:
        vae = self.component("vae")
        encoded = vae.encode(pixel_tensor(self, image)).latent_dist
        scale, shift = vae.config.scaling_factor, self._shift
        return Posterior(mean=(encoded.mean.float().cpu() - shift) * scale, std=encoded.std.float().cpu() * scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Picture:
        vae = self.component("vae")
        scaled = latents / vae.config.scaling_factor + self._shift
        return picture(self, vae.decode(scaled.to(self.device, vae.dtype), return_dict=False)[0])
