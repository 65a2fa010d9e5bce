"""Trying the settings of a feed before they are saved: one question, what came, and what would become of it."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson
import polars as pl

from bar.clock import now_ms
from feed.connection.answer import Answer, json_of
from feed.connection.errors import QuestionError
from feed.connection.guard import Guard
from feed.connection.http import Http, Limits, redacted
from feed.duplicates import RecentIds
from feed.intake import DEFAULT_DUPLICATE_WINDOW_MS
from feed.mapping.errors import MappingError
from feed.mapping.picked import Picked
from feed.mapping.row_mapping import RowMapping
from feed.mapping.rows import unfilled
from feed.mapping.table import table
from feed.providers.rest.account import account, delivered_of, foreign_names
from feed.providers.rest.answers import page_of
from feed.providers.rest.question import Asking, question, question_shown
from feed.providers.rest.settings import RestFeed
from feed.tick import as_rejects, check

TRIAL_S = 10.0
TOO_MANY = "Two other trials are under way; try again in some seconds."
NO_INSTRUMENT = "Type in at least one instrument, for the trial to ask for."
TRIAL_MB = 2.0
RAW_CHARACTERS = 20_000
_MOST_ROWS = 1_000
_MOST_INDENTED_BYTES = 500_000
_FUTURE_MS = 5_000
_NS_PER_MS = 1_000_000
# Each may hold some 100 MB while it reads a large answer, in the process that also serves all pages.
few_at_once = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Trial:
    """What a trial found; nothing in it holds the key.

    raw_text: the beginning of the answer, indented where it is JSON. rows: what the mapping made of it, at most 1,000.
    ticks, rejects: what would become of these rows. repeats, held: rows that the feed would take for known ones, or
    leave for a later poll. unpicked: rows of instruments that it does not read, which are rejects once for each name.
    problem: what to correct, or None. notes: what to know besides. request_shown_without_key: what was sent.
    """

    raw_text: str = ""
    rows: Sequence[dict[str, object]] = ()
    ticks: pl.DataFrame = field(default_factory=pl.DataFrame)
    rejects: pl.DataFrame = field(default_factory=pl.DataFrame)
    repeats: int = 0
    held: int = 0
    unpicked: int = 0
    problem: str | None = None
    notes: Sequence[str] = ()
    took_ms: float = 0.0
    request_shown_without_key: str = ""

    @property
    def outcome(self) -> str:
        """Say how much of it would be taken."""
        counts = [("tick", self.ticks.height), ("reject", self.rejects.height)]
        counts += [("repeat", self.repeats)] if self.repeats else []
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
        page = page_of(answer, settings, asking, key)
    except (QuestionError, MappingError) as error:
        return replace(found, problem=str(error))
    wanted = frozenset(settings.instruments)
    shown = shown_rows(page.rows, key)
    taken = account(delivered_of(settings), Picked(), shown, wanted, _future_ns(), _held_ns(settings, answer))
    found = replace(judged(found, taken.new, taken.refused, key), rows=shown, held=taken.held, unpicked=taken.unpicked)
    notes = [*page.notes, *notes_of(settings.rows, page.rows)]
    if taken.held:
        notes.append(f"{taken.held:,} rows are younger than {settings.hold_s:g} s and would come with a later poll.")
    problem = foreign_names(taken.foreign, asking.instruments) if taken.foreign else found.problem
    return replace(found, repeats=found.repeats + taken.repeats, notes=notes, problem=problem)


def shown_rows(rows: Sequence[Mapping[str, object]], key: str) -> list[dict[str, object]]:
    """Return the rows that a trial is about: the first 1,000, without the key."""
    return [{name: _without(value, key) for name, value in row.items()} for row in rows[:_MOST_ROWS]]


def notes_of(mapping: RowMapping, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return what to know of rows besides what becomes of them."""
    notes = [f"{name}: no row has a value there; correct the path or leave it out." for name in unfilled(rows, mapping)]
    if len(rows) > _MOST_ROWS:
        notes.append(f"These are the first {_MOST_ROWS:,} of {len(rows):,} rows.")
    if not rows:
        notes.append("The answer fits, but has no rows at present.")
    return notes


def judged(found: Trial, rows: Sequence[Mapping[str, object]], refused: pl.DataFrame, key: str) -> Trial:
    """Add what would become of rows at the door of the tick log; refused: what was refused before."""
    checked = check(table(rows), _future_ns())
    ticks, repeats = RecentIds(DEFAULT_DUPLICATE_WINDOW_MS * _NS_PER_MS).split(checked.ticks)
    rejects = pl.concat([checked.rejects, as_rejects(refused)]) if refused.height else checked.rejects
    rejects = rejects.with_columns(pl.col(pl.String).map_elements(lambda detail: redacted(detail, key), pl.String))
    problem = None
    if ticks.is_empty() and rejects.height:
        problem = f"No row would become a tick. The first would be refused because {rejects['detail'][0]}."
    return replace(found, ticks=ticks, rejects=rejects, repeats=repeats.height, problem=problem)


def _future_ns() -> int:
    return (now_ms() + _FUTURE_MS) * _NS_PER_MS


def _held_ns(settings: RestFeed, answer: Answer) -> int | None:
    """Return from when on rows are left for a later poll, by the provider's clock as this answer tells it."""
    if not settings.hold_s:
        return None
    return (now_ms() + round(answer.skew_ms or 0)) * _NS_PER_MS - round(settings.hold_s * 1e9)


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
        # What orjson would round is shown as it came.
        with suppress(QuestionError, orjson.JSONEncodeError, TypeError):
            text = orjson.dumps(json_of(answer), option=orjson.OPT_INDENT_2).decode()
    text = redacted(text, key)
    return (
        text
        if len(text) <= RAW_CHARACTERS
        else f"{text[:RAW_CHARACTERS]}\n… ({len(text) - RAW_CHARACTERS:,} more characters)"
    )
