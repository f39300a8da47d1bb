"""What the view is measured against: six plotly heat maps in one FigureWidget behind an ipywidgets slider."""

from __future__ import annotations

import ipywidgets
import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots


def heatmaps(cube: npt.NDArray[np.float32]) -> ipywidgets.VBox:
    """A slider over the first axis of a (layer, concept, y, x) cube, and one heat map per concept (at most six)."""
    figure = go.FigureWidget(make_subplots(rows=2, cols=3))
    for index, values in enumerate(cube[0]):
        trace = go.Heatmap(z=values, zmin=0, zmax=1, showscale=False, colorscale="Viridis")
        figure.add_trace(trace, row=index // 3 + 1, col=index % 3 + 1)
    figure.update_layout(height=420, margin={"l": 20, "r": 20, "t": 20, "b": 20})
    slider = ipywidgets.IntSlider(max=len(cube) - 1, description="layer")

    def show(change: dict[str, int]) -> None:
        with figure.batch_update():
            for trace, values in zip(figure.data, cube[change["new"]], strict=True):
                trace.z = values

    slider.observe(show, "value")
    return ipywidgets.VBox([slider, figure])
