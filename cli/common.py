"""Helpers that commands share: the error that ends a command, and the conversion of durations and times."""

import re
from datetime import datetime

from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_S


class UserError(Exception):
    """An error for the user; the message says what is wrong and what to do next."""


_UNITS_MS = {"ms": 1, "s": MS_PER_S, "m": MS_PER_MINUTE, "h": MS_PER_HOUR, "d": MS_PER_DAY}


def duration_ms(text: str, option: str) -> int:
    """Return a duration such as 500ms, 30s, 5m, 1h or 2d in ms; raise UserError for other text."""
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text.strip())
    if match is None:
        raise UserError(f"{option} {text} is not a duration; write a whole number and ms, s, m, h or d, such as 5m.")
    return int(match[1]) * _UNITS_MS[match[2]]


def duration_text(length_ms: int) -> str:
    """Return a duration in the form that `duration_ms` reads, in the largest unit that divides it."""
    unit, unit_ms = next((unit, ms) for unit, ms in reversed(_UNITS_MS.items()) if length_ms % ms == 0)
    return f"{length_ms // unit_ms}{unit}"


def time_ms(text: str, option: str) -> int:
    """Return a time, given as epoch ms or as ISO 8601 with a zone, in epoch ms; raise UserError for other text."""
    if re.fullmatch(r"-?[0-9]{1,15}", text):
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{option} {text} is not a time; write it like 2026-11-23T09:30:00Z.") from error
    if parsed.tzinfo is None:
        raise UserError(f"{option} {text} has no time zone; add Z for UTC, such as {text}Z.")
    return round(parsed.timestamp() * 1_000)
