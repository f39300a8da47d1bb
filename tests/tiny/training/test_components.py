"""What an untrained model must have for training to find what it should."""

from __future__ import annotations

import torch

from workbench.tiny.training import components
from workbench.tiny.training.objective import Words


def test_order_of_words_matters_from_the_start() -> None:
    # T5's own initial biases give 0.01 to 0.04 here, and training from them kept captions bags of words.
    clip_tokenizer, t5_tokenizer = components.tokenizers()
    words = Words(clip_tokenizer, t5_tokenizer)
    ids = words(["a red star on sand under sky", "a red star on sky under sand"])[1]
    for seed in range(5):
        torch.manual_seed(seed)
        t5 = components.text_encoders(len(clip_tokenizer), len(t5_tokenizer))[1]
        with torch.no_grad():
            one, other = t5(ids)[0]
        for here, there in ((4, 6), (6, 4)):
            assert ids[0, here] == ids[1, there]
            assert (one[here] - other[there]).norm() > 0.1 * one[here].norm()
