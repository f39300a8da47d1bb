"""Inputs of the calls of diffusers' pipelines: their kinds, who sets them, and what an adapter says of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

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


class CallInputs:
    """What a pipeline's call is given beside what :meth:`.pipeline.PipelineAdapter.generate` has arguments for.

    Parameters
    ----------
    pipe : DiffusionPipeline
        The pipeline.
    info : mapping
        What is known about it.

    Attributes
    ----------
    extras : tuple of str
        Names of inputs that calls of pipelines of its kind may be given.
    extra : mapping of str to Any
        Those that were given, see :meth:`with_inputs`.
    """

    extras: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipe: Any, info: Mapping[str, Any]) -> None:
        self.pipe = pipe
        self.info = info
        self.extra: Mapping[str, Any] = MappingProxyType({})

    @property
    def taken(self) -> tuple[str, ...]:
        """Those of :attr:`extras` that this pipeline has."""
        return self.extras

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of them without which it makes no picture."""
        return ()

    @property
    def left_out(self) -> str:
        """What attends beside patches and text in its calls and is not recorded; empty where there is nothing."""
        return ""

    @property
    def several(self) -> bool:
        """Whether each of its images may be a list of them."""
        return False

    def refuse(self, inputs: Mapping[str, Any]) -> None:
        """Refuse inputs that the pipeline's call cannot take together.

        Raises
        ------
        InputError
            If it cannot.
        """

    def with_inputs(self, inputs: Mapping[str, Any]) -> Self:
        """An adapter of the same pipeline whose calls get further inputs.

        Parameters
        ----------
        inputs : mapping of str to Any
            By name, of :attr:`taken`; images are PIL images.
        """
        other = type(self)(self.pipe, self.info)
        other.extra = MappingProxyType(dict(inputs))
        return other
