"""Families whose text attends to itself before it meets the image: a concept goes through that in its own text.

A lone word is nothing these models have seen: it is refined as a token of the text that it is on its own, template
included, and only then becomes a token of the concept stream.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from workbench.models.block_records import Concepts, ConceptText, for_batch
from workbench.models.joint import JointAdapter


class Refined(NamedTuple):
    """Concepts behind the refiner of text.

    Attributes
    ----------
    hidden : Tensor (batch, lead + concept, width)
        Tokens that the refiner added to the text of the concepts, then the concepts.
    positions : tuple of int
        Where each stands in the model's text.
    lead : int
        How many tokens were added.
    """

    hidden: Tensor
    positions: tuple[int, ...]
    lead: int


class RefinedAdapter(JointAdapter):
    """A transformer of joint attention, with blocks of text alone before those of text and image.

    Attributes
    ----------
    first_position : int
        Where the template puts the first token of a text.
    """

    refines: ClassVar[bool] = True
    first_position: ClassVar[int] = 0

    @abstractmethod
    def refine(self, texts: Tensor, positions: Tensor) -> Tensor:
        """Take texts from the text encoder's output to the first block that they share with the image.

        Parameters
        ----------
        texts : Tensor (text, token, embedding_dim)
            Texts of one length, none of whose tokens is masked; those of the first item of the batch come first.
        positions : Tensor (text, token)
            Positions of their tokens in the model's text.

        Returns
        -------
        Tensor (text, token or more, width)
            Behind the tokens are those that the model adds to such a text, if it does.
        """

    def refined(self, concepts: Concepts, batch: int, like: Tensor) -> Refined:
        """The concepts behind the refiner.

        Parameters
        ----------
        concepts : Concepts
            One text at positions of the model's own, or each in a text of its own.
        batch : int
            Items of the batch that are refined apart.
        like : Tensor
            Text embeddings of the pass, for their device and dtype.
        """
        embeddings, count = concepts.embeddings.to(like), concepts.embeddings.shape[1]
        if concepts.positions is not None:
            texts = for_batch("concepts", embeddings, max(batch, len(embeddings)))
            places = torch.tensor([concepts.positions], dtype=torch.int64, device=like.device)
            whole = self.refine(texts, places.expand(len(texts), -1))
            added = whole.shape[1] - count
            behind = range(max(concepts.positions) + 1, max(concepts.positions) + 1 + added)
            hidden = torch.cat([whole[:, count:], whole[:, :count]], dim=1)
            return Refined(hidden, (*behind, *concepts.positions), added)
        own = concepts.own_positions or (self.first_position,) * count
        lone = (ConceptText(embeddings[:, [place]], (0,), own[place]) for place in range(count))
        return Refined(self._apart(concepts.texts or tuple(lone), batch, like), own, 0)

    def _apart(self, texts: tuple[ConceptText, ...], batch: int, like: Tensor) -> Tensor:
        """The tokens (batch, concept, width) that stand for the concepts, each refined in its own text."""
        found: dict[int, Tensor] = {}
        batch = max(batch, *(len(text.embeddings) for text in texts))
        lengths = dict.fromkeys(text.embeddings.shape[1] for text in texts)
        for length in lengths:
            members = [place for place, text in enumerate(texts) if text.embeddings.shape[1] == length]
            stacked = [for_batch("concepts", texts[place].embeddings.to(like), batch) for place in members]
            first = torch.tensor([texts[p].first for p in members], dtype=torch.int64, device=like.device)
            positions = first[:, None] + torch.arange(length, dtype=torch.int64, device=like.device)
            refined = self.refine(torch.stack(stacked, dim=1).flatten(0, 1), positions.repeat(batch, 1))
            for place, hidden in zip(members, refined.unflatten(0, (batch, -1)).unbind(dim=1), strict=True):
                found[place] = hidden[:, list(texts[place].tokens)].mean(dim=1)
        return torch.stack([found[place] for place in range(len(texts))], dim=1)
