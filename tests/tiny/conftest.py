"""A pipeline of the bundled model's structure, with random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.models.loading import load_model
from workbench.tiny.scenes import NOUNS, SIZE
from workbench.tiny.training import components


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Structure, tokenizers and file format of the bundled model without its knowledge."""
    torch.manual_seed(0)
    clip_tokenizer, t5_tokenizer = components.tokenizers()
    clip, t5 = components.text_encoders(len(clip_tokenizer), len(t5_tokenizer))
    info: dict[str, object] = {
        "size": [SIZE, SIZE],
        "text_length": components.TEXT_LENGTH,
        "steps": 2,
        "vocabulary": list(NOUNS),
        "fillers": [word for word in components.VOCABULARY if word not in NOUNS],
        "default_layers": [0, 1],
        "timestep": 500.0,
        "step": 0,
        "recipe": {"presence": 1.0, "colour": 0.5},
    }
    folder = tmp_path_factory.mktemp("untrained")
    components.save_pipeline(folder, components.autoencoder(), components.transformer(), clip, t5, info)
    return load_model(folder, dtype=torch.float32)
