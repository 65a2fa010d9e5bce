"""Trial of a feed's settings before they are saved: one request, its response, and the resulting ticks and rejects."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson
import polars as pl

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.http import Http, HttpResponse, Limits, json_of, redact_key
from barmill.ingest.connection.reconnect import RequestError
from barmill.ingest.identity import RecentIds
from barmill.ingest.mapping.paths import MappingError
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.mapping.row_tables import InstrumentFilter, table
from barmill.ingest.mapping.rows import unmatched_fields
from barmill.ingest.providers.rest.request import (
    RequestSubject,
    build_request,
    delivered_of,
    foreign_names_text,
    page_of,
    request_text,
    row_outcomes,
)
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.model.tick import as_rejects, check
from barmill.platform.clock import NS_PER_MS, now_ms
from barmill.platform.feed_settings import DEFAULT_DUPLICATE_WINDOW_MS

TRIAL_S = 10.0
TOO_MANY = "Two other tests are running; try again in a few seconds."
NO_INSTRUMENT = "Enter at least one instrument to request."
TRIAL_MB = 2.0
RAW_CHARACTERS = 20_000
_MAX_ROWS = 1_000
_MAX_INDENTED_BYTES = 500_000
_FUTURE_MS = 5_000
# Each trial may use about 100 MB while it reads a large response, in the process that also serves all pages.
trial_slots = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Trial:
    """The result of a trial; it never contains the key.

    raw_text: the start of the response; short JSON is indented. rows: the rows extracted by the mapping, at most 1,000.
    ticks (TICK_SCHEMA), rejects (REJECT_SCHEMA): what these rows would become. duplicates: rows the feed would drop.
    held: rows it would leave for a later poll. not_selected: rows of instruments that the feed does not read; the first
    row of each name is a reject. problem: what to correct, or None. notes: further information. took_ms: duration in
    milliseconds. redacted_request: what was sent, without the key.
    """

    raw_text: str = ""
    rows: Sequence[dict[str, object]] = ()
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    rejects: pl.DataFrame = field(default_factory=pl.DataFrame)
    duplicates: int = 0
    held: int = 0
    not_selected: int = 0
    problem: str | None = None
    notes: Sequence[str] = ()
    took_ms: float = 0.0
    redacted_request: str = ""

    @property
    def outcome(self) -> str:
        """Return the counts of ticks, rejects and duplicates in one line."""
        counts = [("tick", self.ticks.height), ("reject", self.rejects.height)]
        counts += [("duplicate", self.duplicates)] if self.duplicates else []
        return ", ".join(f"{count:,} {noun}{'' if count == 1 else 's'}" for noun, count in counts) + "."


def trial(settings: RestFeed, key: str = "", guard: Guard | None = None) -> Trial:
    """Send the feed's first request once; never raise for errors of the provider or the settings.

    The trial ends within 10 s and reads at most 2 MB, even if the settings allow the feed more.
    """
    subject = _first_subject(settings)
    result = Trial(redacted_request=request_text(settings, subject))
    if not trial_slots.acquire(blocking=False):
        return replace(result, problem=TOO_MANY)
    try:
        return _send_request(settings, subject, key, guard or Guard(), result)
    finally:
        trial_slots.release()


def _send_request(settings: RestFeed, subject: RequestSubject, key: str, guard: Guard, result: Trial) -> Trial:
    if not subject.instruments and {"instrument", "instruments"} & settings.placeholders:
        return replace(result, problem=NO_INSTRUMENT)
    limits = Limits(min(settings.answer_s, TRIAL_S), int(min(settings.answer_mb, TRIAL_MB) * 2**20))
    began_s = time.monotonic()
    try:
        with Http(guard, limits) as http:
            request = build_request(settings, subject, key)
            response = http.get(request.url, request.headers, key)
    except RequestError as error:
        return replace(result, problem=str(error), took_ms=(time.monotonic() - began_s) * 1_000)
    result = replace(result, raw_text=_response_text(response, key), took_ms=response.took_ms)
    try:
        page = page_of(response, settings, subject)
    except (RequestError, MappingError) as error:
        return replace(result, problem=str(error))
    instruments = frozenset(settings.instruments)
    rows = shown_rows(page.rows, key)
    outcomes = row_outcomes(
        delivered_of(settings), InstrumentFilter(), rows, instruments, _future_ns(), _held_ns(settings, response)
    )
    result = replace(
        check_rows(result, outcomes.new, outcomes.rejects, key),
        rows=rows,
        held=outcomes.held,
        not_selected=outcomes.not_selected,
    )
    notes = [*page.notes, *notes_of(settings.rows, page.rows)]
    if outcomes.held:
        notes.append(f"{outcomes.held:,} rows are newer than {settings.hold_s:g} s and would be read in a later poll.")
    problem = foreign_names_text(outcomes.foreign, subject.instruments) if outcomes.foreign else result.problem
    return replace(result, duplicates=result.duplicates + outcomes.duplicates, notes=notes, problem=problem)


def shown_rows(rows: Sequence[Mapping[str, object]], key: str) -> list[dict[str, object]]:
    """Return the rows that the trial shows: the first 1,000, without the key."""
    return [{name: _redacted(value, key) for name, value in row.items()} for row in rows[:_MAX_ROWS]]


def notes_of(mapping: RowMapping, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return notes about the rows in addition to their outcome."""
    notes = [
        f"{name}: no row has a value at this path; correct or omit it." for name in unmatched_fields(rows, mapping)
    ]
    if len(rows) > _MAX_ROWS:
        notes.append(f"Only the first {_MAX_ROWS:,} of {len(rows):,} rows are shown.")
    if not rows:
        notes.append("The response matches the mapping, but currently has no rows.")
    return notes


