"""The record of delivered rows per instrument, by which a poll finds new rows, even after a restart."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from barmill.ingest.identity import content_of, content_text, id_of
from barmill.ingest.mapping.row_tables import times_ns
from barmill.ingest.mapping.rows import newest_first
from barmill.platform.exact_json import text_of

RawRow = Mapping[str, object]
# An id as sent, its time, and its content; earlier versions stored text ids as numbers, without content.
KnownId = tuple[str | int, int, str]
_ANY_CONTENT = ""
# Beyond this number of ids only the newest are kept, and older rows count as delivered.
_MAX_IDS = 1_000
_MAX_UNUSABLE = 1_000


@dataclass(frozen=True)
class Mark:
    """The position up to which one instrument was delivered.

    newest_ns: time of its newest tick. floor_ns: everything before it counts as delivered; from then on, ticks with ids
    are identified by `known`. The same id with another time or content is another tick, as in identity.py: the
    counter restarted, or the id is unique only together with another field. count: the number of ticks without an id
    that were delivered with the time newest_ns. edge: the contents of these ticks, each as often as a response
    contained it; empty if unknown, for example after a restart.
    """

    newest_ns: int
    floor_ns: int
    count: int = 0
    known: frozenset[KnownId] = frozenset()
    edge: Counter[str] = field(default_factory=Counter)

    def has(self, row_id: str, at_ns: int, row: RawRow) -> bool:
        """Return whether this tick was delivered."""
        if (row_id, at_ns, content_of(row)) in self.known:
            return True
        return self._is_of_earlier_version and any(
            (known_id, at_ns, _ANY_CONTENT) in self.known for known_id in (row_id, id_of(row_id) or 0)
        )

    @cached_property
    def _is_of_earlier_version(self) -> bool:
        return any(content == _ANY_CONTENT for _, _, content in self.known)


class _NewestTicks:
    """The delivered ticks without an id that have the newest time; a response may repeat each of them.

    They are found by content. If the content is unknown, the first rows up to the delivered number count as repeats.
    """

    def __init__(self, mark: Mark) -> None:
        self._contents, self._count = mark.edge.copy() if mark.edge else None, mark.count

    def has(self, row: RawRow) -> bool:
        """Return whether a row with that time is one of them, and remove it."""
        if self._contents is None:
            self._count -= 1
            return self._count >= 0
        content = content_text(row)
        self._contents[content] -= 1
        return self._contents[content] >= 0


@dataclass(frozen=True)
class NewRows:
    """The outcome of a response's rows; the counts of new, duplicates and held add up to the number of rows.

    new: not delivered before, oldest first; each becomes a tick or a reject later. duplicates: delivered before, or too
    old to be distinguished. held: left for a later poll.
    """

    new: list[RawRow]
    duplicates: int
    held: int


class Delivered:
    """The marks of all instruments, and the page cursors from which the next polls continue (`pages`).

    order: the order of a response's rows, as in a mapping; `auto` uses the response, then the order of earlier
    responses, and finally newest_first_if_unknown.
    """

    def __init__(
        self,
        overlap_ns: int,
        cursor: str | None = None,
        *,
        order: str = "auto",
        newest_first_if_unknown: bool = False,
    ) -> None:
        self._overlap_ns, self._order, self._newest_first_if_unknown = overlap_ns, order, newest_first_if_unknown
        saved = json.loads(cursor) if cursor else {}
        self._marks = {name: _read_mark(mark) for name, mark in saved.get("marks", {}).items()}
        self.pages: dict[str, str] = dict(saved.get("pages", {}))
        self._newest_first: bool | None = saved.get("newest_first")
        self._unusable: dict[bytes, int] = {}

    def cursor(self) -> str:
        """Return the record as text to be stored with a batch."""
        marks = {
            name: [mark.newest_ns, mark.floor_ns, mark.count, sorted(mark.known, key=_by_time)]
            for name, mark in self._marks.items()
        }
        state: dict[str, object] = {"marks": marks, "pages": self.pages}
        if self._newest_first is not None:
            state["newest_first"] = self._newest_first
        return json.dumps(state, separators=(",", ":"))

    def since_ns(self, instruments: Iterable[str], start_ns: int) -> int:
        """Return the time from which to request these instruments: the earliest among them.

        start_ns: the time for an instrument without delivered rows.
        """
        marks = [self._marks.get(name) for name in instruments]
        return min((start_ns if mark is None else self._since_ns(mark) for mark in marks), default=start_ns)

    @property
    def newest_first(self) -> bool:
        """Return whether responses are known to be newest first."""
        return self._order == "newest_first" or (self._order == "auto" and bool(self._newest_first))

    @property
    def marks(self) -> Mapping[str, Mark]:
        """Return the current mark of each instrument."""
        return dict(self._marks)

    def knows(self, instruments: Iterable[str]) -> bool:
        """Return whether any rows of these instruments were delivered."""
        return any(name in self._marks for name in instruments)

    def skip_until(self, instrument: str, time_ns: int) -> None:
        """Count everything of a known instrument before this time as delivered, because it was not selected."""
        mark = self._marks.get(instrument)
        if mark is not None and time_ns > mark.newest_ns:
            self._marks[instrument] = Mark(time_ns, time_ns)

    def reaches(self, rows: Sequence[RawRow], start_ns: int) -> bool:
        """Return whether any of the rows is older than the range to request for its instrument."""
        times = zip(times_ns(row.get("time") for row in rows), rows, strict=True)
        return any(
            at_ns is not None and at_ns < self.since_ns([str(row.get("instrument"))], start_ns) for at_ns, row in times
        )

    def oldest_first(self, rows: Sequence[RawRow]) -> list[RawRow]:
        """Return the rows of a response with its oldest end first; their times may still be out of order."""
        if self._order != "auto":
            return list(rows[::-1] if self._order == "newest_first" else rows)
        ids = [id_in(row) for row in rows]
        times = times_ns(row.get("time") for row in rows)
        is_newest_first = newest_first(times, [row.get("instrument") for row in rows], ids)
        if is_newest_first is None:
            is_newest_first = self._newest_first
        else:
            self._newest_first = is_newest_first
        if is_newest_first is None:
            is_newest_first = (
                self._newest_first_if_unknown
                and not any(ids)
                and len({row.get("instrument") for row in rows}) < len(rows)
            )
        return list(rows[::-1] if is_newest_first else rows)

    def take(self, rows: Sequence[RawRow], future_ns: int, not_after_ns: int | None = None) -> NewRows:
        """Return the rows not delivered yet, and count them as delivered; rows: with their oldest end first.

        future_ns: rows beyond it are as wrong as rows without a readable time. Both are returned only as often as one
        response contains them, to become rejects, and do not move the mark; otherwise one wrong row would hide all
        later rows. not_after_ns: rows beyond it are left for later.
        """
        times = times_ns(row.get("time") for row in rows)
        unusable: list[RawRow] = []
        by_instrument: dict[str, list[tuple[int, RawRow]]] = {}
        held_count, content_counts = 0, Counter[bytes]()
        for at_ns, row in sorted(zip(times, rows, strict=True), key=lambda timed: timed[0] or 0):
            if self._is_unusable(row, at_ns, future_ns):
                unusable += [row] if self._is_new_content(row, content_counts) else []
            elif at_ns is not None and (not_after_ns is None or at_ns <= not_after_ns):
                by_instrument.setdefault(str(row.get("instrument")), []).append((at_ns, row))
            else:
                held_count += 1
        timed_rows = [
            timed for name, rows_of_name in by_instrument.items() for timed in self._new_rows_of(name, rows_of_name)
        ]
        new = [*unusable, *(row for _, row in sorted(timed_rows, key=lambda timed: timed[0]))]
        return NewRows(new, len(rows) - held_count - len(new), held_count)

    def _new_rows_of(self, name: str, rows: Sequence[tuple[int, RawRow]]) -> list[tuple[int, RawRow]]:
        mark = self._marks.get(name, Mark(0, 0))
        known_ids, delivered = set(mark.known), _NewestTicks(mark)
        timed_rows: list[tuple[int, RawRow]] = []
        for at_ns, row in rows:
            row_id = id_in(row)
            if row_id is not None:
                if at_ns < mark.floor_ns or mark.has(row_id, at_ns, row):
                    continue
                known_id = (row_id, at_ns, content_of(row))
                if known_id in known_ids:
                    continue
                known_ids.add(known_id)
            elif at_ns < mark.newest_ns or (at_ns == mark.newest_ns and delivered.has(row)):
                continue
            timed_rows.append((at_ns, row))
        self._marks[name] = self._advanced(mark, rows, known_ids)
        return timed_rows

    def _advanced(self, mark: Mark, rows: Sequence[tuple[int, RawRow]], known_ids: Set[KnownId]) -> Mark:
        newest_ns = max(mark.newest_ns, rows[-1][0])
        edge = Counter(content_text(row) for at_ns, row in rows if at_ns == newest_ns and id_in(row) is None)
        if newest_ns == mark.newest_ns:
            edge |= mark.edge
        count = max(edge.total(), mark.count if newest_ns == mark.newest_ns else 0)
        if not known_ids:
            return Mark(newest_ns, newest_ns, count, edge=edge)
        # Within the range of this response, an unknown id in a later response is a late tick.
        floor_ns = max(mark.floor_ns, min(newest_ns - self._overlap_ns, rows[0][0]))
        if len(known_ids) > _MAX_IDS:
            floor_ns = max(floor_ns, sorted(at_ns for _, at_ns, _ in known_ids)[-_MAX_IDS])
        kept_ids = frozenset(entry for entry in known_ids if entry[1] >= floor_ns)
        return Mark(newest_ns, floor_ns, count, kept_ids, edge)

    def _since_ns(self, mark: Mark) -> int:
        return max(mark.floor_ns, mark.newest_ns - self._overlap_ns) if mark.known else mark.floor_ns

    def _is_unusable(self, row: RawRow, at_ns: int | None, future_ns: int) -> bool:
        return at_ns is None or at_ns > future_ns or (bool(self._unusable) and _content(row) in self._unusable)

    def _is_new_content(self, row: RawRow, content_counts: Counter[bytes]) -> bool:
        """Return whether this response contains a row more often than any before, and count it."""
        content = _content(row)
        content_counts[content] += 1
        if content_counts[content] <= self._unusable.get(content, 0):
            return False
        self._unusable[content] = content_counts[content]
        if len(self._unusable) > _MAX_UNUSABLE:
            del self._unusable[next(iter(self._unusable))]
        return True


def id_in(row: RawRow) -> str | None:
    """Return the id of a row as sent, or None if it has none."""
    return (text_of(row.get("id")) or "").strip() or None


def _content(row: RawRow) -> bytes:
    return repr(sorted(row.items())).encode("utf-8", "backslashreplace")


def _read_mark(fields: Sequence[object]) -> Mark:
    newest_ns, floor_ns, count, known_ids = fields
    entries = ((entry[0], entry[1], entry[2] if len(entry) > 2 else _ANY_CONTENT) for entry in known_ids)  # type: ignore[attr-defined]
    return Mark(int(str(newest_ns)), int(str(floor_ns)), int(str(count)), frozenset(entries))


def _by_time(entry: KnownId) -> int:
    return entry[1]
