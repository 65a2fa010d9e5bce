"""What a REST feed has to be told: where it asks, for what, how often, and what the answers mean."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from feed.connection.errors import AddressRefusedError
from feed.connection.guard import parsed
from feed.mapping.exact_json import text_of
from feed.mapping.paths import path_of
from feed.mapping.row_mapping import ASKED, RowMapping

BLANK = re.compile(r"\{([a-z_]+)\}")
KEY_BLANKS = frozenset({"key", "key_id", "key_secret"})
_SINCE = frozenset({"since_s", "since_ms", "since_ns", "since_iso", "since_utc"})
_BLANKS = frozenset({"instrument", "instruments", "cursor"}) | _SINCE
_SENT_BY_US = frozenset({"host", "accept-encoding", "connection", "content-length", "transfer-encoding"})
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_MOST_INSTRUMENTS = 1_000
_LIMITS = frozenset({"limit", "count", "size", "per_page", "perpage", "page_size", "pagesize", "max_results"})


class Settings(BaseModel):
    """What cannot be changed once it is read, and knows no other field."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pages(Settings):
    """How the rest of a long answer is asked for.

    cursor: path to what {cursor} is in the next question, or url: path to the whole address of the next page.
    stays: the newest cursor is also where the next poll goes on. newest_first: pages lead back in time; of more than
    `most` pages the older ones are missed, which is reported as a gap.
    """

    cursor: str = ""
    url: str = ""
    stays: bool = False
    newest_first: bool = False
    most: int = Field(default=20, ge=1, le=1_000)

    @model_validator(mode="after")
    def _says_how(self) -> Self:
        if bool(self.cursor) == bool(self.url):
            raise ValueError("give the path to the cursor, or to the url of the next page, one of them")
        if self.stays and not self.cursor:
            raise ValueError("only a cursor can stay")
        path_of(self.cursor or self.url)
        return self


class Catalogue(Settings):
    """The question for what instruments there are; rows as in a mapping, instrument and description: paths in a row."""

    path: str
    query: dict[str, str] = Field(default_factory=dict)
    rows: str = ""
    instrument: str
    description: str = ""

    @model_validator(mode="after")
    def _has_paths(self) -> Self:
        for path in (self.rows, self.instrument, self.description):
            path_of(path)
        _check_blanks(self.path, frozenset())
        for value in self.query.values():
            _check_blanks(value, KEY_BLANKS)
        return self


