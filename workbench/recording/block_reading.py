"""What one block says about the concepts: their attention, and their scores in every space.

All of it is computed in float32, whatever the model's dtype. A patch's queries are never compared with all keys, and
nothing but the scores leaves here unless vectors are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import torch
from torch import Tensor

from workbench.models.block_records import WHOLE, BlockTensors, ConceptStream, Projection
from workbench.models.guidance import Branch
from workbench.models.transformer import TransformerAdapter
from workbench.numerics.scores import head_scores
from workbench.recording import fused
from workbench.recording.edits.edited_attention import Seed, random_direction
from workbench.schema import CONDITIONAL, InputError

_SPACE_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "output": (),
    "cross": ("key",),
    "reverse_cross": ("query",),
    "value": ("value",),
    "query": ("query",),
    "prompt": ("prompt_query", "key"),
}
_ATTEND_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "both": ("key", "value"),
    "image": ("key", "value"),
    "concepts": (),
    "none": (),
}

_Value = TypeVar("_Value")

_BLOCK_BYTES: Final = 64 * 2**20
"""Memory of the logits of a block of patches, in `text_mass`."""


@dataclass(frozen=True)
class Record:
    """What one block gave in one forward pass.

    Attributes
    ----------
    step : int
        Index of the forward pass, counted over the recorded ones.
    layer : int
        Depth of the block.
    scores : dict of str to Tensor (batch, head, concept, patch)
        float32, by space; ``prompt`` has tokens in place of concepts.
    lse : dict of str to Tensor (batch, head, concept)
        With ``lse=True``: ``lse_image`` and ``lse_concept``, the log-sum-exp of a concept's logits over image keys and
        over concept keys, from which attention shares follow.
    mass : dict of str to Tensor (batch, head, text)
        With ``text_mass=True``: ``text_mass``, the model's own attention of the image to each token of the text
        sequence, padding included, averaged over patches.
    vectors : dict of str to Tensor (batch, head, concept or patch, dim)
        With ``vectors=True``: ``concept_output`` and ``image_output`` before the output projection, ``concept_query``
        and ``image_query`` after their norms and, for the image, before the rotary embedding. For every other space
        that is read, the two whose inner product is its score, in float32: ``concept_cross`` (queries) and
        ``image_cross`` (keys), ``concept_reverse_cross`` (keys) and ``image_reverse_cross`` (queries), all with the
        rotary embedding; ``concept_value`` and ``image_value``; ``token_prompt`` (batch, head, token, dim; queries)
        and ``image_prompt`` (keys), with the rotary embedding. The scale of the attention, 1 / sqrt(dim), multiplies
        the image's vectors where the score has it, so that it stays when concept vectors are normalised.
    magnitudes : dict of str to Tensor ()
        Of the spaces for which it came with the scores: the largest of them without their signs, NaN if one is.
    branch : {"conditional", "unconditional"}
        Of classifier-free guidance.
    """

    step: int
    layer: int
    scores: Mapping[str, Tensor]
    lse: Mapping[str, Tensor] = field(default_factory=dict)
    mass: Mapping[str, Tensor] = field(default_factory=dict)
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    magnitudes: Mapping[str, Tensor] = field(default_factory=dict)
    branch: str = CONDITIONAL

    def of(self, branch: Branch) -> Record:
        """Those items that are of one branch of guidance, of a pass that has both."""

        def items(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor[branch.items] for name, tensor in tensors.items()}

        # The magnitudes are those of all items, of which one branch may have smaller ones.
        return Record(
            self.step,
            self.layer,
            items(self.scores),
            items(self.lse),
            items(self.mass),
            items(self.vectors),
            branch=branch.name,
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is stored of it: scores, log-sum-exps and mass by name."""
        return {**self.scores, **self.lse, **self.mass}

    def to_host(self, pinned: bool = False) -> Record:
        """The same scores, log-sum-exps and mass on the host; without waiting when the memory there is pinned."""

        def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if not pinned:
                return {name: tensor.cpu() for name, tensor in tensors.items()}
            return {
                name: torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
                for name, tensor in tensors.items()
            }

        scores, lse, mass = (copied(tensors) for tensors in (self.scores, self.lse, self.mass))
        return Record(self.step, self.layer, scores, lse, mass, branch=self.branch)


