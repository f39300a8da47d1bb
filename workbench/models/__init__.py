"""Model families: where their tensors are, and how to feed them."""

from transformers.utils import logging as _logging

# Importing the pipelines makes transformers print two notes about torchvision, which nothing here needs.
_verbosity = _logging.get_verbosity()
_logging.set_verbosity_error()
try:
    import diffusers.pipelines.flux.pipeline_flux as _pipelines  # noqa: F401
finally:
    _logging.set_verbosity(_verbosity)
