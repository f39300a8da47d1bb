"""Concept attention for diffusion transformers, as labelled datasets.

Importing this package registers the accessor ``ds.wb`` on every :class:`xarray.Dataset` and loads neither torch nor
diffusers nor a plotting library. The public names (listed in ``__init__.pyi``) are imported when first used.
"""

import lazy_loader

from workbench import accessor as accessor

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