@dataclass(frozen=True)
class Reading:
    """What is read from each wanted block.

    Attributes
    ----------
    spaces : tuple of str
        Spaces of the scores.
    attend : str
        What the concepts attend to.
    vectors, lse, text_mass : bool
        Whether vectors, log-sum-exps and the image's attention to text are kept.
    tokens : tuple of int or None
        Prompt tokens of the ``prompt`` space; None for all.
    hidden : tuple of int
        Concepts that the others do not attend to.
    scaled : tuple of (tuple of int or None, float)
        Heads, None for all, and what the output of the concepts in them is multiplied with.
    controls : tuple of (Reading, Seed)
        Other ways to attend, whose effect on the attention is replaced by a random one of the same size, and its seed.
    """

    spaces: tuple[str, ...]
    attend: str
    vectors: bool
    lse: bool
    text_mass: bool
    tokens: tuple[int, ...] | None
    hidden: tuple[int, ...] = ()
    scaled: tuple[tuple[tuple[int, ...] | None, float], ...] = ()
    controls: tuple[tuple[Reading, Seed], ...] = ()

    def needs(self, wanted: bool) -> frozenset[str]:
        """Which of a block's tensors are needed: for the stream alone, or for a wanted block."""
        needs = set(_ATTEND_NEEDS[self.attend])
        if wanted:
            needs.update(need for space in self.spaces for need in _SPACE_NEEDS[space])
            needs.update(["query"] if self.vectors else [], ["key"] if self.lse else [])
            needs.update(["query", "key", "prompt_key"] if self.text_mass else [])
        return frozenset(needs)

    def read(
        self,
        adapter: TransformerAdapter,
        stream: ConceptStream,
        projection: Projection,
        block: BlockTensors,
        place: tuple[int, int] | None,
    ) -> tuple[Tensor, Record | None]:
        """Attend with the concepts and compare them with the image.

        Parameters
        ----------
        adapter : TransformerAdapter
            The model family.
        stream : ConceptStream
            The concepts before the block.
        projection : Projection
            The concepts inside the block.
        block : BlockTensors
            What the model computed in the block.
        place : tuple of int or None
            Step and layer of the piece; None where only the stream has to go on.

        Returns
        -------
        attended : Tensor (batch, head, concept, dim)
            Output of concept attention, before the output projection.
        piece : Record or None
            The scores.
        """
        scale = adapter.scale(block.call)
        own = _Own.of(adapter, stream, projection)
        fused_result = self._read_fused(adapter, own, block, place, scale) if stream.bias is None else None
        if fused_result is not None:
            return fused_result
        rotary, patches = block.call.rotary, block.patches
        query, own_key, own_value = (t.float() for t in (own.query, own.key, own.value))
        image_key = None if block.key is None else adapter.rotate(block.key, rotary).float()
        image_value = None if block.value is None else block.value.float()
        over_image = None if image_key is None else head_scores(query * scale, image_key)
        over_every_concept = head_scores(query * scale, own_key)
        if stream.bias is not None:
            over_every_concept = over_every_concept + stream.bias
        over_concepts = _hide(over_every_concept, self.hidden, stream.lead)

        attended = _attend(self.attend, over_image, over_concepts, image_value, own_value)
        attended = self._scale(attended, stream.lead)
        for other, seed in self.controls:
            over_others = _hide(over_every_concept, other.hidden, stream.lead)
            made = _attend(other.attend, over_image, over_others, image_value, own_value)
            changed = other._scale(made, stream.lead)
            attended = random_direction(attended, changed, seed)
        if place is None:
            return attended, None

        scores: dict[str, Tensor] = {}
        for space in self.spaces:
            if space == "output":
                scores[space] = head_scores(attended, block.output.float())
            elif space == "cross":
                scores[space] = _present(over_image)
            elif space == "reverse_cross":
                image_query = adapter.rotate(_present(block.query), rotary).float()
                scores[space] = head_scores(own_key * scale, image_query)
            elif space == "value":
                scores[space] = head_scores(own_value, _present(image_value))
            elif space == "query":
                scores[space] = head_scores(own.plain_query.float(), _present(block.query).float())
            else:
                scores[space] = head_scores(self._prompt_query(adapter, block).float() * scale, _present(image_key))
        scores = {
            space: values[:, :, 0 if space == "prompt" else stream.lead :, patches] for space, values in scores.items()
        }
        lse = {}
        if self.lse:
            lse = {
                "lse_image": torch.logsumexp(_present(over_image), dim=-1)[:, :, stream.lead :],
                "lse_concept": torch.logsumexp(over_concepts, dim=-1)[:, :, stream.lead :],
            }
        mass = {}
        if self.text_mass:
            image_query = adapter.rotate(_present(block.query), rotary).float()[:, :, patches]
            text_key = adapter.rotate(_present(block.prompt_key), block.call.text_rotary).float()
            mass["text_mass"] = _text_mass(image_query * scale, text_key, _present(image_key), block.text_bias)
        return attended, Record(*place, scores, lse, mass, self._vectors(adapter, attended, own, block, scale))

    def _read_fused(
        self,
        adapter: TransformerAdapter,
        own: _Own,
        block: BlockTensors,
        place: tuple[int, int] | None,
        scale: float,
    ) -> tuple[Tensor, Record | None] | None:
        """As :meth:`read`, with fused kernels; None where they cannot be used."""
        if self.hidden or self.scaled or self.controls or self.text_mass or self.attend not in ("both", "image"):
            return None
        if own.lead or block.patches != WHOLE or not adapter.rotates_pairs:
            return None
        table, key, value = block.call.rotary, _present(block.key), _present(block.value)
        vectors = (own.query, own.key, own.value)
        if not fused.fits(vectors, (key, value, block.output, block.query), table):
            return None
        if own.query.dtype != key.dtype:
            return None
        found = fused.attend(*vectors, key, value, table, scale, with_own=self.attend == "both")
        if found is None or place is None:
            return None if found is None else (found.output, None)

        scores: dict[str, Tensor] = {}
        magnitudes: dict[str, Tensor] = {}
        for space in self.spaces:
            if space == "cross":
                compared: tuple[Tensor, Tensor] | None = (found.logits, found.magnitude)
            elif space == "output":
                compared = fused.scores(found.output, block.output)
            elif space == "reverse_cross":
                compared = fused.scores(own.key, _present(block.query), scale, table)
            elif space == "value":
                compared = fused.scores(own.value, value)
            elif space == "query":
                compared = fused.scores(own.plain_query, _present(block.query))
            else:
                prompt = self._prompt_query(adapter, block)
                if not fused.fits((prompt,)):
                    image_key = adapter.rotate(key, table).float()
                    scores[space] = head_scores(prompt.float() * scale, image_key)
                    continue
                compared = fused.scores(prompt, key, scale, table)
            scores[space], magnitudes[space] = _present(compared)
        lse = {"lse_image": found.lse[0], "lse_concept": found.lse[1]} if self.lse else {}
        kept = self._vectors(adapter, found.output, own, block, scale)
        return found.output, Record(*place, scores, lse, {}, kept, magnitudes)

    def _scale(self, attended: Tensor, lead: int) -> Tensor:
        """Concept attention (batch, head, token, dim) with the concepts' output in some heads multiplied."""
        for heads, factor in self.scaled:
            chosen = slice(None) if heads is None else list(heads)
            attended = attended.clone()
            attended[:, chosen, lead:] = attended[:, chosen, lead:] * factor if factor else 0.0
        return attended

    def _vectors(
        self, adapter: TransformerAdapter, attended: Tensor, own: _Own, block: BlockTensors, scale: float
    ) -> dict[str, Tensor]:
        """The vectors behind the scores, where they are kept."""
        if not self.vectors:
            return {}
        kept = {
            "concept_output": attended[:, :, own.lead :],
            "image_output": block.output[:, :, block.patches],
            "concept_query": own.plain_query[:, :, own.lead :],
            "image_query": _present(block.query)[:, :, block.patches],
        }

        def rotated(image: Tensor | None) -> Tensor:
            return adapter.rotate(_present(image), block.call.rotary).float()[:, :, block.patches] * scale

        for space in self.spaces:
            if space == "cross":
                pair = own.query[:, :, own.lead :], rotated(block.key)
            elif space == "reverse_cross":
                pair = own.key[:, :, own.lead :], rotated(block.query)
            elif space == "value":
                pair = own.value[:, :, own.lead :], _present(block.value)[:, :, block.patches]
            elif space == "prompt":
                pair = self._prompt_query(adapter, block), rotated(block.key)
            else:
                continue
            first = "token" if space == "prompt" else "concept"
            kept |= {f"{first}_{space}": pair[0].float(), f"image_{space}": pair[1].float()}
        return kept

    def _prompt_query(self, adapter: TransformerAdapter, block: BlockTensors) -> Tensor:
        """Queries (batch, head, token, dim) of the wanted prompt tokens, with the rotary embedding."""
        query = adapter.rotate(_present(block.prompt_query), block.call.text_rotary)
        if self.tokens is None:
            return query
        if max(self.tokens) >= query.shape[2]:
            raise InputError(f"token position {max(self.tokens)} is outside the prompt's {query.shape[2]} tokens.")
        return query[:, :, list(self.tokens)]


