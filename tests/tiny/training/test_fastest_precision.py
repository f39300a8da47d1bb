from __future__ import annotations

import pytest
import torch

from workbench.tiny.training import fastest_precision


@pytest.mark.parametrize("fast", [torch.float32, torch.bfloat16])
def test_a_cpu_trains_in_what_it_multiplies_faster(fast: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest_precision, "_seconds", lambda dtype: 1.0 if dtype == fast else 2.0)
    fastest_precision.quickest.cache_clear()
    try:
        assert fastest_precision.quickest("cpu") == fast
        with fastest_precision.mixed("cpu"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == fast
    finally:
        fastest_precision.quickest.cache_clear()


def test_what_is_measured_is_a_product() -> None:
    assert all(0 < fastest_precision._seconds(dtype) < 10 for dtype in (torch.float32, torch.bfloat16))
    assert fastest_precision.quickest("meta") == torch.float32
