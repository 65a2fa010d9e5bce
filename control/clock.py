"""How times of the wall clock are written."""

from datetime import UTC, datetime


def utc_text(at_ms: int) -> str:
    """Return a time as people read it, to the minute."""
    return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
