"""Continuity of polls: whether the rows of a poll continue from earlier rows without a gap. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from barmill.ingest.identity import content_text, time_range_text
from barmill.ingest.mapping.row_tables import times_ns
from barmill.ingest.providers.rest.delivered import Mark, RawRow, id_in


@dataclass(frozen=True)
class PossibleGap:
    """A possible gap of an instrument: after its newest delivered tick and before the oldest row of the response."""

    instrument: str
    from_ns: int
    to_ns: int

    @property
    def sentence(self) -> str:
        """Return what may be missing, and what to do about it."""
        return (
            f"Rows of {self.instrument} may be missing {time_range_text(self.from_ns, self.to_ns)}: the response does"
            " not reach back to the last one; poll more often, or request more rows or only rows since the last poll."
        )


@dataclass
class _PageSpan:
    rows: int = 0
    oldest_ns: int = 2**63
    is_known: bool = False
    has_later: bool = False
    # Contents of the rows without an id that have the time of the newest delivered tick.
    edge: Counter[str] = field(default_factory=Counter)


class ContinuityCheck:
    """A check of the rows of one request, page by page.

    marks: the position up to which each instrument was delivered before the request. mixed: the rows of several
    instruments are in one list, the newest of all, instead of one list per instrument.
    """

    def __init__(self, marks: Mapping[str, Mark], *, mixed: bool) -> None:
        self._marks, self._mixed = marks, mixed
        self._seen: dict[str, _PageSpan] = {}

    def add_page(self, rows: Sequence[RawRow], future_ns: int) -> None:
        """Include the rows of a page; ignore rows without a plausible time."""
        for at_ns, row in zip(times_ns(row.get("time") for row in rows), rows, strict=True):
            if at_ns is None or at_ns > future_ns:
                continue
            name = str(row.get("instrument"))
            page_span = self._seen.setdefault(name, _PageSpan())
            page_span.rows += 1
            page_span.oldest_ns = min(page_span.oldest_ns, at_ns)
            mark = self._marks.get(name)
            if mark is not None:
                page_span.is_known |= _knows(mark, row, at_ns)
                page_span.has_later |= at_ns > mark.newest_ns
                if at_ns == mark.newest_ns and id_in(row) is None:
                    page_span.edge[content_text(row)] += 1

    def possible_gaps(self) -> list[PossibleGap]:
        """Return a possible gap for each instrument that does not continue from its earlier rows.

        An instrument continues if the response contains a row that was delivered before. Without ids, this is a row
        older than its newest tick, or all ticks delivered with that time: a response that begins among these may omit
        others. In a mixed list that does not reach back to the instrument's newest tick, a known row of any instrument
        is enough. A single row is a current price and shows nothing.
        """
        for _, page_span, mark in self._with_marks():
            page_span.is_known |= _joins_edge(page_span, mark)
        if all(span.rows < 2 for span in self._seen.values()):
            return []
        any_known = any(span.is_known for span in self._seen.values())
        oldest_ns = min(span.oldest_ns for span in self._seen.values())
        return [
            PossibleGap(name, mark.newest_ns, span.oldest_ns)
            for name, span, mark in self._with_marks()
            if not span.is_known
            and (span.rows > 1 or self._mixed)
            and not (self._mixed and any_known and oldest_ns > mark.newest_ns)
        ]

    def _with_marks(self) -> Iterable[tuple[str, _PageSpan, Mark]]:
        for name, page_span in self._seen.items():
            if (mark := self._marks.get(name)) is not None:
                yield name, page_span, mark


def _knows(mark: Mark, row: RawRow, at_ns: int) -> bool:
    row_id = id_in(row)
    if row_id is None:
        return at_ns < mark.newest_ns
    return at_ns < mark.floor_ns or mark.has(row_id, at_ns, row)


def _joins_edge(page_span: _PageSpan, mark: Mark) -> bool:
    """Return whether a response contains all ticks without an id that have the newest time, or nothing new."""
    if not page_span.edge:
        return False
    if not mark.edge:
        return page_span.edge.total() >= mark.count
    return mark.edge <= page_span.edge or (page_span.edge <= mark.edge and not page_span.has_later)
