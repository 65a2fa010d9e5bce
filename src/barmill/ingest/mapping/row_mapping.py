"""The mapping that a user writes for a provider's responses: where the rows are, and how each field is written."""

import re
from decimal import Context, Decimal
from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator, model_validator

from barmill.ingest.mapping.paths import path_of
from barmill.model.time_text import is_time_format, iso_text, read_time

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_EXACT = Context(prec=1_000)


def midpoint(bid: object, ask: object) -> str | None:
    """Return the exact midpoint of bid and ask; None if one is missing, and both as text if one is not a number.

    Python's Decimal accepts more than the tick parsers, such as 1_000 or digits of other scripts; this function does
    not.
    """
    if bid is None or ask is None:
        return None
    matches = [_PLAIN_NUMBER.fullmatch(str(side).strip()) for side in (bid, ask)]
    numbers = [Decimal(side[0]) for side in matches if side]
    if len(numbers) < len(matches):
        return f"{bid} and {ask}"
    return str(_EXACT.divide(_EXACT.add(*numbers), 2))


def time_of(value: object, time_format: str = "auto", zone: str = "") -> object:
    """Return a time as nanoseconds since the epoch; an unreadable value is returned so that it becomes a reject.

    time_format, zone: as for `read_time`. A time that is ambiguous as a plain number is returned as ISO 8601 text, and
    a value that is a time but not in this format as a text that says so.
    """
    if value is None or isinstance(value, bool | list | dict):
        return value
    time_ns = read_time(value, time_format, zone)
    if time_ns is not None:
        return time_ns if read_time(time_ns) == time_ns else iso_text(time_ns)
    return value if read_time(value) is None else f"{value} does not have the format {time_format}"


CONSTANT = "="
KEY, REQUESTED, NOW = "{key}", "{instrument}", "{now}"


class RowMapping(BaseModel):
    """The location of the rows in a response, and of the fields in a row.

    rows: path to a list of rows or to a single row; empty for the response itself. A list that contains neither lists
    nor objects is one row. by: `column` if the value at that path has one list per field instead of one row per tick.

    A field is one of: a path within the row (`p`, `bids[0].price`, `[4]`, or `@` for the row itself); a path from the
    root of the response, if it begins with $; a constant text after =; `{key}` for the name under which the row is
    found; `{instrument}` for the requested instrument; or, for the time, `{now}` for this machine's time when the
    response is read.

    Prices: price; or price_open and price_close; or price_bid and price_ask, whose exact midpoint is used.
    id: one path, or several paths that form an id together.
    rising_ids: ids are whole numbers that rise per instrument, so they order ticks of the same time; other ids do not.
    names: the provider's spelling of an instrument, and the name it is selected by, where these differ.
    order: which end of a response is the newest; auto uses the times or ids (see newest_first in rows.py).
    time_format: auto, s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M:%S. zone: the zone of times without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: str = ""
    by: Literal["row", "column"] = "row"
    time: str
    instrument: str = REQUESTED
    price: str = ""
    price_open: str = ""
    price_close: str = ""
    price_bid: str = ""
    price_ask: str = ""
    volume: str = ""
    id: str | tuple[str, ...] = ""
    rising_ids: bool = False
    names: tuple[tuple[str, str], ...] = ()
    order: Literal["auto", "oldest_first", "newest_first"] = "auto"
    time_format: str = "auto"
    zone: str = ""

    @field_validator(
        "rows", "time", "instrument", "price", "price_open", "price_close", "price_bid", "price_ask", "volume", "id"
    )
    @classmethod
    def _are_paths(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            if not text.startswith((CONSTANT, "{")):
                path_of(text)
            elif text.startswith("{") and text not in (KEY, REQUESTED, NOW):
                raise ValueError(f"{text} is none of {KEY}, {REQUESTED} and {NOW}")
        return value

    @field_validator("names", mode="before")
    @classmethod
    def _are_pairs(cls, value: object) -> object:
        # Stored as pairs, because a mapping must be hashable.
        return tuple(value.items()) if isinstance(value, dict) else value

    @field_serializer("names")
    def _as_object(self, value: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return dict(value)

    @field_validator("time_format")
    @classmethod
    def _is_a_format(cls, value: str) -> str:
        if not is_time_format(value):
            raise ValueError("must be auto, s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M:%S")
        return value

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value and value not in available_timezones():
            raise ValueError("must be a time zone such as America/New_York")
        return value

    @model_validator(mode="after")
    def _has_one_price(self) -> Self:
        forms = (self.price,), (self.price_open, self.price_close), (self.price_bid, self.price_ask)
        if sum(any(form) for form in forms) != 1 or not any(all(form) for form in forms):
            raise ValueError("give exactly one of: price; price_open and price_close; price_bid and price_ask")
        if not self.time:
            raise ValueError("give the path to the time, or {now}")
        return self
