from __future__ import annotations

import pytest
import torch

from workbench.recording.edits.edited_attention import blocked_attention, blur, random_direction
from workbench.schema import TraceError


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("logits", [1, 100, 10**6])
def test_attention_in_blocks_is_attention(logits: int) -> None:
    query, key, value = draw(2, 3, 11, 8), draw(2, 3, 7, 8, seed=1), draw(2, 3, 7, 4, seed=2)
    expected = (query @ key.transpose(-1, -2) * 0.3).softmax(dim=-1) @ value
    torch.testing.assert_close(blocked_attention(query, key, value, 0.3, logits), expected)


def test_no_more_logits_at_a_time_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        sizes.append(query.shape[2] * key.shape[2] * query.shape[0] * query.shape[1])
        return attend(query, key, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    blocked_attention(draw(1, 2, 50, 8), draw(1, 2, 30, 8), draw(1, 2, 30, 8), 1.0, logits=500)
    assert max(sizes) <= 500
    assert sum(sizes) == 2 * 50 * 30


def test_a_blur_keeps_what_is_everywhere_the_same_and_the_mean_of_what_is_inside() -> None:
    constant = draw(1, 2, 1, 5).expand(1, 2, 12, 5)
    torch.testing.assert_close(blur(constant, (3, 4), 1.3), constant)
    point = torch.zeros(1, 1, 15 * 15, 1)
    point[0, 0, 7 * 15 + 7] = 1
    spread = blur(point, (15, 15), 1.0).reshape(15, 15)
    assert float(spread.sum()) == pytest.approx(1)
    assert float(spread[7, 8] / spread[7, 7]) == pytest.approx(float(torch.exp(torch.tensor(-0.5))), rel=1e-5)
    torch.testing.assert_close(spread, spread.T)


def test_a_random_direction_is_as_long_as_the_edit_and_named_by_its_seed() -> None:
    original = draw(2, 5, 64)
    edited = original.clone()
    edited[0, 2] = 0
    moved = random_direction(original, edited, "one")
    torch.testing.assert_close((moved - original)[0, 2].norm(), original[0, 2].norm())
    untouched = [(0, 0), (0, 1), (1, 2)]
    assert all(torch.equal(moved[at], original[at]) for at in untouched)
    assert torch.equal(moved, random_direction(original, edited, "one"))
    assert not torch.equal(moved, random_direction(original, edited, "other"))
    assert random_direction(original.bfloat16(), edited.bfloat16(), "one").dtype == torch.bfloat16


def test_a_matched_direction_has_the_covariance_of_the_vectors() -> None:
    # Vectors that vary along one axis a hundred times as much as along the others.
    vectors = 3 + draw(1, 400, 8) * torch.tensor([100.0, *[1.0] * 7])
    edited = vectors + draw(1, 400, 8, seed=1)
    distance = (edited - vectors).norm(dim=-1)
    for matched, share in ((True, 0.9), (False, 0.5)):
        moved = random_direction(vectors, edited, "a", matched) - vectors
        torch.testing.assert_close(moved.norm(dim=-1), distance, rtol=1e-3, atol=1e-3)
        along = (moved[..., 0].abs() / distance).mean().item()
        assert (along > share) == matched
    assert torch.equal(*(random_direction(vectors, edited, "a", True) for _ in range(2)))
    with pytest.raises(TraceError, match="leave matched out"):
        random_direction(vectors[:, :1], edited[:, :1], "a", True)
