"""What of each instrument was delivered already: the way a poll finds what is new, also after a restart."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from feed.connection.ids import content_of, id_of
from feed.mapping.exact_json import text_of
from feed.mapping.order import newest_first
from feed.mapping.table import times_ns

RawRow = Mapping[str, object]
# An id as it was sent, its time, and its content; of earlier versions ids of text may be numbers, without a content.
Known = tuple[str | int, int, str]
_ANY_CONTENT = ""
# Of more ids than this only the newest are kept, and rows older than these count as delivered.
_MOST_IDS = 1_000
_MOST_STRANGE = 1_000


@dataclass(frozen=True)
class Mark:
    """How far one instrument was delivered.

    newest_ns: time of its newest tick. floor_ns: everything before it counts as delivered; from there on, ticks with
    ids are identified by `known`. The same id with another time or content is another tick, as for feed/duplicates.py:
    its counter has started again, or is unique only together with another field. count: ticks without an id that were
    delivered with the time newest_ns.
    """

    newest_ns: int
    floor_ns: int
    count: int = 0
    known: frozenset[Known] = frozenset()

    def has(self, row_id: str, at_ns: int, row: RawRow) -> bool:
        """Tell whether this tick was delivered."""
        if (row_id, at_ns, content_of(row)) in self.known:
            return True
        return self._is_of_earlier_version and any(
            (one, at_ns, _ANY_CONTENT) in self.known for one in (row_id, id_of(row_id) or 0)
        )

    @cached_property
    def _is_of_earlier_version(self) -> bool:
        return any(content == _ANY_CONTENT for _, _, content in self.known)


@dataclass(frozen=True)
class Taken:
    """What became of the rows of an answer: new, repeats and held are together as many as the rows.

    new: not delivered before, oldest first; each is a tick or a reject further on. repeats: delivered before, or older
    than what can be distinguished. held: left for a later poll.
    """

    new: list[RawRow]
    repeats: int
    held: int


class Delivered:
    """The marks of all instruments, and the cursors of pages that stay. Changed only by what is delivered.

    order: of the rows in an answer, as in a mapping; `auto` goes by the answer, then by what earlier answers said, and
    only then by newest_first_if_unknown.
    """

    def __init__(
        self,
        overlap_ns: int,
        cursor: str | None = None,
        *,
        order: str = "auto",
        newest_first_if_unknown: bool = False,
    ) -> None:
        self._overlap_ns, self._order, self._assumed = overlap_ns, order, newest_first_if_unknown
        kept = json.loads(cursor) if cursor else {}
        self._marks = {name: _read_mark(mark) for name, mark in kept.get("marks", {}).items()}
        self.pages: dict[str, str] = dict(kept.get("pages", {}))
        self._newest_first: bool | None = kept.get("newest_first")
        self._strange: dict[bytes, int] = {}

    def cursor(self) -> str:
        """Return all of it as the text to be stored with a batch."""
        marks = {
            name: [mark.newest_ns, mark.floor_ns, mark.count, sorted(mark.known, key=_by_time)]
            for name, mark in self._marks.items()
        }
        kept: dict[str, object] = {"marks": marks, "pages": self.pages}
        if self._newest_first is not None:
            kept["newest_first"] = self._newest_first
        return json.dumps(kept, separators=(",", ":"))

    def since_ns(self, instruments: Iterable[str], start_ns: int) -> int:
        """Return since when a question about these has to ask; `start_ns` for one that was never delivered."""
        marks = [self._marks.get(name) for name in instruments]
        return min((start_ns if mark is None else self._since_ns(mark) for mark in marks), default=start_ns)

    @property
    def newest_first(self) -> bool:
        """Tell whether answers are known to be newest first."""
        return self._order == "newest_first" or (self._order == "auto" and bool(self._newest_first))

    @property
    def marks(self) -> Mapping[str, Mark]:
        """Return how far each instrument is delivered at this moment."""
        return dict(self._marks)

    def knows(self, instruments: Iterable[str]) -> bool:
        """Tell whether anything of these was delivered."""
        return any(name in self._marks for name in instruments)

    def skip_until(self, instrument: str, time_ns: int) -> None:
        """Count everything of an instrument before this time as delivered: it was not wanted."""
        mark = self._marks.get(instrument)
        if mark is not None and time_ns > mark.newest_ns:
            self._marks[instrument] = Mark(time_ns, time_ns)

    def reaches(self, rows: Sequence[RawRow], start_ns: int) -> bool:
        """Tell whether any of the rows is older than what is to be asked for of its instrument."""
        times = zip(times_ns(row.get("time") for row in rows), rows, strict=True)
        return any(
            at_ns is not None and at_ns < self.since_ns([str(row.get("instrument"))], start_ns) for at_ns, row in times
        )

    def oldest_first(self, rows: Sequence[RawRow]) -> list[RawRow]:
        """Return the rows of an answer with its oldest end first; their times may still be out of order."""
        if self._order != "auto":
            return list(rows[::-1] if self._order == "newest_first" else rows)
        ids = [id_in(row) for row in rows]
        times = times_ns(row.get("time") for row in rows)
        found = newest_first(times, [row.get("instrument") for row in rows], ids)
        if found is None:
            found = self._newest_first
        else:
            self._newest_first = found
        if found is None:
            found = self._assumed and not any(ids) and len({row.get("instrument") for row in rows}) < len(rows)
        return list(rows[::-1] if found else rows)

    def take(self, rows: Sequence[RawRow], future_ns: int, not_after_ns: int | None = None) -> Taken:
        """Return which of the rows, which begin at their oldest end, were not delivered yet; count them as delivered.

        future_ns: rows beyond it are as wrong as rows without a readable time: both come, once for each content, to
        be rejects, and move no mark, or one wrong row would hide all that follow. not_after_ns: rows beyond it are
        left for later.
        """
        times = times_ns(row.get("time") for row in rows)
        strange: list[RawRow] = []
        by_instrument: dict[str, list[tuple[int, RawRow]]] = {}
        held, seen = 0, Counter[bytes]()
        for at_ns, row in sorted(zip(times, rows, strict=True), key=lambda one: one[0] or 0):
            if self._is_strange(row, at_ns, future_ns):
                strange += [row] if self._is_news(row, seen) else []
            elif at_ns is not None and (not_after_ns is None or at_ns <= not_after_ns):
                by_instrument.setdefault(str(row.get("instrument")), []).append((at_ns, row))
            else:
                held += 1
        found = [one for name, own in by_instrument.items() for one in self._new_of(name, own)]
        new = [*strange, *(row for _, row in sorted(found, key=lambda one: one[0]))]
        return Taken(new, len(rows) - held - len(new), held)

    def _new_of(self, name: str, rows: Sequence[tuple[int, RawRow]]) -> list[tuple[int, RawRow]]:
        mark = self._marks.get(name, Mark(0, 0))
        known, skip = set(mark.known), mark.count
        found: list[tuple[int, RawRow]] = []
        for at_ns, row in rows:
            row_id = id_in(row)
            if row_id is not None:
                if at_ns < mark.floor_ns or mark.has(row_id, at_ns, row):
                    continue
                this = (row_id, at_ns, content_of(row))
                if this in known:
                    continue
                known.add(this)
            elif at_ns <= mark.newest_ns:
                # As many with this very time as were delivered; what is beyond is another tick, not the same again.
                skip -= at_ns == mark.newest_ns
                if at_ns < mark.newest_ns or skip >= 0:
                    continue
            found.append((at_ns, row))
        self._marks[name] = self._moved(mark, rows, known)
        return found

    def _moved(self, mark: Mark, rows: Sequence[tuple[int, RawRow]], known: Set[Known]) -> Mark:
        newest_ns = max(mark.newest_ns, rows[-1][0])
        count = sum(at_ns == newest_ns and id_in(row) is None for at_ns, row in rows)
        if newest_ns == mark.newest_ns:
            count = max(count, mark.count)
        if not known:
            return Mark(newest_ns, newest_ns, count)
        # As far back as this answer went, an unknown id in a later one is a tick that came late.
        floor_ns = max(mark.floor_ns, min(newest_ns - self._overlap_ns, rows[0][0]))
        if len(known) > _MOST_IDS:
            floor_ns = max(floor_ns, sorted(at_ns for _, at_ns, _ in known)[-_MOST_IDS])
        kept = frozenset(one for one in known if one[1] >= floor_ns)
        return Mark(newest_ns, floor_ns, count, kept)

    def _since_ns(self, mark: Mark) -> int:
        return max(mark.floor_ns, mark.newest_ns - self._overlap_ns) if mark.known else mark.floor_ns

    def _is_strange(self, row: RawRow, at_ns: int | None, future_ns: int) -> bool:
        return at_ns is None or at_ns > future_ns or (bool(self._strange) and _content(row) in self._strange)

    def _is_news(self, row: RawRow, seen: Counter[bytes]) -> bool:
        """Tell whether this answer holds a row more often than any before, and count it."""
        content = _content(row)
        seen[content] += 1
        if seen[content] <= self._strange.get(content, 0):
            return False
        self._strange[content] = seen[content]
        if len(self._strange) > _MOST_STRANGE:
            del self._strange[next(iter(self._strange))]
        return True


def id_in(row: RawRow) -> str | None:
    """Return the id of a row as it was sent, None where it has none."""
    return (text_of(row.get("id")) or "").strip() or None


def _content(row: RawRow) -> bytes:
    return repr(sorted(row.items())).encode("utf-8", "backslashreplace")


def _read_mark(kept: Sequence[object]) -> Mark:
    newest_ns, floor_ns, count, known = kept
    found = ((one[0], one[1], one[2] if len(one) > 2 else _ANY_CONTENT) for one in known)  # type: ignore[attr-defined]
    return Mark(int(str(newest_ns)), int(str(floor_ns)), int(str(count)), frozenset(found))


def _by_time(known: Known) -> int:
    return known[1]
