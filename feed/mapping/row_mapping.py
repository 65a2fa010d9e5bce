"""What a person says of a provider's answers: where the rows are, and where in them each field is."""

from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator, model_validator

from feed.mapping.paths import path_of
from feed.mapping.times import is_time_format

CONSTANT = "="
KEY, ASKED, NOW = "{key}", "{instrument}", "{now}"


class RowMapping(BaseModel):
    """Where in an answer the rows are, and where in a row its fields are.

    rows: path to a list of rows or to a single one; empty for the answer itself. A list that holds neither lists nor
    objects is one row. by: `column` where what is there holds a list for each field, and not a row for each tick.

    A field is a path within the row (`p`, `bids[0].price`, `[4]`, or `@` for the row itself), a path from the top of
    the answer where it begins with $, a text that is always the same after =, `{key}` for the name that the row stands
    under, `{instrument}` for what was asked for, or, for the time, `{now}` for the moment of the answer.

    Prices: price; or price_open and price_close; or price_bid and price_ask, whose middle is taken, exactly.
    id: one path, or several that make an id only together.
    rising_ids: ids are whole numbers that rise per instrument, so they order ticks of one time; no other ids do.
    names: the provider's spelling of an instrument, and the name that it is picked by, where these differ.
    order: which end of an answer is the newest; auto goes by its times (see feed/mapping/order.py).
    time_format: auto, s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M:%S. zone: of times that carry none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: str = ""
    by: Literal["row", "column"] = "row"
    time: str
    instrument: str = ASKED
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
            elif text.startswith("{") and text not in (KEY, ASKED, NOW):
                raise ValueError(f"{text} is none of {KEY}, {ASKED} and {NOW}")
        return value

    @field_validator("names", mode="before")
    @classmethod
    def _are_pairs(cls, value: object) -> object:
        # Kept as pairs, since a mapping has to be hashable.
        return tuple(value.items()) if isinstance(value, dict) else value

    @field_serializer("names")
    def _as_object(self, value: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return dict(value)

    @field_validator("time_format")
    @classmethod
    def _is_a_format(cls, value: str) -> str:
        if not is_time_format(value):
            raise ValueError("is none of auto, s, ms, us, ns and iso, and no pattern such as %d/%m/%Y %H:%M:%S")
        return value

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value and value not in available_timezones():
            raise ValueError("is no time zone such as America/New_York")
        return value

    @model_validator(mode="after")
    def _says_the_price(self) -> Self:
        ways = (self.price,), (self.price_open, self.price_close), (self.price_bid, self.price_ask)
        if sum(any(way) for way in ways) != 1 or not any(all(way) for way in ways):
            raise ValueError(
                "give price, or price_open and price_close, or price_bid and price_ask, and one of these ways"
            )
        if not self.time:
            raise ValueError("give the path to the time, or {now}")
        return self
