"""The settings of a REST feed: its address, its requests and their frequency, and the meaning of the responses."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from barmill.ingest.connection.guard import parse_url
from barmill.ingest.connection.reconnect import AddressRefusedError
from barmill.ingest.mapping.paths import path_of
from barmill.ingest.mapping.row_mapping import REQUESTED, RowMapping
from barmill.platform.exact_json import text_of

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
KEY_PLACEHOLDERS = frozenset({"key", "key_id", "key_secret"})
_SINCE = frozenset({"since_s", "since_ms", "since_ns", "since_iso", "since_utc"})
_PLACEHOLDERS = frozenset({"instrument", "instruments", "cursor"}) | _SINCE
_OWN_HEADERS = frozenset({"host", "accept-encoding", "connection", "content-length", "transfer-encoding"})
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_MAX_INSTRUMENTS = 1_000
_LIMIT_PARAMETERS = frozenset({"limit", "count", "size", "per_page", "perpage", "page_size", "pagesize", "max_results"})


class Settings(BaseModel):
    """A base model that is immutable and rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pages(Settings):
    """The settings for requests of the rest of a long response.

    cursor: path to the value of {cursor} in the next request, or url: path to the URL of the next page. stays: the next
    poll also continues from the newest cursor. newest_first: pages lead back in time; pages beyond the first `most`
    are not read, which is reported as a gap.
    """

    cursor: str = ""
    url: str = ""
    stays: bool = False
    newest_first: bool = False
    most: int = Field(default=20, ge=1, le=1_000)

    @model_validator(mode="after")
    def _has_one_path(self) -> Self:
        if bool(self.cursor) == bool(self.url):
            raise ValueError("give the path to either the cursor or the url of the next page")
        if self.stays and not self.cursor:
            raise ValueError("stays is only possible with a cursor")
        path_of(self.cursor or self.url)
        return self


class Catalogue(Settings):
    """The request for the list of instruments.

    rows: path to the list, as in a mapping; instrument and description: paths within a row.
    """

    path: str
    query: dict[str, str] = Field(default_factory=dict)
    rows: str = ""
    instrument: str
    description: str = ""

    @model_validator(mode="after")
    def _has_paths(self) -> Self:
        for path in (self.rows, self.instrument, self.description):
            path_of(path)
        _check_placeholders(self.path, frozenset())
        for value in self.query.values():
            _check_placeholders(value, KEY_PLACEHOLDERS)
        return self


class RestFeed(Settings):
    """A provider that is polled for prices over HTTP.

    path, query, headers: may contain {instrument} (one request each) or {instruments} (up to `per_request` in one
    request, joined by `separator`), {cursor}, and the start time: {since_s}, {since_ms}, {since_ns}, {since_iso} (with
    nanoseconds and Z) or {since_utc} (whole seconds, no zone). query and headers may contain {key}, or {key_id} and
    {key_secret} of a key that is stored as ID:SECRET. A parameter whose placeholder has no value yet is omitted.
    period_s: the time between polls. requests_per_minute: upper limit of the request rate.
    start_back_s: how far back the first request of an instrument reaches. overlap_s: how far each poll reaches back, to
    catch late ticks, if ticks have ids. hold_s: rows younger than this are left for a later poll, because they may
    still change. settle_s: after this time no earlier tick is expected, so bars of quiet instruments can close.
    page_rows: the maximum number of rows in a response, so that a full response is known to be truncated; without it, a
    plain number in the query under a name such as limit is used.
    code, said: paths to a status and its explanation within responses that have HTTP status 200 despite an error.
    success: the values of code that mean success, as text; by default 0 and 200 to 299.
    answer_s, answer_mb: time limit in seconds and size limit in MB of a response.
    """

    kind: Literal["rest"] = "rest"
    base_url: str
    path: str = ""
    query: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    instruments: tuple[str, ...] = Field(default=(), max_length=_MAX_INSTRUMENTS)
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
            parts = parse_url(value)
        except AddressRefusedError as error:
            raise ValueError(str(error)) from None
        if parts.scheme not in ("http", "https"):
            raise ValueError("The address of a REST API must begin with https://.")
        if parts.query or parts.fragment or "{" in value:
            raise ValueError("The base URL may not contain ?, # or {; write parameters in query.")
        return value.rstrip("/")

    @field_validator("success", mode="before")
    @classmethod
    def _are_texts(cls, value: object) -> object:
        values = value if isinstance(value, list | tuple) else (value,)
        return tuple(item if isinstance(item, str) else text_of(item) or "" for item in values)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise ValueError(f'"{name}" is not a header that can be set; header names look like X-Api-Key')
            if not content.isascii() or not content.isprintable():
                raise ValueError(f'the header "{name}" contains characters that cannot be sent')
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_placeholders(self.path, _PLACEHOLDERS)
        for value in (*self.query.values(), *self.headers.values()):
            _check_placeholders(value, _PLACEHOLDERS | KEY_PLACEHOLDERS)
        if {"instrument", "instruments"} <= self.placeholders:
            raise ValueError("use {instrument} for one or {instruments} for several per request, not both")
        if self.success and not self.code:
            raise ValueError("success: also give the path to the code")
        if self.rows.instrument == REQUESTED and not self.per_instrument:
            raise ValueError(
                "rows.instrument: give the path to the name in a row, because a request has several instruments"
            )
        if self.pages and self.pages.cursor and "cursor" not in self.placeholders:
            raise ValueError("pages.cursor: use {cursor} in path or query")
        for path in (self.code, self.said):
            path_of(path)
        return self

    @property
    def host(self) -> str:
        """Return the provider's host."""
        return parse_url(self.base_url).host

    @property
    def placeholders(self) -> frozenset[str]:
        """Return the names of all placeholders in a request."""
        texts = (self.path, *self.query.values(), *self.headers.values())
        return frozenset(name for text in texts for name in PLACEHOLDER.findall(text))

    @property
    def per_instrument(self) -> bool:
        """Return whether each request is about one instrument."""
        return "instrument" in self.placeholders

    @property
    def needs_key(self) -> bool:
        """Return whether a request has a placeholder for the key."""
        return bool(self.placeholders & KEY_PLACEHOLDERS)

    @property
    def full_page(self) -> int | None:
        """Return the maximum number of rows in a response, or None if unknown."""
        if self.page_rows is not None:
            return self.page_rows
        named = (text for name, text in self.query.items() if name.lower().replace("-", "_") in _LIMIT_PARAMETERS)
        return next((int(text) for text in named if text.isascii() and text.isdigit() and int(text) > 0), None)

    @property
    def has_start_time(self) -> bool:
        """Return whether a request states the time from which to send ticks."""
        return bool(self.placeholders & _SINCE)


def _check_placeholders(text: str, allowed: frozenset[str]) -> None:
    if unknown := sorted(set(PLACEHOLDER.findall(text)) - allowed):
        raise ValueError(
            f"{{{unknown[0]}}} is not a placeholder here; available: {', '.join(sorted(allowed)) or 'none'}"
        )
