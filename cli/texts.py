"""Texts people write on the command line: durations and points in time."""

import re
from datetime import datetime

from cli.errors import UserError

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str, option: str) -> int:
    """Read a duration such as 500ms, 30s, 5m, 1h or 2d."""
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text.strip())
    if match is None:
        raise UserError(f"{option} {text} is not a duration; write a whole number and ms, s, m, h or d, such as 5m.")
    return int(match[1]) * _UNITS_MS[match[2]]


def duration_text(length_ms: int) -> str:
    """Write a duration as `duration_ms` reads it, in the largest unit that divides it."""
    unit, unit_ms = next((unit, ms) for unit, ms in reversed(_UNITS_MS.items()) if length_ms % ms == 0)
    return f"{length_ms // unit_ms}{unit}"


def time_ms(text: str, option: str) -> int:
    """Read a point in time: epoch milliseconds, or ISO 8601 with a zone."""
    if re.fullmatch(r"-?[0-9]{1,15}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{option} {text} is not a time; write it like 2026-11-23T09:30:00Z.") from error
    if at.tzinfo is None:
        raise UserError(f"{option} {text} has no time zone; add Z for UTC, such as {text}Z.")
    return round(at.timestamp() * 1_000)
