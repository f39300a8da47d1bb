"""Which tokens of a template are the prompt's own: they decode to it, and are those the encoder is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.tiny_pipelines.flux2 import flux2_pipeline, klein_pipeline
from tests.tiny_pipelines.qwen import qwen_pipeline
from workbench.models.family import pipeline_adapter_for
