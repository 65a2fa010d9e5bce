"""Messages and addresses with their blanks filled in.

Only the blanks named here are filled, and what is filled in is never looked through for blanks itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, urlencode, urlsplit

from pydantic import JsonValue

from feed.connection.lanes import Ask
from feed.providers.websocket.settings import Backfill, KeyPlace, Template

_BLANK = re.compile(r"\{([a-z_]+)\}")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]")
_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000

Blanks = Mapping[str, str | int | None]


def names_of(instrument: str) -> dict[str, str | int | None]:
    """Return the spellings of an instrument that a template may ask for."""
    return {
        "instrument": instrument,
        "instrument_lower": instrument.lower(),
        "instrument_plain": _NOT_PLAIN.sub("", instrument),
    }


def messages(
    templates: Iterable[Template], instruments: Sequence[str], per_message: int, key: str, first_number: int
) -> Iterator[JsonValue]:
    """Yield the messages for these instruments, `per_message` in each, numbered from `first_number` on."""
    number = first_number
    for start in range(0, len(instruments), per_message):
        part = instruments[start : start + per_message]
        for template in templates:
            yield _filled(template, part, {"key": key, "number": number})
            number += 1


def message(template: Template, key: str, number: int) -> JsonValue:
    """Return a message that names no instrument."""
    return _filled(template, [], {"key": key, "number": number})


def with_key(url: str, place: KeyPlace | None, key: str) -> str:
    """Return the address with the key where it belongs, if it belongs there."""
    if place is None or place.where != "query" or not key:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({place.name: place.prefix + key})}"


def headers_with_key(place: KeyPlace | None, key: str) -> dict[str, str]:
    """Return the headers that carry the key, if headers do."""
    return {place.name: place.prefix + key} if place is not None and place.where == "header" and key else {}


def question(backfill: Backfill, ask: Ask) -> str:
    """Return the address to fetch a page of an instrument from; what is not known of the page is left out."""
    from_ns = ask.from_ns
    blanks: Blanks = {
        **names_of(ask.instrument),
        "from_id": ask.from_id,
        "to_id": ask.to_id,
        "before_id": None if ask.to_id is None else ask.to_id + 1,
        "from_ns": from_ns,
        "from_ms": None if from_ns is None else from_ns // _NS_PER_MS,
        "from_s": None if from_ns is None else from_ns // _NS_PER_S,
        "limit": backfill.page,
    }
    path = {name: quote(str(value), safe="") for name, value in blanks.items() if value is not None}
    parameters = {
        name: _text(value, blanks)
        for name, value in backfill.parameters.items()
        if all(blanks.get(blank, "") is not None for blank in _BLANK.findall(value))
    }
    return _text(backfill.url, path) + (f"?{urlencode(parameters)}" if parameters else "")


def _filled(value: JsonValue, instruments: Sequence[str], blanks: Blanks) -> JsonValue:
    if isinstance(value, dict):
        return {name: _filled(part, instruments, blanks) for name, part in value.items()}
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], str) and "{instrument" in value[0]:
            return [_text(value[0], {**blanks, **names_of(one)}) for one in instruments]
        return [_filled(part, instruments, blanks) for part in value]
    if not isinstance(value, str):
        return value
    if value == "{number}":
        return blanks["number"]
    return _text(value, {**blanks, **(names_of(instruments[0]) if instruments else {})})


def _text(template: str, blanks: Blanks) -> str:
    return _BLANK.sub(lambda found: str(blanks.get(found[1], found[0])), template)
