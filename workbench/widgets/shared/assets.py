"""The browser's half of the views: the files in ``static`` of each room, put together."""

from __future__ import annotations

import base64
import functools
import gzip
from importlib.resources import files


@functools.cache
def text(name: str) -> str:
    """A file of the views.

    Parameters
    ----------
    name
        The room and the file, such as ``"shared/view.css"``.
    """
    room, _, file = name.partition("/")
    return files("workbench.widgets").joinpath(room, "static", file).read_text("utf-8")


def joined(*names: str) -> str:
    """Several files, one after the other: each may use what is defined in those before it."""
    return "\n".join(map(text, names))


@functools.cache
def packed(*names: str) -> str:
    """An ES module of several files, compressed, for widgets: each view keeps its module in the notebook."""
    text = joined(*names).encode()
    return _LOADER.replace("PACKED", base64.b64encode(gzip.compress(text, 9, mtime=0)).decode("ascii"))


_LOADER = """const packed = Uint8Array.from(atob("PACKED"), (letter) => letter.charCodeAt(0));
const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const text = await new Response(stream).text();
const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
export default (await import(address)).default;
"""
