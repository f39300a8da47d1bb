"""Where the tensors of a block appear in its forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from workbench.models.block_records import WHOLE


@dataclass(frozen=True)
class Tap:
    """Where one tensor appears in a block's forward pass.

    Attributes
    ----------
    module : nn.Module
        After its forward pass, or before it.
    before : bool
        Whether it is the module's first argument instead of its result.
    columns : slice
        Part of the last axis, of projections that are fused with others.
    part : int or None
        Place in the tuple (image, text) that the module gives; the tensor then holds the rows of one of them only.
    by_head : bool
        Whether heads are an axis of the tensor, as behind norms of queries and keys.
    """

    module: nn.Module
    before: bool = False
    columns: slice = field(default_factory=lambda: WHOLE)
    part: int | None = None
    by_head: bool = False


@dataclass(frozen=True)
class Taps:
    """Where the tensors of one block appear.

    Attributes
    ----------
    query, key, value, output : Tap
        Of the image; of text and image together where text has no taps of its own. Queries and keys are normalised,
        and before the position embedding; the output is before its projection.
    text_query, text_key, text_value, text_output : Tap or None
        Of the text; ``text_output`` is also None in a block behind which there is no text.
    """

    query: Tap
    key: Tap
    value: Tap
    output: Tap
    text_query: Tap | None = None
    text_key: Tap | None = None
    text_value: Tap | None = None
    text_output: Tap | None = None

    @property
    def joint(self) -> bool:
        """Whether text and image appear in one tensor."""
        return self.text_query is None

    def of(self, name: str) -> Tap:
        """A tap by name, which is there."""
        found: Tap | None = getattr(self, name)
        assert found is not None
        return found
