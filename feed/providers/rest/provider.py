"""The provider `rest`: prices of any HTTP API, asked for again and again, each tick delivered once."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bar.clock import now_ms
from feed.connection.doubts import Doubts, span
from feed.connection.errors import AddressRefusedError, KeyRefusedError, QuestionError
from feed.connection.guard import Guard
from feed.connection.http import Http, Limits
from feed.connection.reconnect import Attempts, Patience
from feed.connection.reporting import Reporting
from feed.connection.skew import Skew
from feed.connection.staleness import Staleness
from feed.connection.state import ConnectionState, Phase, Report
from feed.mapping.errors import MappingError
from feed.mapping.picked import Picked
from feed.mapping.row_mapping import ASKED, KEY
from feed.mapping.table import table, times_ns
from feed.provider import Batch, Listed, ProviderError
from feed.providers.rest.account import Account, account, delivered_of, foreign_names
from feed.providers.rest.answers import Page, ask, listed
from feed.providers.rest.delivered import Delivered, RawRow
from feed.providers.rest.errors import RestMappingError, RestRefusedError
from feed.providers.rest.joining import Break, Joining
from feed.providers.rest.question import Asking
from feed.providers.rest.settings import RestFeed

logger = logging.getLogger(__name__)

Wanted = Callable[[], frozenset[str] | None]

_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000
_LOOK_EVERY_S = 0.5
# Far more than one poll should ever need: the end of a provider that names a next page for ever.
_MOST_PAGES = 1_000
_COMPLAINTS_SHOWN = 3
# Rows from further ahead are rejects at the door.
_FUTURE_NS = 5 * _NS_PER_S


class RestProvider:
    """A provider's prices as they can be had by asking. One thread reads; the catalogue may be asked for by another.

    key_of is asked for the key when a connection is made, and not at each poll, since every use is put on record; the
    key is held until something fails, and then asked for anew. wanted is asked again and again.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: RestFeed,
        key_of: Callable[[], str] | None,
        wanted: Wanted,
        report: Report,
        *,
        guard: Guard | None = None,
        patience: Patience | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._wanted = settings, key_of, wanted
        self._guard, self._clock_ms = guard or Guard(), clock_ms
        self._attempts = Attempts(patience or Patience())
        self._reporting = Reporting(report, clock_ms)
        self._skew, self._staleness = Skew(), Staleness()
        self._heard_ms: int | None = None
        self._connects, self._connected = 0, False
        self._doubts = Doubts(clock_ms)
        self._problems: dict[str, QuestionError | MappingError] = {}
        self._picked, self._fitted, self._given_way = Picked(), False, False
        by_path = settings.rows.instrument not in (KEY, ASKED) and settings.rows.by == "row"
        self._mixed = by_path and not settings.one_by_one
        self._names_instruments = bool({"instrument", "instruments"} & settings.blanks)
        self._key_in_use: str | None = None
        self._next_question_s = 0.0
        self._settled_ms = 0

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield what is new after `cursor` until `stop` is set.

        What resolves itself is waited for. Raise RestRefusedError where the key or the address is refused,
        RestMappingError where nothing fits the mapping; whatever key_of raises passes through.
        """
        delivered = delivered_of(self._settings, cursor)
        known: frozenset[str] | None = None
        with self._http() as http:
            while not stop.is_set():
                wanted = self._instruments()
                for name in wanted - known if known is not None else ():
                    delivered.skip_until(name, self._provider_ms() * _NS_PER_MS)
                if wanted != known:
                    known, self._problems = wanted, {}
                self._staleness.expect(wanted, self._clock_ms())
                began_s = time.monotonic()
                if groups := self._groups(wanted):
                    yield from self._poll(http, delivered, groups, wanted, stop)
                else:
                    self._tell(Phase.IDLE, "No instrument is picked, so nothing is asked for.")
                self._rest(began_s + self._settings.period_s, wanted, stop)

    def catalogue(self) -> Sequence[Listed] | None:
        """Return what the provider lists, or None where the settings name no question for it."""
        if self._settings.catalogue is None:
            return None
        with self._http() as http:
            try:
                return listed(http, self._settings, self._new_key())
            except (QuestionError, MappingError) as error:
                raise ProviderError(str(error)) from None

    def _http(self) -> Http:
        limits = Limits(self._settings.answer_s, int(self._settings.answer_mb * 2**20))
        return Http(self._guard, limits)

    def _key(self) -> str:
        if self._key_in_use is None:
            self._key_in_use = self._new_key()
        return self._key_in_use

    def _new_key(self) -> str:
        return self._key_of() if self._key_of and self._settings.needs_key else ""

    def _instruments(self) -> frozenset[str]:
        wanted = self._wanted()
        return frozenset(self._settings.instruments) if wanted is None else wanted

    def _groups(self, wanted: frozenset[str]) -> list[Sequence[str]]:
        """Return what each question is about."""
        names = sorted(wanted)
        if self._settings.one_by_one:
            return [[name] for name in names]
        if "instruments" in self._settings.blanks:
            size = self._settings.per_request
            return [names[start : start + size] for start in range(0, len(names), size)]
        return [names] if names or self._wanted() is None else []

    def _poll(
        self,
        http: Http,
        delivered: Delivered,
        groups: Sequence[Sequence[str]],
        wanted: frozenset[str],
        stop: threading.Event,
    ) -> Iterator[Batch]:
        """Ask each question once, with all its pages, and say with the last batch up to when all was delivered."""
        began_ms, whole = self._clock_ms(), True
        for group in groups:
            self._problems.pop(_name(group), None)
            joining = Joining(delivered.marks, mixed=self._mixed)
            must_join, lost = not self._continues(delivered, group), False
            try:
                for rows, all_there in self._pages(http, delivered, group, stop):
                    joining.look(rows, self._clock_ms() * _NS_PER_MS + _FUTURE_NS)
                    must_join, lost = must_join or all_there is None, lost or all_there is False
                    if self._instruments() != wanted:
                        return  # what was just read goes unused, and is asked for again for the right instruments
                    taken = self._account(delivered, rows, wanted)
                    if taken.new or taken.refused.height:
                        rising = self._settings.rows.rising_ids
                        yield Batch(table(taken.new), delivered.cursor(), broken=taken.refused, rising_ids=rising)
                    if taken.foreign and (self._names_instruments or not delivered.knows(wanted)):
                        raise QuestionError(foreign_names(taken.foreign, group))
                    self._receiving()
            except (QuestionError, MappingError) as problem:
                self._problems[_name(group)] = problem
            else:
                whole &= not self._gaps_found(joining.breaks() if must_join else [], group if lost else ())
            if stop.is_set():
                return
        if len(self._problems) == len(groups):
            self._give_way(next(iter(self._problems.values())), stop)
        elif whole and not self._problems:
            yield Batch(table([]), delivered.cursor(), complete_to_ms=self._settled(began_ms))

    def _continues(self, delivered: Delivered, group: Sequence[str]) -> bool:
        """Tell whether a question itself says where the last one ended, so that its answer begins there."""
        return self._settings.asks_since or _name(group) in delivered.pages

    def _gaps_found(self, breaks: Sequence[Break], cut: Sequence[str]) -> bool:
        """Count the gaps of a question: what does not join the last poll, and what was cut off; tell whether any is."""
        for one in breaks:
            self._doubts.note(
                one.instrument,
                f"Rows of {one.instrument} may be missing {span(one.from_ns, one.to_ns)}: the answer does not reach"
                " back to the last one; ask more often, for more rows, or for those since the last.",
            )
        if cut:
            self._doubts.note(
                _name(cut),
                f"Rows of {_name(cut)} may be missing: there are more than were read at once; ask more often or for"
                " more rows.",
            )
        if breaks or cut:
            self._receiving()
        return bool(breaks or cut)

    def _settled(self, asked_ms: int) -> int:
        """Return up to when, by the provider's clock, no tick is expected any more after a poll that began then."""
        settle_ms = round(1_000 * (self._settings.settle_s + self._settings.hold_s))
        # What is known of the provider's clock gets better, but what was said stays said.
        self._settled_ms = max(self._settled_ms, asked_ms + round(self._skew.ms or 0) - settle_ms)
        return self._settled_ms

    def _pages(
        self, http: Http, delivered: Delivered, group: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[Sequence[RawRow], bool | None]]:
        """Yield the rows of one question page by page, all at once if they lead back.

        With them comes whether these are all there are, None where that is so only if they join the last poll. A full
        page of a question since a time is followed by one since its newest row, as long as that is later.
        """
        settings, pages = self._settings, self._settings.pages
        start_ns = self._provider_ms() * _NS_PER_MS - round(settings.start_back_s * _NS_PER_S)
        name = _name(group)
        since_ns = delivered.since_ns(group, start_ns) if settings.asks_since else None
        asking = Asking(group, since_ns, delivered.pages.get(name))
        back: list[RawRow] = []
        for count in range(1, _MOST_PAGES + 1):
            page = self._patiently(http, asking, stop)
            if page is None:
                return
            following = page.following
            if pages is None or not pages.newest_first:
                whole: bool | None = following is None or count < _MOST_PAGES
                if self._is_cut(page):
                    delivered.oldest_first(page.rows)  # which takes note of the order, also of a first answer
                    following = self._since_newest(delivered, asking, page.rows)
                    whole = following is not None and count < _MOST_PAGES
                    if delivered.newest_first:
                        whole = None if delivered.knows(group) else delivered.reaches(page.rows, start_ns)
                yield page.rows, whole
                if pages and pages.stays and following and following.cursor:
                    delivered.pages[name] = following.cursor
                if following is None or not page.rows:
                    return
                asking = following
                continue
            back = delivered.oldest_first(page.rows) + back
            reached = following is None or delivered.reaches(page.rows, start_ns)
            if following is None or reached or count >= pages.most:
                yield back, reached
                return
            asking = following

    def _is_cut(self, page: Page) -> bool:
        """Tell whether a question since a time was answered with as many rows as an answer holds."""
        settings = self._settings
        full = settings.full_page is not None and len(page.rows) >= settings.full_page
        return full and settings.pages is None and settings.asks_since

    def _since_newest(self, delivered: Delivered, asking: Asking, rows: Sequence[RawRow]) -> Asking | None:
        """Return the question for what follows a full page, None where it cannot be asked for."""
        if asking.since_ns is None or delivered.newest_first:
            return None
        newest_ns = max((at_ns for at_ns in times_ns(row.get("time") for row in rows) if at_ns is not None), default=0)
        return replace(asking, since_ns=newest_ns) if newest_ns > asking.since_ns else None

    def _patiently(self, http: Http, asking: Asking, stop: threading.Event) -> Page | None:
        """Ask until there is an answer, waiting as the provider wants; return None when told to stop."""
        while not stop.wait(max(0.0, self._next_question_s - time.monotonic())):
            if self._settings.requests_per_minute:
                self._next_question_s = time.monotonic() + 60 / self._settings.requests_per_minute
            fresh = self._key_in_use is None
            try:
                if not self._connected:
                    self._tell(Phase.CONNECTING, "The first answer is awaited.")
                page = ask(http, self._settings, asking, self._key())
            except (KeyRefusedError, AddressRefusedError) as error:
                if not fresh:
                    self._key_in_use = None  # it may have been replaced meanwhile
                    continue
                self._tell(Phase.REFUSED, str(error))
                raise RestRefusedError(str(error)) from None
            except QuestionError as error:
                if not error.passes:
                    self._heard()
                    raise
                self._wait(error, stop)
            except MappingError:
                self._heard()
                raise
            else:
                self._heard(page)
                return page
        return None

    def _wait(self, error: QuestionError, stop: threading.Event) -> None:
        """Wait out what resolves itself, saying until when."""
        self._connected, self._key_in_use = False, None
        pause = self._attempts.failed(error)
        retry_ms = self._clock_ms() + round(1_000 * pause.seconds)
        self._tell(pause.phase, f"{error} It is asked again in {pause.seconds:.0f} s.", retry_ms)
        logger.warning("%s: %s Asking again in %.1f s.", self.name, error, pause.seconds)
        stop.wait(pause.seconds)

    def _give_way(self, problem: Exception, stop: threading.Event) -> None:
        """Do what there is to do when no question of a poll had a usable answer."""
        if isinstance(problem, MappingError) and not self._fitted:
            self._tell(Phase.BROKEN, str(problem))
            raise RestMappingError(str(problem)) from None
        self._given_way = True  # until an answer is of use; one that merely comes does not end it
        pause_s = self._attempts.failed(QuestionError(str(problem))).seconds
        self._tell(Phase.BROKEN, str(problem), self._clock_ms() + round(1_000 * pause_s))
        logger.warning("%s: %s Asking again in %.1f s.", self.name, problem, pause_s)
        stop.wait(pause_s)

    def _rest(self, until_s: float, wanted: frozenset[str], stop: threading.Event) -> None:
        """Wait for the next poll, which is now when something else is wanted."""
        while (left_s := until_s - time.monotonic()) > 0 and self._instruments() == wanted:
            if stop.wait(min(left_s, _LOOK_EVERY_S)):
                return

    def _account(self, delivered: Delivered, rows: Sequence[RawRow], wanted: frozenset[str]) -> Account:
        """Settle what becomes of each row."""
        now_ns = self._clock_ms() * _NS_PER_MS
        hold_s = self._settings.hold_s
        held_ns = self._provider_ms() * _NS_PER_MS - round(hold_s * _NS_PER_S) if hold_s else None
        taken = account(delivered, self._picked, rows, wanted, now_ns + _FUTURE_NS, held_ns)
        for name in {str(row.get("instrument")) for row in taken.new}:
            self._staleness.heard(name, self._clock_ms())
        return taken

    def _provider_ms(self) -> int:
        """Return what the provider's clock shows, as far as is known."""
        return self._clock_ms() + round(self._skew.ms or 0)

    def _heard(self, page: Page | None = None) -> None:
        """Take note of an answer, usable or not."""
        self._heard_ms = self._clock_ms()
        if page is None:
            return
        if page.answer.server_ms is not None:
            self._skew.dated(page.answer.server_ms, round(page.answer.asked_ms + page.answer.took_ms / 2))
        self._connects += not self._connected
        self._connected, self._fitted, self._attempts.failures = True, True, 0
        if not self._given_way:
            self._receiving()

    def _receiving(self) -> None:
        self._given_way = False
        self._tell(Phase.RECEIVING, " ".join(["Answers come.", *self._complaints()]))

    def _complaints(self) -> Iterator[str]:
        """Yield what is wrong with single questions while others are answered, and what is left out."""
        for names, problem in list(self._problems.items())[:_COMPLAINTS_SHOWN]:
            yield f"{names}: {problem}"
        if (more := len(self._problems) - _COMPLAINTS_SHOWN) > 0:
            yield f"And {more} more."
        yield from filter(None, (self._picked.sentence, self._doubts.sentence))

    def _tell(self, phase: Phase, sentence: str, retry_ms: int | None = None) -> None:
        now = self._clock_ms()
        self._reporting.tell(
            ConnectionState(
                phase,
                sentence,
                now,
                retry_ms,
                self._heard_ms,
                self._connects,
                self._skew.ms,
                gaps=self._doubts.count,
                gap=self._doubts.sentence,
                stale=self._staleness.stale(now),
            )
        )


def _name(group: Sequence[str]) -> str:
    return ", ".join(group)