def check_rows(result: Trial, rows: Sequence[Mapping[str, object]], broken_rows: pl.DataFrame, key: str) -> Trial:
    """Add the outcome of the rows in ingest's checks; broken_rows: rejects from before these checks."""
    checked = check(table(rows), _future_ns())
    ticks, duplicates = RecentIds(DEFAULT_DUPLICATE_WINDOW_MS * NS_PER_MS).split(checked.ticks)
    rejects = pl.concat([checked.rejects, as_rejects(broken_rows)]) if broken_rows.height else checked.rejects
    rejects = rejects.with_columns(pl.col(pl.String).map_elements(lambda text: redact_key(text, key), pl.String))
    problem = None
    if ticks.is_empty() and rejects.height:
        problem = f"No row would become a tick. The first would be rejected because {rejects['detail'][0]}."
    return replace(result, ticks=ticks, rejects=rejects, duplicates=duplicates.height, problem=problem)


def _future_ns() -> int:
    return (now_ms() + _FUTURE_MS) * NS_PER_MS


def _held_ns(settings: RestFeed, response: HttpResponse) -> int | None:
    """Return the time from which rows are left for a later poll, in ns by the provider's clock, or None."""
    if not settings.hold_s:
        return None
    return (now_ms() + round(response.skew_ms or 0)) * NS_PER_MS - round(settings.hold_s * 1e9)


def _first_subject(settings: RestFeed) -> RequestSubject:
    count = 1 if settings.per_instrument else settings.per_request
    since_ns = now_ms() * NS_PER_MS - round(settings.start_back_s * 1e9) if settings.has_start_time else None
    return RequestSubject(settings.instruments[:count], since_ns)


def _redacted(value: object, key: str) -> object:
    return redact_key(value, key) if isinstance(value, str) else value


def _response_text(response: HttpResponse, key: str) -> str:
    """Return the start of a response in readable form, without the key."""
    text = response.body.decode(errors="replace")
    if len(response.body) <= _MAX_INDENTED_BYTES:  # indentation may multiply the size
        # A response with a value that orjson cannot write exactly is shown as it was received.
        with suppress(RequestError, orjson.JSONEncodeError, TypeError):
            text = orjson.dumps(json_of(response), option=orjson.OPT_INDENT_2).decode()
    text = redact_key(text, key)
    return (
        text
        if len(text) <= RAW_CHARACTERS
        else f"{text[:RAW_CHARACTERS]}\n… ({len(text) - RAW_CHARACTERS:,} more characters)"
    )
