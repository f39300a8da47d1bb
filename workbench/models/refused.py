"""Classes of diffusers that no family serves, and why: data that costs nothing to read.

The method needs text tokens that go through the blocks and read the image there. Where a model has none, maps would be
of something else under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_NEVER_READS: Final = (
    "its text gives the image keys and values, but never reads the image: there is no text stream for concepts to go "
    "along"
)
_CAUSAL: Final = (
    "its text is causal and comes before the image, which it never reads: what a concept would see is the text before "
    "it, not the picture"
)
_CROSS: Final = (
    "its blocks read the text by cross-attention, which leaves the text as it was: there is no text stream for "
    "concepts to go along, and maps of such a model are another method's"
)
_GIST: Final = (
    "its prompt is squeezed into gist tokens before the blocks, and none of them stands for a word: a concept could "
    "not be told from the prompt's"
)
_REPLACED: Final = (
    "each of its blocks gets other features of the prompt from another layer of the language model, in half of the "
    "width: a concept would need the same, which has not been tried"
)
_PER_BLOCK: Final = (
    "each of its blocks gets tokens of its own from another layer of the language model and drops them afterwards: "
    "what a concept is there has not been tried"
)
_KV_CACHE: Final = (
    "it keeps keys and values of reference images from its first step, and later steps leave their tokens out: "
    "scores would silently change from step to step"
)
_FAILS: Final = (
    "every call of it fails in diffusers 0.42, since it asks the transformer for an option that Chroma's has not; use "
    "ChromaImg2ImgPipeline"
)

_GROUPS: Final = (
    (
        _NEVER_READS,
        ("PRXTransformer2DModel", "NucleusMoEImageTransformer2DModel"),
        ("PRXPipeline", "PRXPixelPipeline", "NucleusMoEImagePipeline"),
    ),
    (
        _CAUSAL,
        ("QwenImage21Transformer2DModel", "Cosmos3OmniTransformer", "OmniGenTransformer2DModel"),
        ("QwenImage21Pipeline", "Cosmos3OmniPipeline", "OmniGenPipeline"),
    ),
    (_GIST, ("BriaFibo2Transformer2DModel",), ("BriaFibo2Pipeline",)),
    (_REPLACED, ("BriaFiboTransformer2DModel",), ("BriaFiboPipeline", "BriaFiboEditPipeline")),
    (_PER_BLOCK, ("HiDreamImageTransformer2DModel",), ("HiDreamImagePipeline",)),
    (
        _CROSS,
        (
            *("WanTransformer3DModel", "WanVACETransformer3DModel", "WanAnimateTransformer3DModel"),
            *("LTXVideoTransformer3DModel", "LTX2VideoTransformer3DModel", "SanaTransformer2DModel"),
            *("SanaVideoTransformer3DModel", "PixArtTransformer2DModel", "Kandinsky5Transformer3DModel"),
            "HunyuanDiT2DModel",
        ),
        (
            *("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline"),
            *("WanAnimatePipeline", "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline", "LTX2Pipeline"),
            *("SanaPipeline", "SanaSprintPipeline", "SanaControlNetPipeline", "SanaPAGPipeline", "SanaVideoPipeline"),
            *("PixArtAlphaPipeline", "PixArtSigmaPipeline", "PixArtSigmaPAGPipeline"),
            *("Kandinsky5T2IPipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline"),
            *("HunyuanDiTPipeline", "HunyuanDiTControlNetPipeline", "HunyuanDiTPAGPipeline"),
        ),
    ),
    (_KV_CACHE, (), ("Flux2KleinKVPipeline",)),
    (_FAILS, (), ("ChromaInpaintPipeline",)),
)

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {name: why for why, transformers, pipelines in _GROUPS for name in (*transformers, *pipelines)}
)
"""Class -> reason."""


def refusal(name: str) -> str:
    """The sentence about a class that is refused; empty for one that is not."""
    if name not in REFUSED:
        return ""
    return (
        f"models of class {name} are refused: {REFUSED[name]}. A family of your own can still serve it: see "
        "workbench.models."
    )
