"""Figures for papers, drawn with matplotlib: PDF with real text, SVG with outlines, PNG at :data:`DPI`.

:func:`interactive` gives sweeps and effects as plotly figures.
"""

from workbench.figures.effect_figure import effects as effects
from workbench.figures.effect_matrices import effects_by_layer as effects_by_layer
from workbench.figures.grids import concept_grid as concept_grid
from workbench.figures.interactive import interactive as interactive
from workbench.figures.paper import DPI as DPI
from workbench.figures.paper import SEGMENT_COLOURS as SEGMENT_COLOURS
from workbench.figures.paper import PaperFigure as PaperFigure
from workbench.figures.score_figure import score as score
from workbench.figures.sweep_figure import sweep as sweep
