"""Which tokens of a template are the prompt's own: they decode to it, and are those the encoder is given."""

from __future__ import annotations
