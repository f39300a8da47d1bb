"""Pipeline side of Qwen-Image's variants: from a picture, inside a mask, with a ControlNet, and edits of pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL.Image import Image

from workbench.models.call_inputs import REFERENCE
from workbench.models.pipeline_records import Text
from workbench.models.pipeline_variants import FROM_PICTURE, WITH_CONTROLNET, Variant
from workbench.models.qwen_pipeline import QwenPipelineAdapter
from workbench.models.templates import TemplateReader

_PAD = "<|image_pad|>"


class QwenVariantAdapter(Variant, QwenPipelineAdapter):
    """``QwenImageImg2ImgPipeline``, ``QwenImageInpaintPipeline`` and ``QwenImageControlNetPipeline``."""

    extras: ClassVar[tuple[str, ...]] = (*FROM_PICTURE, *WITH_CONTROLNET)

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", self.default("num_inference_steps")))


class QwenEditBase(QwenVariantAdapter):
    """Edits of pictures: the text encoder sees them, and their tokens stand behind those of the new picture.

    The text the transformer is given begins with the tokens of the pictures. A concept is encoded as a prompt for the
    same pictures, and stands where a prompt's first token does, behind them. No text is cut off.
    """

    extras: ClassVar[tuple[str, ...]] = ("image",)
    uncaptured: ClassVar[str] = "its text encoder and its transformer read the picture that is to be edited"

    @property
    def left_out(self) -> str:
        return REFERENCE

    @property
    def text_length(self) -> int:
        return int(self.component("text_encoder").config.get_text_config().max_position_embeddings)

    @property
    @abstractmethod
    def _shown(self) -> Any:
        """Pictures as the text encoder is shown them, one or a list."""

    @abstractmethod
    def _text_around(self, pads: Sequence[str], text: str) -> str:
        """A text in the pipeline's template, with so many pads for each picture."""

    @cached_property
    def _pads(self) -> list[str]:
        """As many pads for each picture as it becomes tokens of the text."""
        if "image" not in self.extra:  # words are looked at before there is a picture
            return [_PAD]
        processor = self.component("processor").image_processor
        grids = processor(images=self._shown, return_tensors="pt")["image_grid_thw"]
        return [_PAD * (int(grid.prod()) // processor.merge_size**2) for grid in grids]

    @property
    def reader(self) -> TemplateReader:
        return TemplateReader(
            "Qwen2.5-VL",
            self.component("processor").tokenizer,
            self.text_length,
            lambda text: self._text_around(self._pads, text),
            padded=False,
            dropped=int(self.pipe.prompt_template_encode_start_idx),
        )

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, mask = self.pipe.encode_prompt(prompt, self._shown, device=self.device)
        return Text(embeddings, mask=mask)

    def _further(self) -> dict[str, Any]:
        return dict(self.extra)


class QwenEditAdapter(QwenEditBase):
    """``QwenImageEditPipeline``: of one picture, brought to the area that the model was made for."""

    @property
    def _shown(self) -> Any:
        picture: Image = self.extra["image"]
        width, height, _ = pipeline_qwenimage_edit.calculate_dimensions(1024 * 1024, picture.width / picture.height)
        return self.pipe.image_processor.resize(picture, height, width)

    def _text_around(self, pads: Sequence[str], text: str) -> str:
        around: str = self.pipe.prompt_template_encode
        return around.replace(_PAD, pads[0]).format(text)


class QwenEditPlusAdapter(QwenEditBase):
    """``QwenImageEditPlusPipeline``: of one picture or several, which the text encoder is shown smaller."""

    @property
    def several(self) -> bool:
        return True

    @property
    def _shown(self) -> Any:
        pictures: Any = self.extra["image"]
        shown = []
        for picture in pictures if isinstance(pictures, list) else [pictures]:
            width, height = pipeline_qwenimage_edit_plus.calculate_dimensions(
                pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE, picture.width / picture.height
            )
            shown.append(self.pipe.image_processor.resize(picture, height, width))
        return shown

    def _text_around(self, pads: Sequence[str], text: str) -> str:
        before = "".join(
            f"Picture {place}: <|vision_start|>{pad}<|vision_end|>" for place, pad in enumerate(pads, start=1)
        )
        around: str = self.pipe.prompt_template_encode
        return around.format(before + text)