@dataclass(frozen=True)
class _Own:
    """Queries, keys and values (batch, head, concept, dim) of the concepts, with their position embedding."""

    query: Tensor
    key: Tensor
    value: Tensor
    plain_query: Tensor
    """Without the position embedding."""
    lead: int

    @classmethod
    def of(cls, adapter: TransformerAdapter, stream: ConceptStream, projection: Projection) -> _Own:
        query, key = projection.query, projection.key
        if stream.rotary is not None:
            query, key = (adapter.rotate(vectors, stream.rotary) for vectors in (query, key))
        return cls(query, key, projection.value, projection.query, stream.lead)


def _text_mass(query: Tensor, text_key: Tensor, image_key: Tensor, text_bias: Tensor | None) -> Tensor:
    """Attention (batch, head, text) of the patches to each text token, averaged over patches.

    A few patches at a time: the whole attention matrix is never there.
    """
    keys = torch.cat([text_key, image_key], dim=2).transpose(-1, -2)
    batch, heads, patches, _ = query.shape
    text = text_key.shape[2]
    rows = max(1, _BLOCK_BYTES // (4 * batch * heads * keys.shape[-1]))
    mass = query.new_zeros(batch, heads, text)
    for part in query.split(rows, dim=2):
        logits = part @ keys
        if text_bias is not None:
            logits[..., :text] += text_bias
        mass += logits.softmax(dim=-1)[..., :text].sum(dim=2)
    return mass / patches


def _attend(
    mode: str, over_image: Tensor | None, over_concepts: Tensor, image_value: Tensor | None, own_value: Tensor
) -> Tensor:
    """Concept attention from its logits over image and concept keys, without joining keys or values."""
    if mode == "none":
        return own_value
    if mode == "concepts":
        return over_concepts.softmax(dim=-1) @ own_value
    if mode == "image":
        return _present(over_image).softmax(dim=-1) @ _present(image_value)
    count = over_concepts.shape[-1]
    weights = torch.cat([over_concepts, _present(over_image)], dim=-1).softmax(dim=-1)
    return weights[..., :count] @ own_value + weights[..., count:] @ _present(image_value)


def _hide(over_concepts: Tensor, hidden: tuple[int, ...], lead: int) -> Tensor:
    """Logits (batch, head, concept, concept) without those of hidden concepts, but for their own; others lead."""
    if not hidden:
        return over_concepts
    mask = torch.zeros(over_concepts.shape[-2:], dtype=torch.bool, device=over_concepts.device)
    mask[:, [lead + concept for concept in hidden]] = True
    return over_concepts.masked_fill(mask.fill_diagonal_(False), -torch.inf)


def _present(value: _Value | None) -> _Value:
    """Narrow what is there because `Reading.needs` asked for it, or because the kernels run."""
    assert value is not None
    return value
