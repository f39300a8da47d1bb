"""The defaults that torch makes tensors with, which are the user's to set and must not change what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_defaults() -> Iterator[None]:
    """Inside, in this thread, tensors made without a device are on the CPU, as where no default device is set.

    Tensors of ours name dtype and device; those of the pipeline's libraries often name no device. The default dtype is
    shared by all threads and is left alone.
    """
    if _is_cpu():
        yield
        return
    with torch.device("cpu"):
        yield


def _is_cpu() -> bool:
    try:
        return torch.get_default_device().type == "cpu"
    except AttributeError:  # torch up to 2.9 cannot say so once a default device was set and taken back
        return False
