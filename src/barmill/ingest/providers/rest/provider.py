"""The provider `rest`: prices of any HTTP API by polling, each tick delivered once."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.http import Http, Limits
from barmill.ingest.connection.provider import Batch, CatalogueEntry, ProviderError
from barmill.ingest.connection.reconnect import (
    AddressRefusedError,
    Attempts,
    KeyRefusedError,
    ReconnectDelays,
    RequestError,
)
from barmill.ingest.connection.state import ConnectionState, Phase, Report, Skew, Staleness, StateReporter
from barmill.ingest.identity import GapNotes
from barmill.ingest.mapping.paths import MappingError
from barmill.ingest.mapping.row_mapping import KEY, REQUESTED
from barmill.ingest.mapping.row_tables import InstrumentFilter, table, times_ns
from barmill.ingest.providers.rest.continuity import ContinuityCheck, PossibleGap
from barmill.ingest.providers.rest.delivered import Delivered, RawRow
from barmill.ingest.providers.rest.request import (
    Page,
    RequestSubject,
    RestMappingError,
    RestRefusedError,
    RowOutcomes,
    delivered_of,
    fetch_catalogue,
    foreign_names_text,
    row_outcomes,
    send_request,
)
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.platform.clock import NS_PER_MS, NS_PER_S, now_ms

logger = logging.getLogger(__name__)

SelectedNames = Callable[[], frozenset[str] | None]

_CHECK_EVERY_S = 0.5
# Far more than one poll should ever need; it stops a provider that always names a next page.
_MAX_PAGES = 1_000
_PROBLEMS_SHOWN = 3
# Ingest rejects rows with times further ahead.
_FUTURE_NS = 5 * NS_PER_S


class RestProvider:
    """A provider's prices by polling. One thread reads; another thread may request the catalogue.

    key_of: called for the key at the first request, after a failure, and for each catalogue, but not at each poll,
    because every use is recorded in the audit log. selected: called repeatedly for the instruments to
    read; None: those in the settings.
    """

    live = True

    def __init__(
        self,
        name: str,
        settings: RestFeed,
        key_of: Callable[[], str] | None,
        selected: SelectedNames,
        report: Report,
        *,
        guard: Guard | None = None,
        reconnect_delays: ReconnectDelays | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.name = name
        self._settings, self._key_of, self._selected = settings, key_of, selected
        self._guard, self._clock_ms = guard or Guard(), clock_ms
        self._attempts = Attempts(reconnect_delays or ReconnectDelays())
        self._reporter = StateReporter(report, clock_ms)
        self._skew, self._staleness = Skew(), Staleness()
        self._heard_ms: int | None = None
        self._connects, self._connected = 0, False
        self._gap_notes = GapNotes(clock_ms)
        self._problems: dict[str, RequestError | MappingError] = {}
        self._instrument_filter, self._has_matched, self._is_unusable = InstrumentFilter(), False, False
        by_path = settings.rows.instrument not in (KEY, REQUESTED) and settings.rows.by == "row"
        self._mixed = by_path and not settings.per_instrument
        self._names_instruments = bool({"instrument", "instruments"} & settings.placeholders)
        self._key_in_use: str | None = None
        self._next_request_s = 0.0
        self._complete_ms = 0

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield new rows after `cursor` until `stop` is set.

        Temporary errors are waited out. Raise RestRefusedError if the key or the address is refused, and
        RestMappingError if no response fits the mapping. Exceptions of key_of are passed on.
        """
        delivered = delivered_of(self._settings, cursor)
        last_selected: frozenset[str] | None = None
        with self._http() as http:
            while not stop.is_set():
                selected = self._instruments()
                for name in selected - last_selected if last_selected is not None else ():
                    delivered.skip_until(name, self._provider_ms() * NS_PER_MS)
                if selected != last_selected:
                    last_selected, self._problems = selected, {}
                self._staleness.expect(selected, self._clock_ms())
                began_s = time.monotonic()
                if groups := self._groups(selected):
                    yield from self._poll(http, delivered, groups, selected, stop)
                else:
                    self._report_state(
                        Phase.IDLE, "No instrument is enabled; enable instruments on the Instruments page."
                    )
                self._wait_until(began_s + self._settings.period_s, selected, stop)

    def catalogue(self) -> Sequence[CatalogueEntry] | None:
        """Return the provider's catalogue, or None if the settings define no request for it.

        Raise ProviderError on failure.
        """
        if self._settings.catalogue is None:
            return None
        with self._http() as http:
            try:
                return fetch_catalogue(http, self._settings, self._new_key())
            except (RequestError, MappingError) as error:
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
        selected = self._selected()
        return frozenset(self._settings.instruments) if selected is None else selected

    def _groups(self, selected: frozenset[str]) -> list[Sequence[str]]:
        """Return the instruments of each request."""
        names = sorted(selected)
        if self._settings.per_instrument:
            return [[name] for name in names]
        if "instruments" in self._settings.placeholders:
            size = self._settings.per_request
            return [names[start : start + size] for start in range(0, len(names), size)]
        return [names] if names or self._selected() is None else []

    def _poll(
        self,
        http: Http,
        delivered: Delivered,
        groups: Sequence[Sequence[str]],
        selected: frozenset[str],
        stop: threading.Event,
    ) -> Iterator[Batch]:
        """Send each request once, with all its pages; if nothing is missing, the last batch has complete_to_ms."""
        began_ms, is_complete = self._clock_ms(), True
        for group in groups:
            self._problems.pop(_group_name(group), None)
            continuity = ContinuityCheck(delivered.marks, mixed=self._mixed)
            must_overlap, is_truncated = not self._continues(delivered, group), False
            try:
                for rows, has_all_rows in self._pages(http, delivered, group, stop):
                    continuity.add_page(rows, self._clock_ms() * NS_PER_MS + _FUTURE_NS)
                    must_overlap |= has_all_rows is None
                    is_truncated |= has_all_rows is False
                    if self._instruments() != selected:
                        return  # these rows are discarded and requested again for the new set of instruments
                    outcomes = self._count_rows(delivered, rows, selected)
                    if outcomes.new or outcomes.rejects.height:
                        rising = self._settings.rows.rising_ids
                        yield Batch(table(outcomes.new), delivered.cursor(), broken=outcomes.rejects, rising_ids=rising)
                    if outcomes.foreign and (self._names_instruments or not delivered.knows(selected)):
                        raise RequestError(foreign_names_text(outcomes.foreign, group))
                    self._report_receiving()
            except (RequestError, MappingError) as problem:
                self._problems[_group_name(group)] = problem
            else:
                is_complete &= not self._record_gaps(
                    continuity.possible_gaps() if must_overlap else [], _group_name(group) if is_truncated else None
                )
            if stop.is_set():
                return
        if len(self._problems) == len(groups):
            self._handle_unusable_poll(next(iter(self._problems.values())), stop)
        elif is_complete and not self._problems:
            yield Batch(table([]), delivered.cursor(), complete_to_ms=self._complete_to_ms(began_ms))

    def _continues(self, delivered: Delivered, group: Sequence[str]) -> bool:
        """Return whether a request states where the last one ended, so that its response begins there."""
        return self._settings.has_start_time or _group_name(group) in delivered.pages

    def _record_gaps(self, possible_gaps: Sequence[PossibleGap], truncated_name: str | None) -> bool:
        """Count the gaps of a request: rows that do not continue from the last poll, and truncated pages.

        Return whether there are any.
        """
        for gap in possible_gaps:
            self._gap_notes.note(gap.instrument, gap.sentence)
        if truncated_name is not None:
            self._gap_notes.note(
                truncated_name,
                f"Rows{f' of {truncated_name}' if truncated_name else ''} may be missing: there are more than one"
                " response contains; poll more often or request more rows.",
            )
        has_gaps = bool(possible_gaps) or truncated_name is not None
        if has_gaps:
            self._report_receiving()
        return has_gaps

    def _complete_to_ms(self, requested_ms: int) -> int:
        """Return the time, by the provider's clock, up to which a poll started at `requested_ms` is complete."""
        settle_ms = round(1_000 * (self._settings.settle_s + self._settings.hold_s))
        # The estimate of the provider's clock improves, but a time already reported must not go back.
        self._complete_ms = max(self._complete_ms, requested_ms + round(self._skew.ms or 0) - settle_ms)
        return self._complete_ms

    def _pages(
        self, http: Http, delivered: Delivered, group: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[Sequence[RawRow], bool | None]]:
        """Yield the rows of one request page by page, or all at once if the pages lead back in time.

        The second value says whether these are all rows; None means only if they continue from the last poll. A full
        page of a request since a time is followed by a request since its newest row, if that time is later.
        """
        settings, pages = self._settings, self._settings.pages
        start_ns = self._provider_ms() * NS_PER_MS - round(settings.start_back_s * NS_PER_S)
        name = _group_name(group)
        since_ns = delivered.since_ns(group, start_ns) if settings.has_start_time else None
        subject = RequestSubject(group, since_ns, delivered.pages.get(name))
        rows: list[RawRow] = []
        for count in range(1, _MAX_PAGES + 1):
            page = self._send_with_retries(http, subject, stop)
            if page is None:
                return
            next_subject = page.next_subject
            if pages is None or not pages.newest_first:
                has_all_rows: bool | None = next_subject is None or count < _MAX_PAGES
                if self._is_truncated(page):
                    delivered.oldest_first(page.rows)  # records the order, even of a first response
                    next_subject = self._since_newest(delivered, subject, page.rows)
                    has_all_rows = next_subject is not None and count < _MAX_PAGES
                    if delivered.newest_first:
                        has_all_rows = None if delivered.knows(group) else delivered.reaches(page.rows, start_ns)
                yield page.rows, has_all_rows
                if pages and pages.stays and next_subject and next_subject.cursor:
                    delivered.pages[name] = next_subject.cursor
                if next_subject is None or not page.rows:
                    return
                subject = next_subject
                continue
            rows = delivered.oldest_first(page.rows) + rows
            reaches_start = next_subject is None or delivered.reaches(page.rows, start_ns)
            if next_subject is None or reaches_start or count >= pages.most:
                yield rows, reaches_start
                return
            subject = next_subject

    def _is_truncated(self, page: Page) -> bool:
        """Return whether a request since a time returned a full page, so that more rows may exist."""
        settings = self._settings
        is_full = settings.full_page is not None and len(page.rows) >= settings.full_page
        return is_full and settings.pages is None and settings.has_start_time

    def _since_newest(
        self, delivered: Delivered, subject: RequestSubject, rows: Sequence[RawRow]
    ) -> RequestSubject | None:
        """Return the request for the rows after a full page, or None if they cannot be requested."""
        if subject.since_ns is None or delivered.newest_first:
            return None
        newest_ns = max((at_ns for at_ns in times_ns(row.get("time") for row in rows) if at_ns is not None), default=0)
        return replace(subject, since_ns=newest_ns) if newest_ns > subject.since_ns else None

    def _send_with_retries(self, http: Http, subject: RequestSubject, stop: threading.Event) -> Page | None:
        """Send a request, and repeat it after temporary errors; return None if `stop` is set.

        Raise RestRefusedError if the key or the address is refused; other errors are passed on.
        """
        while not stop.wait(max(0.0, self._next_request_s - time.monotonic())):
            if self._settings.requests_per_minute:
                self._next_request_s = time.monotonic() + 60 / self._settings.requests_per_minute
            is_new_key = self._key_in_use is None
            try:
                if not self._connected:
                    self._report_state(Phase.CONNECTING, "Waiting for the first response.")
                page = send_request(http, self._settings, subject, self._key())
            except (KeyRefusedError, AddressRefusedError) as error:
                if not is_new_key:
                    self._key_in_use = None  # the key may have been replaced in the meantime
                    continue
                self._report_state(Phase.REFUSED, str(error))
                raise RestRefusedError(str(error)) from None
            except RequestError as error:
                if not error.is_temporary:
                    self._record_response()
                    raise
                self._wait(error, stop)
            except MappingError:
                self._record_response()
                raise
            else:
                self._record_response(page)
                return page
        return None

    def _wait(self, error: RequestError, stop: threading.Event) -> None:
        """Wait after a temporary error, and report the time of the next attempt."""
        self._connected, self._key_in_use = False, None
        pause = self._attempts.next_pause(error)
        retry_ms = self._clock_ms() + round(1_000 * pause.seconds)
        self._report_state(pause.phase, f"{error} Retrying in {pause.seconds:.0f} s.", retry_ms)
        logger.warning("%s: %s Retrying in %.1f s.", self.name, error, pause.seconds)
        stop.wait(pause.seconds)

    def _handle_unusable_poll(self, problem: Exception, stop: threading.Event) -> None:
        """Report a poll without a usable response, and wait; raise RestMappingError if none ever fit the mapping."""
        if isinstance(problem, MappingError) and not self._has_matched:
            self._report_state(Phase.BROKEN, str(problem))
            raise RestMappingError(str(problem)) from None
        self._is_unusable = True  # until a response is usable; the mere arrival of a response does not end this state
        pause_s = self._attempts.next_pause(RequestError(str(problem))).seconds
        self._report_state(Phase.BROKEN, str(problem), self._clock_ms() + round(1_000 * pause_s))
        logger.warning("%s: %s Retrying in %.1f s.", self.name, problem, pause_s)
        stop.wait(pause_s)

    def _wait_until(self, deadline_s: float, selected: frozenset[str], stop: threading.Event) -> None:
        """Wait for the next poll; return early if the selected instruments change."""
        while (remaining_s := deadline_s - time.monotonic()) > 0 and self._instruments() == selected:
            if stop.wait(min(remaining_s, _CHECK_EVERY_S)):
                return

    def _count_rows(self, delivered: Delivered, rows: Sequence[RawRow], selected: frozenset[str]) -> RowOutcomes:
        """Return the outcomes of the rows, and record the instruments of new rows as active."""
        now_ns = self._clock_ms() * NS_PER_MS
        hold_s = self._settings.hold_s
        held_ns = self._provider_ms() * NS_PER_MS - round(hold_s * NS_PER_S) if hold_s else None
        outcomes = row_outcomes(delivered, self._instrument_filter, rows, selected, now_ns + _FUTURE_NS, held_ns)
        for name in {str(row.get("instrument")) for row in outcomes.new}:
            self._staleness.record_tick(name, self._clock_ms())
        return outcomes

    def _provider_ms(self) -> int:
        """Return the estimated time of the provider's clock, in epoch milliseconds."""
        return self._clock_ms() + round(self._skew.ms or 0)

    def _record_response(self, page: Page | None = None) -> None:
        """Record a response, usable or not."""
        self._heard_ms = self._clock_ms()
        if page is None:
            return
        if page.response.server_ms is not None:
            self._skew.record_http_date(
                page.response.server_ms, round(page.response.requested_ms + page.response.took_ms / 2)
            )
        self._connects += not self._connected
        self._connected, self._has_matched, self._attempts.failures = True, True, 0
        if not self._is_unusable:
            self._report_receiving()

    def _report_receiving(self) -> None:
        self._is_unusable = False
        self._report_state(Phase.RECEIVING, " ".join(["Receiving responses.", *self._problem_sentences()]))

    def _problem_sentences(self) -> Iterator[str]:
        """Yield the problems of single requests while others succeed, and what is left out."""
        for names, problem in list(self._problems.items())[:_PROBLEMS_SHOWN]:
            yield f"{names}: {problem}"
        if (more := len(self._problems) - _PROBLEMS_SHOWN) > 0:
            yield f"And {more} more."
        yield from filter(None, (self._instrument_filter.sentence, self._gap_notes.sentence))

    def _report_state(self, phase: Phase, sentence: str, retry_ms: int | None = None) -> None:
        now_ms = self._clock_ms()
        self._reporter.report_state(
            ConnectionState(
                phase,
                sentence,
                now_ms,
                retry_ms,
                self._heard_ms,
                self._connects,
                self._skew.ms,
                gaps=self._gap_notes.count,
                gap=self._gap_notes.sentence,
                stale=self._staleness.stale(now_ms),
            )
        )


def _group_name(group: Sequence[str]) -> str:
    return ", ".join(group)