class RestFeed(Settings):
    """A provider that is asked for prices over HTTP.

    path, query, headers: may hold {instrument} (one question for each) or {instruments} (up to `per_request` in one,
    joined by `separator`), {cursor}, and since when: {since_s}, {since_ms}, {since_ns}, {since_iso} (with nanoseconds
    and Z) or {since_utc} (whole seconds, no zone). query and headers may hold {key}, or {key_id} and {key_secret} of a
    key that is stored as ID:SECRET. A parameter whose blank has no value yet is left out.
    period_s: from one poll to the next. requests_per_minute: never more than these.
    start_back_s: how far back an instrument begins that was never asked for. overlap_s: how far a poll reaches back, to
    catch what came late, where ticks have ids. hold_s: rows younger than this are left for a later poll, because they
    still change. settle_s: after so long, no earlier tick is expected, so bars of quiet instruments can close.
    page_rows: how many rows an answer holds at most, so that a full one is known to be cut off; without it, a plain
    number in the query under a name such as limit says so.
    code, said: paths to a status and its explanation within answers that have HTTP status 200 nevertheless.
    success: the values of code that mean success, as text; without them 0 and 200 to 299 do.
    answer_s, answer_mb: what an answer may take.
    """

    kind: Literal["rest"] = "rest"
    base_url: str
    path: str = ""
    query: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    instruments: tuple[str, ...] = Field(default=(), max_length=_MOST_INSTRUMENTS)
    per_request: int = Field(default=50, ge=1)
    separator: str = ","
    period_s: float = Field(default=5.0, ge=0.1, le=86_400)
    requests_per_minute: float | None = Field(default=None, gt=0)
    start_back_s: float = Field(default=60.0, ge=0)
    overlap_s: float = Field(default=2.0, ge=0, le=3_600)
    hold_s: float = Field(default=0.0, ge=0)
    settle_s: float = Field(default=5.0, ge=0)
    rows: RowMapping
    pages: Pages | None = None
    page_rows: int | None = Field(default=None, ge=1)
    code: str = ""
    said: str = ""
    success: tuple[str, ...] = ()
    catalogue: Catalogue | None = None
    answer_s: float = Field(default=10.0, gt=0, le=60)
    answer_mb: float = Field(default=8.0, gt=0, le=64)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            parts = parsed(value)
        except AddressRefusedError as error:
            raise ValueError(str(error)) from None
        if parts.scheme not in ("http", "https"):
            raise ValueError("The address of a REST API begins with https://.")
        if parts.query or parts.fragment or "{" in value:
            raise ValueError("The base URL ends before any ? or blank; these belong to path and query.")
        return value.rstrip("/")

    @field_validator("success", mode="before")
    @classmethod
    def _are_texts(cls, value: object) -> object:
        many = value if isinstance(value, list | tuple) else (value,)
        return tuple(one if isinstance(one, str) else text_of(one) or "" for one in many)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if not _HEADER.fullmatch(name) or name.lower() in _SENT_BY_US:
                raise ValueError(f'"{name}" is no header that can be set; one is called like X-Api-Key')
            if not content.isascii() or not content.isprintable():
                raise ValueError(f'the header "{name}" has characters that cannot be sent')
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_blanks(self.path, _BLANKS)
        for value in (*self.query.values(), *self.headers.values()):
            _check_blanks(value, _BLANKS | KEY_BLANKS)
        if {"instrument", "instruments"} <= self.blanks:
            raise ValueError("ask for one {instrument} or for several {instruments}, not both")
        if self.success and not self.code:
            raise ValueError("success: give the path to the code that it is about, too")
        if self.rows.instrument == ASKED and not self.one_by_one:
            raise ValueError("rows.instrument: say where the name is in a row, since no question is about just one")
        if self.pages and self.pages.cursor and "cursor" not in self.blanks:
            raise ValueError("pages.cursor: put {cursor} where it goes in path or query")
        for path in (self.code, self.said):
            path_of(path)
        return self

    @property
    def host(self) -> str:
        """Return the host that is asked."""
        return parsed(self.base_url).host

    @property
    def blanks(self) -> frozenset[str]:
        """Return the names of all blanks in a question."""
        texts = (self.path, *self.query.values(), *self.headers.values())
        return frozenset(name for text in texts for name in BLANK.findall(text))

    @property
    def one_by_one(self) -> bool:
        """Tell whether each question is about one instrument."""
        return "instrument" in self.blanks

    @property
    def needs_key(self) -> bool:
        """Tell whether a question has a blank for the key."""
        return bool(self.blanks & KEY_BLANKS)

    @property
    def full_page(self) -> int | None:
        """Return how many rows an answer holds at most, None where that is not known."""
        if self.page_rows is not None:
            return self.page_rows
        named = (text for name, text in self.query.items() if name.lower().replace("-", "_") in _LIMITS)
        return next((int(text) for text in named if text.isascii() and text.isdigit() and int(text) > 0), None)

    @property
    def asks_since(self) -> bool:
        """Tell whether a question says since when ticks are wanted."""
        return bool(self.blanks & _SINCE)


def _check_blanks(text: str, known: frozenset[str]) -> None:
    if strange := sorted(set(BLANK.findall(text)) - known):
        raise ValueError(f"there is no blank {{{strange[0]}}} here; there are {', '.join(sorted(known)) or 'none'}")
