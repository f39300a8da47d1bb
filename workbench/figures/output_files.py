"""Files that figures are written to."""

from __future__ import annotations

from pathlib import Path

from workbench.schema import InputError


def check_file(path: Path) -> Path:
    """A file that a figure can be written to, found out by writing nothing to it.

    Raises
    ------
    InputError
        If matplotlib knows no format of its ending, or it cannot be written: its folder does not exist, say.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise InputError(
            f"the figure is {path}; expected a name that ends in .png, .pdf or .svg, or in another format of "
            f"matplotlib ({', '.join(sorted(formats))})."
        )
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """A file that can be written, found out by writing nothing to it.

    Raises
    ------
    InputError
        If it cannot: its folder does not exist, say.
    """
    try:
        existed = path.exists()
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise InputError(
            f"the file cannot be written to {path} ({error.strerror}): give a file in a folder that exists and that "
            "you may write to."
        ) from error
    return path
