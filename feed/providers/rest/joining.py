"""Whether the rows of a poll join what was delivered before it, so that nothing can be missing in between. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from feed.mapping.table import times_ns
from feed.providers.rest.delivered import Mark, RawRow, id_in


@dataclass(frozen=True)
class Break:
    """Rows of an instrument that may be missing: after its newest delivered tick, before the oldest of the answer."""

    instrument: str
    from_ns: int
    to_ns: int


@dataclass
class _Seen:
    rows: int = 0
    oldest_ns: int = 2**63
    known: bool = False


class Joining:
    """Looks at the rows of one question, page by page.

    marks: how far each instrument was delivered before the question. mixed: the rows of several instruments are in one
    list, the newest of all, and not in a list for each.
    """

    def __init__(self, marks: Mapping[str, Mark], *, mixed: bool) -> None:
        self._marks, self._mixed = marks, mixed
        self._seen: dict[str, _Seen] = {}

    def look(self, rows: Sequence[RawRow], future_ns: int) -> None:
        """Take in the rows of a page; those without a sane time say nothing."""
        for at_ns, row in zip(times_ns(row.get("time") for row in rows), rows, strict=True):
            if at_ns is None or at_ns > future_ns:
                continue
            name = str(row.get("instrument"))
            seen = self._seen.setdefault(name, _Seen())
            seen.rows += 1
            seen.oldest_ns = min(seen.oldest_ns, at_ns)
            mark = self._marks.get(name)
            seen.known |= mark is not None and _knows(mark, row, at_ns)

    def breaks(self) -> list[Break]:
        """Return what does not join.

        An instrument joins by one row that was delivered before. In a mixed list that goes less far back than its
        newest tick, a known row of any instrument does. A single row is a price as of now, and joins nothing.
        """
        if all(seen.rows < 2 for seen in self._seen.values()):
            return []
        any_known = any(seen.known for seen in self._seen.values())
        oldest_ns = min(seen.oldest_ns for seen in self._seen.values())
        return [
            Break(name, mark.newest_ns, seen.oldest_ns)
            for name, seen, mark in self._with_marks()
            if not seen.known
            and (seen.rows > 1 or self._mixed)
            and not (self._mixed and any_known and oldest_ns > mark.newest_ns)
        ]

    def _with_marks(self) -> Iterable[tuple[str, _Seen, Mark]]:
        for name, seen in self._seen.items():
            if (mark := self._marks.get(name)) is not None:
                yield name, seen, mark


def _knows(mark: Mark, row: RawRow, at_ns: int) -> bool:
    row_id = id_in(row)
    if row_id is None:
        return at_ns <= mark.newest_ns
    return at_ns < mark.floor_ns or mark.has(row_id, at_ns, row)
