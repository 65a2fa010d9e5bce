"""Trying the settings of a feed before they are saved: one question, what came, and what would become of it."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson
import polars as pl

from bar.clock import now_ms
from feed.connection.answer import Answer, json_of
from feed.connection.errors import QuestionError
from feed.connection.guard import Guard
from feed.connection.http import Http, Limits, redacted
from feed.mapping.errors import MappingError
from feed.mapping.row_mapping import RowMapping
from feed.mapping.rows import unfilled
from feed.mapping.table import table
from feed.providers.rest.answers import page_of
from feed.providers.rest.question import Asking, question, question_shown
from feed.providers.rest.settings import RestFeed
from feed.tick import check

TRIAL_S = 10.0
TOO_MANY = "Two other trials are under way; try again in some seconds."
NO_INSTRUMENT = "Type in at least one instrument, for the trial to ask for."
TRIAL_MB = 2.0
RAW_CHARACTERS = 20_000
_MOST_ROWS = 1_000
_MOST_INDENTED_BYTES = 500_000
_FUTURE_MS = 5_000
# Each may hold some 100 MB while it reads a large answer, in the process that also serves all pages.
few_at_once = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Trial:
    """What a trial found; nothing in it holds the key.

    raw_text: the beginning of the answer, indented where it is JSON. rows: what the mapping made of it, at most 1,000.
    ticks, rejects: what would become of these rows. problem: what to mend, or None. notes: what to know besides.
    request_shown_without_key: what was sent.
    """

    raw_text: str = ""
    rows: Sequence[dict[str, object]] = ()
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    rejects: pl.DataFrame = field(default_factory=pl.DataFrame)
    problem: str | None = None
    notes: Sequence[str] = ()
    took_ms: float = 0.0
    request_shown_without_key: str = ""

    @property
    def outcome(self) -> str:
        """Say how much of it would be taken."""
        counts = (("tick", self.ticks.height), ("reject", self.rejects.height))
        return ", ".join(f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in counts) + "."


def trial(settings: RestFeed, key: str = "", guard: Guard | None = None) -> Trial:
    """Ask one question, as the first one of the feed would be; never raise for what the provider or the settings do.

    It ends within 10 s and reads at most 2 MB, whatever the settings allow the feed itself.
    """
    asking = _first_asking(settings)
    found = Trial(request_shown_without_key=question_shown(settings, asking))
    if not few_at_once.acquire(blocking=False):
        return replace(found, problem=TOO_MANY)
    try:
        return _asked(settings, asking, key, guard or Guard(), found)
    finally:
        few_at_once.release()


def _asked(settings: RestFeed, asking: Asking, key: str, guard: Guard, found: Trial) -> Trial:
    if not asking.instruments and {"instrument", "instruments"} & settings.blanks:
        return replace(found, problem=NO_INSTRUMENT)
    limits = Limits(min(settings.answer_s, TRIAL_S), int(min(settings.answer_mb, TRIAL_MB) * 2**20))
    began_s = time.monotonic()
    try:
        with Http(guard, limits) as http:
            sent = question(settings, asking, key)
            answer = http.get(sent.url, sent.headers, key)
    except QuestionError as error:
        return replace(found, problem=str(error), took_ms=(time.monotonic() - began_s) * 1_000)
    found = replace(found, raw_text=_shown(answer, key), took_ms=answer.took_ms)
    try:
        rows = page_of(answer, settings, asking, key).rows
    except (QuestionError, MappingError) as error:
        return replace(found, problem=str(error))
    return judged(settings.rows, found, [dict(row) for row in rows], key)


def judged(mapping: RowMapping, found: Trial, rows: list[dict[str, object]], key: str) -> Trial:
    """Add what would become of the rows that a mapping made."""
    shown = [{name: _without(value, key) for name, value in row.items()} for row in rows[:_MOST_ROWS]]
    checked = check(table(shown), (now_ms() + _FUTURE_MS) * 1_000_000)
    notes = [f"{name}: no row has a value there; correct the path or leave it out." for name in unfilled(rows, mapping)]
    if len(rows) > len(shown):
        notes.append(f"These are the first {len(shown):,} of {len(rows):,} rows.")
    if not rows:
        notes.append("The answer fits, but has no rows at present.")
    problem = None
    if rows and checked.ticks.is_empty():
        first = checked.rejects.row(0, named=True)
        problem = redacted(f"No row would become a tick. The first would be refused because {first['detail']}.", key)
    return replace(found, rows=shown, ticks=checked.ticks, rejects=checked.rejects, problem=problem, notes=notes)


def _first_asking(settings: RestFeed) -> Asking:
    most = 1 if settings.one_by_one else settings.per_request
    since_ns = now_ms() * 1_000_000 - round(settings.start_back_s * 1e9) if settings.asks_since else None
    return Asking(settings.instruments[:most], since_ns)


def _without(value: object, key: str) -> object:
    return redacted(value, key) if isinstance(value, str) else value


def _shown(answer: Answer, key: str) -> str:
    """Return the beginning of an answer as people read it, without the key."""
    text = answer.body.decode(errors="replace")
    if len(answer.body) <= _MOST_INDENTED_BYTES:  # indenting may multiply the size
        with suppress(QuestionError, orjson.JSONEncodeError):
            text = orjson.dumps(json_of(answer), option=orjson.OPT_INDENT_2).decode()
    text = redacted(text, key)
    return (
        text
        if len(text) <= RAW_CHARACTERS
        else f"{text[:RAW_CHARACTERS]}\n… ({len(text) - RAW_CHARACTERS:,} more characters)"
    )
