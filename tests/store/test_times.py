from __future__ import annotations

import pytest

from workbench.store.times import told


@pytest.mark.parametrize(
    ("created", "says"),
    [
        ("2024-01-31T08:15:00+00:00", "2024-01-31 08:15:00 UTC"),
        ("2024-01-31T08:15:00.123456+00:00", "2024-01-31 08:15:00 UTC"),
        ("2024-01-31T23:15:00-05:30", "2024-02-01 04:45:00 UTC"),
        ("2024-01-31T08:15:00", "2024-01-31 08:15:00 UTC"),
        ("", ""),
        ("yesterday", "yesterday"),
    ],
)
def test_a_time_is_told_with_its_zone(created: str, says: str) -> None:
    assert told(created) == says
