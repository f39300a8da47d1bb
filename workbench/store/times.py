"""How times are told."""

from __future__ import annotations

from datetime import UTC, datetime


def told(created: str) -> str:
    """A time in ISO 8601 as people read it, in whole seconds and with its zone: ``"2024-01-31 08:15:00 UTC"``.

    Times without a zone are in UTC, and what is no time is returned as it is.
    """
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return f"{aware.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
