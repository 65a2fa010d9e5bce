"""Ids of ticks: of several parts, and as numbers where the way in needs these."""

from hashlib import blake2b

_HIGHEST = 2**63 - 1


def numbered(text: str) -> int:
    """Return a number from 0 up, of 63 bits, that stands for this text: always the same, and hardly ever for two."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & _HIGHEST


def id_of(value: object) -> int | None:
    """Return a provider's id as a number: whole numbers as they are, other texts by `numbered`, None for none."""
    if value is None:
        return None
    if type(value) is int and abs(value) <= _HIGHEST:
        return value
    text = str(value).strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() else None
    return number if number is not None and number <= _HIGHEST else numbered(text)


def escaped(part: str) -> str:
    """Return a part of an id as it is joined with others by `/`, so that different parts never make the same id."""
    return part.replace("\\", "\\\\").replace("/", "\\/")
