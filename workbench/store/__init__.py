"""Runs on disk: content keys, atomic streaming writes to zarr, and opening, checking and removing what is stored.

One run is one zarr group, ``<home>/runs/<key>.zarr``, named by a hash of everything that determines its result. A run
is visible when its ``manifest.json`` exists: the size and checksum of every file, written last. Until then the run
grows in ``<home>/partial/<key>/``, beside a journal of the pieces it already holds, and is renamed into place when it
is complete; an interrupted run takes up where it stopped. A lock for each key keeps two processes from writing the
same run: the second waits, and then finds it finished. While a dataset opened from a run is alive, :func:`prune` leaves
the run alone. After a power cut a run is whole or absent; see :mod:`workbench.store.durability`.

A run of many images names the runs of its items; see :mod:`workbench.store.many`.

Runs that were made for experiments are told from the user's own, which include those that he asks for later with the
same call; see :mod:`workbench.store.ownership`.

The home may be an fsspec URL, such as ``s3://bucket/runs``, where the extra ``cloud`` is installed; see
:mod:`workbench.store.remote`.

Nothing in a stored run decides what code is executed; see :mod:`workbench.store.metadata`.
"""

from workbench.store.archives import export_runs as export_runs
from workbench.store.archives import import_runs as import_runs
from workbench.store.catalogue import check_writable as check_writable
from workbench.store.catalogue import find as find
from workbench.store.former import export_run as export_run
from workbench.store.former import import_run as import_run
from workbench.store.locations import content_key as content_key
from workbench.store.locations import home as home
from workbench.store.locks import unwritten as unwritten
from workbench.store.many import Item as Item
from workbench.store.many import Register as Register
from workbench.store.many import keep as keep
from workbench.store.many import register as register
from workbench.store.many_opening import grouped as grouped
from workbench.store.many_opening import one_or_tree as one_or_tree
from workbench.store.many_opening import open_many as open_many
from workbench.store.memory import in_memory as in_memory
from workbench.store.ownership import claim as claim
from workbench.store.ownership import discard_for_anew as discard_for_anew
from workbench.store.ownership import keep_ownership as keep_ownership
from workbench.store.pruning import Pruned as Pruned
from workbench.store.pruning import prune as prune
from workbench.store.reading import Run as Run
from workbench.store.reading import info as info
from workbench.store.reading import open as open
from workbench.store.reading import runs as runs
from workbench.store.verifying import Checked as Checked
from workbench.store.verifying import check as check
from workbench.store.verifying import damage as damage
from workbench.store.verifying import discard as discard
from workbench.store.verifying import verify as verify
from workbench.store.writing import writer as writer
