"""The instrument: concept attention read off any forward pass of an unmodified transformer.

Concept tokens ride along the text stream of the model. They attend to themselves and to the image; image and prompt
never see them, so the model's own output stays what it is, bit for bit. The stream reuses the queries, keys, values
and outputs the model computes anyway: the extra work is that of a handful of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from workbench.interventions import Given, read
from workbench.models.block_records import Concepts, ConceptText
from workbench.models.family import adapter_for
from workbench.models.guidance import Branch
from workbench.recording.arguments import (
    check_embeddings,
    check_offered,
    check_own_positions,
    check_own_texts,
    check_positions,
    check_spaces,
    traced_layers,
)
from workbench.recording.block_reading import Reading, Record
from workbench.recording.edits.editing import Editing
from workbench.recording.edits.resolving import refuse_mass, resolve
from workbench.recording.traced_passes import Trace
from workbench.schema import ATTEND_MODES, InputError, warn


def trace(
    transformer: nn.Module,
    concepts: Tensor,
    layers: Iterable[int] | None = None,
    spaces: Sequence[str] = ("output",),
    attend: str = "both",
    pooled: Tensor | None = None,
    vectors: bool = False,
    *,
    lse: bool = False,
    text_mass: bool = False,
    tokens: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    own_positions: Sequence[int] | None = None,
    own_texts: Sequence[ConceptText] | None = None,
    branches: Sequence[Branch] = (Branch(),),
    on_record: Callable[[Record], None] | None = None,
    on_pass: Callable[[int], None] | None = None,
    interventions: Given | Iterable[Given] = (),
    on_piece: Callable[[Record], None] | None = None,
) -> Trace:
    """Record concept attention of every forward pass inside a ``with`` block.

    Helbling et al. 2025 (arXiv 2502.04320), section 4. After every pass it is checked that each layer delivered exactly
    once, finite and in shape.

    Under classifier-free guidance only the conditional passes are recorded, where the pipeline names its passes with
    ``cache_context``, as ``FluxPipeline`` does. Pipelines that do not (image-to-image, inpainting, Kontext and
    ControlNet of FLUX.1, Chroma and FLUX.3 in diffusers 0.42) have both recorded, and those that put both into one
    batch have all of its items recorded, unless ``branches`` says which is which.

    While a trace is open, ``torch.compile`` is off in the whole process: a compiled transformer runs uncompiled, with
    the uncompiled model's output, and its compiled code is used again afterwards.

    Parameters
    ----------
    transformer : nn.Module
        An unmodified diffusers transformer of a supported class.
    concepts : Tensor (batch or 1, concept, embedding_dim)
        Concept embeddings, before the model's own text embedder.
    layers : iterable of int, optional
        Blocks to record by depth, dual-stream blocks first, then single-stream blocks. All dual blocks by default, and
        all of a model that has none or few.
    spaces : sequence of str
        Any of ``output``, ``cross``, ``reverse_cross``, ``value``, ``query``, ``prompt``.
    attend : {"both", "image", "concepts", "none"}
        What concepts attend to; with ``"none"`` their output is their own value.
    pooled : Tensor (batch or 1, pooled_dim), optional
        Pooled text that concepts are conditioned on. By default zeros for FLUX.1, as in the paper, and the prompt's own
        for SD3, as in its public code.
    vectors : bool
        Keep the vectors behind the scores of every space that is read too; :class:`Record` says which they are.
    lse : bool
        Keep the log-sum-exp of the concepts' logits too.
    text_mass : bool
        Keep the image's attention to each token of the text too. It costs a second comparison of all queries with all
        keys, a few queries at a time.
    tokens : sequence of int, optional
        Positions of the prompt tokens in the ``prompt`` space; all, padding included, by default.
    positions : sequence of int, optional
        Makes the concepts one text at these positions of the model's own, position embedding and all; by default each
        is a text of its own. With the whole prompt at its own positions, and its own pooled text, the concepts are the
        model's own text.
    own_positions : sequence of int, optional
        Position of each concept in the text that it is on its own, for families whose text is rotated by position; see
        :meth:`.pipeline.PipelineAdapter.concept_positions`. By default where the family's template puts a concept of
        one token.
    own_texts : sequence of ConceptText, optional
        The text that each concept is on its own, for families whose text attends to itself before it meets the image;
        see :meth:`.pipeline.PipelineAdapter.encode_concept`. There a concept without it is a text of one token.
    branches : sequence of Branch
        Which passes and items of the batch are recorded and edited, under guidance; see
        :mod:`workbench.models.guidance`. Every item of every pass that is not named otherwise by default.
    on_record : callable, optional
        Receives each :class:`Record` as soon as it is computed; nothing is kept then. On a CUDA device it is called
        with the stream that computed it as the current one, which the model's waits for at the end of the pass.
    on_pass : callable, optional
        Receives the index of each forward pass whose pieces all arrived and passed every check; of several branches in
        passes of their own, that of each step whose passes did. Pieces that it is not called for are not to be trusted.
    interventions : Intervention or iterable of Intervention
        Edits of the passes, see :mod:`workbench.interventions`; tokens and concepts by position. What they take from
        other passes is kept by passes inside ``with trace.collecting(source):``, which come first.
    on_piece : callable, optional
        Former name of ``on_record``, for one version.

    Returns
    -------
    Trace
        The context manager.

    Raises
    ------
    InputError
        If an argument is wrong; no hook is placed.
    ModelError
        If the transformer is not supported, or a cache that skips steps is enabled on it; also on entering and before
        each pass.
    TraceError
        On entering, if it is being traced already; before a pass, if modules were replaced while the trace was open, by
        loading a LoRA for example; after a pass, if a piece is missing, repeated, misshapen or not finite; on leaving,
        if no pass was seen.

    Warns
    -----
    WorkbenchWarning
        If concepts have no text of their own in a family that needs it; if the transformer is compiled; on leaving, if
        an intervention met no pass.

    Examples
    --------
    >>> with trace(transformer, embeddings, spaces=("output", "cross")) as seen:  # doctest: +SKIP
    ...     transformer(**inputs)
    >>> seen.scores["output"].shape  # doctest: +SKIP
    torch.Size([19, 1, 24, 3, 4096])
    """
    if on_piece is not None:
        warn("on_piece is called on_record now; the old name will go with the next version.")
        on_record = on_record or on_piece
    adapter = adapter_for(transformer)
    spaces = check_spaces(spaces)
    if attend not in ATTEND_MODES:
        raise InputError(f"attend is {attend!r}; expected one of {', '.join(ATTEND_MODES)}.")
    check_offered(adapter, type(adapter.transformer).__name__, spaces, attend)
    check_embeddings("concepts", concepts, 3, "(batch or 1, concept, {})", adapter.embedding_dim)
    if pooled is not None:
        if adapter.pooled_dim is None:
            raise InputError(f"{type(transformer).__name__} has no pooled text input: leave pooled out.")
        check_embeddings("pooled", pooled, 2, "(batch or 1, {})", adapter.pooled_dim)
    if tokens is not None and (not tokens or min(tokens) < 0):
        raise InputError(f"tokens is {list(tokens)}; expected one or more positions from 0, or None for all.")
    if positions is not None:
        check_positions(positions, concepts.shape[1])
    if own_positions is not None:
        check_own_positions(own_positions, concepts.shape[1])
    texts = check_own_texts(adapter, own_texts, concepts.shape[1], one_text=positions is not None)
    edits = resolve(read(interventions), len(adapter.layers), adapter.heads, range(concepts.shape[1]))
    refuse_mass(edits, text_mass)
    return Trace(
        transformer,
        adapter,
        Concepts(
            concepts.detach().clone(),
            None if pooled is None else pooled.detach().clone(),
            None if positions is None else tuple(map(int, positions)),
            None if own_positions is None else tuple(map(int, own_positions)),
            texts,
        ),
        traced_layers(layers, adapter.layers),
        Reading(tuple(spaces), attend, vectors, lse, text_mass, None if tokens is None else tuple(tokens)),
        on_record,
        on_pass,
        Editing(adapter, edits),
        tuple(branches),
    )
