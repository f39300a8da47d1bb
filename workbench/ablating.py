"""``ablate``: the panel in which sweeps and interventions are chosen, run and looked at."""

from __future__ import annotations

from typing import Any

import xarray as xr

from workbench import schema
from workbench.schema import WorkbenchError
from workbench.store.reading import Run
from workbench.widgets.ablation import Ablation
from workbench.widgets.checking import drawable, problem
from workbench.widgets.describing import picture
from workbench.widgets.results import SWEEP
from workbench.widgets.state import State
from workbench.widgets.tasks import Sweeps


def ablate(subject: Any) -> Ablation:
    """Sweep a captured dataset in JupyterLab.

    Parameters
    ----------
    subject
        A dataset from ``capture``, ``generate`` or ``open``, or a stored run.

    Returns
    -------
    An ipywidgets object; its ``results`` are the datasets of all finished runs. What cannot be used gives a sentence in
    its place.
    """
    if isinstance(subject, Run):
        try:
            subject = subject.open()
        except WorkbenchError as error:
            return Ablation(error=str(error))
    if sentence := problem(subject):
        return Ablation(error=sentence.replace("explore", "ablate"))
    shown = picture(subject, State.default(subject)) if drawable(subject) else None
    return Ablation({SWEEP: Sweeps(subject)}, title=_title(subject), picture=shown)


def _title(ds: xr.Dataset) -> str:
    names = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    return f"{', '.join(names)} – {ds.attrs.get('model') or 'an unnamed model'}"
