"""Pictures beside which reference images are read: whose tokens are whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.models.block_records import WHOLE
from workbench.models.joint import JointAdapter
from workbench.schema import ModelError


class ReferenceAdapter(JointAdapter):
    """A transformer whose ``img_ids`` are (image, row, column, …): the picture's come first, references follow.

    References take part in attention, also in that of concepts; patches are those of the picture alone.
    """

    _known: tuple[Tensor, Tensor] | None = None

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        if given.get("img_ids") is None or bool((own := self._of_picture(given)).all()):
            self.patches = WHOLE
            return
        self.patches = slice(0, int(own.sum()))
        if not bool(own[self.patches].all()):
            raise ModelError(
                "img_ids has tokens of another image (another first coordinate) among those of the picture: give them "
                "behind the picture's, as diffusers' pipelines do."
            )

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        places = _ids(given)[self._of_picture(given)][:, 1:3]
        rows, columns = (int(extent) + 1 for extent in places.amax(dim=0) - places.amin(dim=0))
        return rows, columns

    def _of_picture(self, given: Mapping[str, Any]) -> Tensor:
        """Which of the image's tokens are patches of the picture, (token,): those of the image that comes first."""
        # On the host, and once for all steps of a picture, which are given the same tensor.
        if self._known is None or self._known[0] is not given["img_ids"]:
            images = _ids(given)[:, 0].cpu()
            self._known = given["img_ids"], images == images[:1]
        return self._known[1]


def _ids(given: Mapping[str, Any]) -> Tensor:
    """Position ids (token, axis) of a pass, from any row and column on."""
    ids: Tensor = given["img_ids"]
    return ids[0] if ids.ndim == 3 else ids
