"""Pipelines around the transformers of supported families that take pictures of their own, as data like the families.

They are no subclasses of a family's main pipeline, so each is named; the licences of their weights are with the family.
"""

from __future__ import annotations

from typing import Any, Final

_SIDES: Final = {
    "FluxTransformer2DModel": "workbench.models.flux:FluxAdapter",
    "SD3Transformer2DModel": "workbench.models.sd3:SD3Adapter",
    "QwenImageTransformer2DModel": "workbench.models.qwen:QwenAdapter",
    "ChromaTransformer2DModel": "workbench.models.chroma:ChromaAdapter",
    "ZImageTransformer2DModel": "workbench.models.z_image:ZImageAdapter",
}
_DISTILLED: Final = "guidance= (distilled)"
_TRUE: Final = "true_guidance= with negative_prompt="


def _row(name: str, transformer: str, served: str, pipelines: tuple[str, ...], **others: Any) -> dict[str, Any]:
    """Fields of a :class:`.known.Family` that ``served``, a class of this package, serves."""
    return {
        "name": name,
        "transformers": (transformer,),
        "adapter": _SIDES[transformer],
        "pipelines": pipelines,
        "pipeline_adapter": f"workbench.models.{served}",
        **others,
    }


VARIANTS: Final = (
    _row(
        "FLUX.1 from a picture",
        "FluxTransformer2DModel",
        "flux_variants:FluxVariantAdapter",
        ("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
        models=("FLUX.1-schnell", "FLUX.1-dev", "tiny-flux"),
        guidance=f"{_DISTILLED}, {_TRUE}",
        note="inputs: image, strength; mask_image for inpainting",
    ),
    _row(
        "FLUX.1 Kontext",
        "FluxTransformer2DModel",
        "flux_variants:FluxKontextAdapter",
        ("FluxKontextPipeline",),
        models=("FLUX.1-Kontext-dev",),
        guidance=f"{_DISTILLED}, {_TRUE}",
        note="inputs: image, whose tokens are attended to and not recorded",
    ),
    _row(
        "FLUX.1 Fill and Control",
        "FluxTransformer2DModel",
        "flux_variants:FluxChannelsAdapter",
        ("FluxFillPipeline", "FluxControlPipeline"),
        models=("FLUX.1-Fill-dev", "FLUX.1-Canny-dev", "FLUX.1-Depth-dev"),
        guidance=_DISTILLED,
        note="generate only; inputs: image, mask_image and strength of Fill, control_image of Control",
    ),
    _row(
        "FLUX.1 with a ControlNet",
        "FluxTransformer2DModel",
        "flux_variants:FluxControlNetAdapter",
        ("FluxControlNetPipeline",),
        models=("FLUX.1-dev",),
        guidance=f"{_DISTILLED}, {_TRUE}",
        note="inputs: control_image, control_mode and the ControlNet's scales; a capture leaves the ControlNet out",
    ),
    _row(
        "Stable Diffusion 3, 3.5 from a picture",
        "SD3Transformer2DModel",
        "sd3_variants:SD3VariantAdapter",
        ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        models=("Stable Diffusion 3 medium", "3.5 medium", "3.5 large"),
        guidance="guidance=",
        note="inputs: image, strength; mask_image for inpainting",
    ),
    _row(
        "Stable Diffusion 3, 3.5 with a ControlNet",
        "SD3Transformer2DModel",
        "sd3_variants:SD3ControlNetAdapter",
        ("StableDiffusion3ControlNetPipeline",),
        models=("Stable Diffusion 3 medium", "3.5 medium", "3.5 large"),
        guidance="guidance=",
        note="inputs: control_image and the ControlNet's scales; seeds torch's own generator too",
    ),
    _row(
        "Qwen-Image from a picture, or with a ControlNet",
        "QwenImageTransformer2DModel",
        "qwen_variants:QwenVariantAdapter",
        ("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline", "QwenImageControlNetPipeline"),
        models=("Qwen-Image",),
        guidance=_TRUE,
        note="inputs: image, strength; mask_image for inpainting; control_image and the ControlNet's scales",
    ),
    _row(
        "Qwen-Image-Edit",
        "QwenImageTransformer2DModel",
        "qwen_variants:QwenEditAdapter",
        ("QwenImageEditPipeline",),
        models=("Qwen-Image-Edit",),
        guidance=_TRUE,
        note="generate only, needs torchvision; inputs: image, which the text encoder sees, not recorded itself",
    ),
    _row(
        "Qwen-Image-Edit 2509 and later",
        "QwenImageTransformer2DModel",
        "qwen_variants:QwenEditPlusAdapter",
        ("QwenImageEditPlusPipeline",),
        models=("Qwen-Image-Edit-2509",),
        guidance=_TRUE,
        note="generate only, needs torchvision; inputs: image, one or a list, as in Qwen-Image-Edit",
    ),
    _row(
        "Chroma from a picture",
        "ChromaTransformer2DModel",
        "guided_variants:ChromaVariantAdapter",
        ("ChromaImg2ImgPipeline",),
        models=("Chroma1-HD", "Chroma1-Base", "Chroma1-Flash"),
        guidance="guidance=",
        note="inputs: image, strength",
    ),
    _row(
        "Z-Image from a picture",
        "ZImageTransformer2DModel",
        "guided_variants:ZImageVariantAdapter",
        ("ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
        models=("Z-Image", "Z-Image-Turbo"),
        guidance="guidance=",
        note="inputs: image, strength; mask_image for inpainting; the turbo model needs its own steps= and guidance=0",
    ),
)
"""Fields of a family each."""
