"""Metadata validation: what a stored run may ask of the process that reads it.

A dataset may come from anywhere, so nothing in it decides what code runs: its metadata may name only the few data types
and codecs that runs are made of, and zarr never sees others.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

from workbench.schema import StoreError

ROOT: Final = "zarr.json"
"""Name of the metadata of a zarr group, which in a run describe its arrays as well."""

_CODECS: Final = {"bytes", "vlen-utf8", "zstd", "blosc", "gzip", "crc32c"}
_TYPES: Final = {"bool", "string", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_LONGEST_COORDINATE: Final = 1 << 24


def check_metadata(text: bytes, location: Path | str) -> None:
    """Refuse a group whose metadata ask for anything but the plain arrays that runs are made of.

    Parameters
    ----------
    text
        The group's ``zarr.json``, with the metadata of its arrays.
    location
        The run, for the error.

    Raises
    ------
    StoreError
        When an array has another type, codec or size.
    ValueError, KeyError, TypeError, AttributeError
        When the text is not laid out like such metadata.
    """
    group = json.loads(text)
    for name, array in group["consolidated_metadata"]["metadata"].items():
        codecs = [codec["name"] for codec in array["codecs"]] if array["node_type"] == "array" else []
        wrong = ""
        if array["node_type"] != "array" or array["zarr_format"] != 3 or "/" in name:
            wrong = "it is no array of zarr format 3"
        elif array["data_type"] not in list(_TYPES):
            wrong = f"its type is {array['data_type']!r}"
        elif unknown := [codec for codec in codecs if codec not in _CODECS]:
            wrong = f"its codec is {unknown[0]!r}"
        elif array.get("storage_transformers"):
            wrong = "it has storage transformers"
        elif len(array["shape"]) < 2 and math.prod(array["shape"]) > _LONGEST_COORDINATE:
            wrong = f"it has {math.prod(array['shape']):,} values"
        if wrong:
            raise StoreError(
                f"the run {location} holds {name!r}, which is not loaded: {wrong}; expected arrays of numbers and "
                f"strings with the codecs {', '.join(sorted(_CODECS))} only, so that nothing in a dataset runs code"
            )
