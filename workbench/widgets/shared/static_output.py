"""What a notebook keeps of a view for readers without a kernel: a picture of its state, and a description.

A view is shown as three outputs: the live view, the description, and the picture. Front ends that cannot show the first
one show the other two; where it lives, its style sheet hides them.
"""

from __future__ import annotations

import asyncio
import base64
import html
import inspect
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from workbench.schema import InputError, WorkbenchError, noted
from workbench.widgets.shared.drawing import Block, Still, Text, png
from workbench.widgets.shared.picture_text import lacking

RUN_THE_CELL: Final = "Run the cell for the live view."
_REST: Final = 1.0
"""Seconds without a change, before the picture in the notebook is made anew."""
_WIDGET: Final = "application/vnd.jupyter.widget-view+json"

logger = logging.getLogger(__name__)
_numbers = itertools.count(1)

_OUTPUT = ".jp-OutputArea-child"
_LIVE = ".wb-view[data-painted]:not([data-painted='-1']), [data-ready='true']"
HIDING: Final = f"""
{_OUTPUT}:has({_LIVE}) + {_OUTPUT}:has(.wb-kept),
{_OUTPUT}:has({_LIVE}) + {_OUTPUT}:has(.wb-kept) + {_OUTPUT} {{ display: none; }}
"""
"""Style sheet of every view: no picture beside a view that lives."""
_LOST = f"{_OUTPUT}:has(+ {_OUTPUT} .wb-kept) .jupyter-widgets:not(:has(*))"
_KEPT = f"""
{_LOST} {{ font-size: 0 !important; }}
{_LOST}::after {{ content: "{RUN_THE_CELL}"; font-size: var(--jp-ui-font-size1, 13px); }}
"""
"""In place of JupyterLab's message that a model was not found, which helps no reader."""


class StaticOutput:
    """A view that leaves a picture and a description in the notebook; mixed into a widget, before its own class.

    A class that uses it defines :meth:`still`, calls :meth:`renew` when what it shows changes, and has
    :data:`HIDING` in its style sheet, with ``data-ready="true"`` on what the kernel has answered.
    """

    _static = True
    _number = ""
    _changed = False
    _shell: Any = None
    _loop: asyncio.AbstractEventLoop | None = None
    _timer: asyncio.TimerHandle | None = None

    def still(self) -> Still:
        """What the view shows now.

        Raises
        ------
        WorkbenchError
            If it cannot be drawn; the notebook then keeps that sentence.
        """
        raise NotImplementedError

    def savers(self) -> dict[str, Callable[..., bytes]]:
        """By the ending of a file's name, what makes the file's content; called with the options of :meth:`save`."""
        return {".png": self._png}

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write what the view shows now into a file; no browser is needed.

        Parameters
        ----------
        path
            The file, which is replaced when it exists; its ending says what is written. ``.png``: a picture. A view of
            one dataset also writes ``.html``, a page that slices without a kernel, and ``.gif``, a picture that runs
            over the timesteps or, with ``over="layer"``, over the layers.
        **options
            Of that kind of file.

        Returns
        -------
        pathlib.Path
            The file. It says inside which run it is of, with its key, model, edit, versions, state and code.

        Raises
        ------
        InputError
            If the ending is none of these, an option is none of that kind's, or the file cannot be written.
        """
        target, known = Path(path), self.savers()
        if target.suffix.lower() not in known:
            raise InputError(f"the file is {target}; expected a name that ends in {' or '.join(known)}.")
        make = known[target.suffix.lower()]
        takes = list(inspect.signature(make).parameters)
        if wrong := sorted(set(options) - set(takes)):
            has = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise InputError(f"a {target.suffix} file has no option {', '.join(wrong)}; {has}.")
        if not target.parent.is_dir():
            raise InputError(f"there is no folder {target.parent}: make it first, or give another one.")
        content = make(**options)
        try:
            target.write_bytes(content)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"{target} cannot be written ({reason}): give a file that you may write to.") from error
        return target

    def _png(self) -> bytes:
        taken = self.still()
        return png([*taken.blocks, *_remarks(taken)], {**taken.facts, "title": taken.words}, most=None)

    @property
    def description(self) -> str:
        """What the view shows now, in words."""
        return self._taken().words

    def _taken(self) -> Still:
        """What is shown, or why it cannot be drawn. Nothing that goes wrong here keeps the view from being shown."""
        try:
            with noted():  # the view itself says what there is to warn of
                return self.still()
        except WorkbenchError as error:
            return Still(str(error), [Text(str(error), most=12)])
        except Exception as error:
            logger.exception("no picture of the view could be made")
            words = f"No picture of this view could be made ({type(error).__name__}: {error})."
            return Still(words, [Text(words, most=12)])

    def _ipython_display_(self, **options: Any) -> None:
        """Show the view, and below it what stays of it."""
        from IPython.core.getipython import get_ipython
        from IPython.display import publish_display_data

        shell = get_ipython()
        if shell is None or not hasattr(shell, "kernel"):
            print(self.description)
            return
        bundle: Any = self._repr_mimebundle_(**options)  # type: ignore[attr-defined]
        shown, about = bundle if isinstance(bundle, tuple) else (bundle, {})
        if not self._static or not shown or _WIDGET not in shown:
            publish_display_data(shown or {}, about)
            return
        # The live view first: the browser fetches what it needs while the picture is made.
        publish_display_data({**shown, "text/plain": RUN_THE_CELL}, about)
        self._number = f"workbench-{id(self)}-{next(_numbers)}"
        for data, name in self._kept():
            publish_display_data(data, transient={"display_id": name})
        self.settle()
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._shell = shell
        shell.events.register("post_run_cell", self._after_cell)

    def _kept(self) -> list[tuple[dict[str, Any], str]]:
        """The outputs that stay, with the names under which they are replaced."""
        taken = self._taken()
        markup = f'<p class="wb-kept">{html.escape(taken.words)}</p><style>{_KEPT}</style>'
        foot = Text(f"A picture of the view. {RUN_THE_CELL}", size=11, soft=True)
        picture = png([*taken.blocks, *_remarks(taken), foot], {**taken.facts, "title": taken.words})
        file = base64.b64encode(picture).decode("ascii")
        return [
            ({"text/html": markup, "text/plain": taken.words}, f"{self._number}-words"),
            ({"image/png": file, "text/plain": "a picture of the view"}, f"{self._number}-picture"),
        ]

    def renew(self, _change: object = None) -> None:
        """Make the picture in the notebook anew, from any thread: at the end of the cell that runs, or after a rest."""
        loop = self._loop  # another thread may settle the view meanwhile
        if loop is not None and not loop.is_closed():
            self._changed = True
            loop.call_soon_threadsafe(self._wait)

    def settle(self) -> None:
        """Make no more pictures: the view is closed, or shown again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._after_cell)
        self._changed, self._shell, self._loop, self._timer = False, None, None, None

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_later(_REST, self._replace)

    def _after_cell(self, _result: object = None) -> None:
        """What a cell changes belongs to its outputs: programs that run notebooks leave out what comes later."""
        if self._changed:
            self._replace()

    def _replace(self) -> None:
        from IPython.display import publish_display_data

        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if not self._changed:
            return
        self._changed = False
        try:
            for data, name in self._kept():
                publish_display_data(data, transient={"display_id": name}, update=True)
        except Exception:  # the notebook keeps the picture that it has
            logger.exception("the picture in the notebook could not be made anew")


def _remarks(taken: Still) -> list[Block]:
    """What is to be said of letters that no font here has."""
    said = lacking(taken.words)
    return [Text(said[0].upper() + said[1:], size=11, soft=True)] if said else []
