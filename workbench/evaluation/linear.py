"""The variant of the public code that normalises concept vectors before the product; it is not in any stored score.

A capture holds inner products. Here the same passes are run with the vectors themselves, which are normalised across
concepts, channel by channel, and multiplied then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.evaluation.protocols import Protocol
from workbench.numerics.scores import linear_normalised
from workbench.schema import InputError

SPACES: Final = tuple(space for space in schema.SPACES if space != schema.PROMPT)
"""Spaces of concept vectors. In the prompt space the vectors are those of the tokens of one text."""


def check_space(space: str) -> None:
    """Refuse the space in which there are no concepts to normalise across.

    Raises
    ------
    InputError
        If it is ``"prompt"``.
    """
    if space not in SPACES:
        raise InputError(
            f"concept_norm='linear' is across concepts, and the space {space!r} has the tokens of one text: the words "
            'between them ("and"), and words of several tokens, would decide what is normalised, and nobody published '
            f"a rule. Expected one of {', '.join(SPACES)}, or concept_norm=none, which the record then says."
        )


def linear_scores(
    pipe: Any,
    image: NDArray[np.uint8],
    size: tuple[int, int] | None,
    concepts: Sequence[str],
    caption: str,
    protocol: Protocol,
    space: str,
    normalise: bool = True,
) -> xr.DataArray:
    """Scores of an image with concept vectors normalised linearly: products of the pair of vectors that a trace keeps.

    The rotary embedding comes first. The scale of the attention, of cross and reverse_cross, multiplies the product: on
    the concept's side it would vanish in the normalisation.

    Parameters
    ----------
    pipe
        The pipeline.
    image
        (pixel_y, pixel_x, channel).
    size
        Height and width it is brought to; None for the model's own.
    concepts, caption
        What is looked for, and what the model is told.
    protocol
        Its layers, timestep, samples, seed, attend and pool.
    space
        One of :data:`SPACES`.
    normalise
        Whether to normalise at all; without, these are the scores of a capture.

    Returns
    -------
    (sample, layer, head, concept, y, x) float32.

    Raises
    ------
    InputError
        If the space has no concepts.
    """
    import torch

    from workbench.models.defaults import own_defaults
    from workbench.recording.encoding import encoded_concepts, encoded_image, encoded_prompt
    from workbench.recording.opening import open_adapter
    from workbench.recording.pictures import resize
    from workbench.recording.tracing import trace
    from workbench.recording.turns import turn

    check_space(space)
    adapter = open_adapter(pipe)
    height, width = size or adapter.native_size(*image.shape[:2])
    grid = adapter.grid(height, width)
    time = adapter.default_timestep if protocol.timestep is None else protocol.timestep
    found = []
    with own_defaults(), turn(pipe, "an evaluation"), torch.no_grad():
        try:
            encoded = encoded_concepts(adapter, concepts, protocol.pool)
            embeddings = torch.cat([each.vector for each in encoded], dim=1)
            text = encoded_prompt(adapter, caption)
            posterior = encoded_image(adapter, resize(image, (height, width)))
            chosen: dict[str, Any] = {
                "attend": protocol.attend,
                "vectors": True,
                "own_positions": adapter.concept_positions(concepts, protocol.pool),
                "own_texts": [each.text for each in encoded] if adapter.inner.refines else None,
            }
            with trace(adapter.transformer, embeddings, protocol.layers, (space,), **chosen) as seen:
                for seed in range(protocol.seed, protocol.seed + protocol.samples):
                    latents, noise = posterior.draw(seed)
                    seen.run(**adapter.inputs(adapter.noised(latents, noise, time), time, text, grid))
                    concept, patches = (seen.vectors[f"{kind}_{space}"][:, 0].float() for kind in ("concept", "image"))
                    wide = linear_normalised(concept, -2) if normalise else concept
                    found.append((wide @ patches.swapaxes(-1, -2)).cpu().numpy())
        finally:
            adapter.release()
    values = np.stack(found).astype(np.float32)
    return xr.DataArray(
        values.reshape(*values.shape[:-1], *grid),
        dims=(schema.SAMPLE, schema.LAYER, schema.HEAD, schema.CONCEPT, schema.Y, schema.X),
        coords={schema.CONCEPT: list(concepts), schema.LAYER: list(protocol.layers or ())},
    )
