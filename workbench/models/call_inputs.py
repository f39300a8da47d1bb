"""Names of the inputs of diffusers' pipelines: of which kind they are, and which of them ``generate`` sets itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MASKS: Final = frozenset({"mask_image", "control_mask"})
"""Inputs that are masks."""
IMAGES: Final = frozenset({"image", "control_image"}) | MASKS
"""Inputs that are images."""
EMBEDDINGS: Final = ("prompt_embeds", "pooled_prompt_embeds")
"""Inputs that are tensors, and take the place of the prompt."""
STRENGTH: Final = "strength"
"""Input of pipelines that start from a picture: how much of the schedule is run, above 0 and up to 1."""
ARGUMENTS: Final[Mapping[str, str]] = {
    "prompt": "the prompt, its first argument",
    "negative_prompt": "negative_prompt=",
    "height": "size=",
    "width": "size=",
    "max_area": "size=",
    "num_inference_steps": "steps=",
    "guidance_scale": "guidance=",
    "true_cfg_scale": "true_guidance=",
    "num_images_per_prompt": "samples=",
    "generator": "seed=",
    "latents": "seed=",
}
"""What ``generate`` has an argument for, and which."""
KEPT: Final[Mapping[str, str]] = {
    "max_sequence_length": "texts have the length that the model was made for",
    "sigmas": "the schedule is that of steps=",
    "mu": "the schedule is that of steps=",
    "output_type": "the picture is read from its result",
    "return_dict": "the picture is read from its result",
    "callback_on_step_end": "no key of a run can hold code",
    "callback_on_step_end_tensor_inputs": "no key of a run can hold code",
    "padding_mask_crop": "the patches would be those of a crop, and not of the picture",
    "masked_image_latents": "they are made of the picture and its mask",
    "prompt_2": "every text encoder reads the one prompt whose tokens are recorded",
    "prompt_3": "every text encoder reads the one prompt whose tokens are recorded",
}
"""What ``generate`` decides itself, and why."""
REFERENCE: Final = (
    "the tokens of reference images: picture, text and concepts attend to them, no score is recorded of them"
)
"""What is said of images that stand behind the picture."""
