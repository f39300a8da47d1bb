"""Model families: where their tensors are, and how to feed them."""

import logging as _logging

# Importing the pipelines makes libraries report what they lack for purposes of their own: transformers torchvision,
# torchao its CUDA kernels. What concerns a model is reported when the model is loaded.
_disabled = _logging.root.manager.disable
_logging.disable(_logging.WARNING)
try:
    import diffusers.pipelines.flux.pipeline_flux as _pipelines  # noqa: F401
finally:
    _logging.disable(_disabled)
