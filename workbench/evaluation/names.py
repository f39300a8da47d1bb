"""What can be asked for by name, without anything heavy."""

from __future__ import annotations

from typing import Final

from workbench.schema import SPACES

BLIND: Final = ("background", "uniform", "random", "centre", "prior", "majority", "oracle")
"""Methods that see no image."""
METHODS: Final = (*SPACES, *BLIND)
"""Methods by name: spaces, floors and ceilings."""
TABLES: Final = ("table1", "table2", "table3", "table4", "figure7")
"""Of the paper."""
