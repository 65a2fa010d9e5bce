"""The stream of one instrument: each tick exactly once, and missed ticks before the ticks that followed them.

Once newer ticks are released, a missed tick that is older by more than the allowed lateness would be rejected. So live
ticks wait, for a limited time, until the missed ticks have been fetched.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from barmill.ingest.identity import Ids, content_of, id_of, same_time

_RECENT_IDS = 5_000
_MAX_STORED_RANGES = 20
_TIMES_KEPT = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One tick as its provider sent it, with its time and its id, if it has one.

    time_ns: nanoseconds since the epoch. id: a number if ids rise one by one, otherwise the text that was sent.
    backfilled: the tick was fetched because it had been missed.
    """

    time_ns: int
    id: int | str | None
    values: Mapping[str, object]
    backfilled: bool = False


@dataclass(frozen=True)
class BackfillRequest:
    """A range of missing ticks to fetch: ids, both ends inclusive, and the time from which to search.

    None means an open end. from_ns: nanoseconds since the epoch.
    """

    instrument: str
    from_id: int | None
    to_id: int | None
    from_ns: int | None


class InstrumentStream:
    """The ticks delivered for one instrument, and the ticks that wait for older ones.

    consecutive: ids rise one by one, so a missing id is visible. since_ns: when the subscription began, by the
    provider's clock; older ticks that are fetched without a range of ids are ignored.
    """

    def __init__(self, instrument: str, *, consecutive: bool, since_ns: int | None = None) -> None:
        self.instrument, self.since_ns = instrument, since_ns
        self.newest_ns: int | None = None
        self.is_resuming = False
        self._consecutive = consecutive
        self._ids = Ids()
        # The times of each key of content and id: the same id with another content or time is another tick.
        self._recent: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        # Ids of the ticks at newest_ns as an earlier version stored them: without content, and text ids as numbers.
        self._recent_ids: frozenset[int | str] = frozenset()
        self._restored_ns = self._floor_ns = self._overlapping_to_ns = 0
        self._held: dict[int, Row] = {}
        self._held_rows: list[Row] = []
        self._hole_ns: int | None = None

    @property
    def waiting(self) -> bool:
        """Return whether ticks are held back, or the next ones will be."""
        return self.is_resuming or bool(self._held)

    @property
    def missing(self) -> int:
        """Return how many ticks are known to be missing between those delivered."""
        return sum(hole.size for hole in self._ids.holes())

    def on_reconnected(self, *, hold: bool) -> None:
        """Record that the next ticks may repeat earlier ones; with `hold`, hold back live ticks until `on_filled`."""
        self.is_resuming = hold
        self._overlapping_to_ns = self.newest_ns or 0

    def take(self, row: Row) -> list[Row]:
        """Take a tick; return the ticks that can be released now, in order."""
        if isinstance(row.id, int) and self._consecutive:
            return self._take_numbered(row, row.id)
        if self._is_repeat(row):
            return []
        if self.is_resuming:
            self._held_rows.append(row)
            return []
        return self._deliver([row])

    def on_filled(self) -> list[Row]:
        """Record that everything available has been fetched; return the ticks that can be released now."""
        self.is_resuming = False
        if self._ids.newest is None:
            return self.release()
        return self._deliver_rows() + self._release_consecutive()

    def release(self) -> list[Row]:
        """Stop waiting: return all held ticks in order; ticks still missing before them leave a hole."""
        self.is_resuming = False
        self._hole_ns = self._hole_ns or self.newest_ns
        held_rows = [self._held[number] for number in sorted(self._held)]
        self._held.clear()
        for row in held_rows:
            self._ids.add(row.id if isinstance(row.id, int) else 0)
        return self._deliver_rows() + self._deliver(held_rows)

    def next_request(self) -> BackfillRequest | None:
        """Return the range to fetch next, or None if nothing is missing.

        After a reconnection, this is everything after the newest tick; otherwise the ids before the lowest held id, or
        else the newest hole.
        """
        newest = self._ids.newest
        after = None if newest is None else newest + 1
        if self.is_resuming:
            return BackfillRequest(self.instrument, after, None, self.newest_ns or self.since_ns)
        if self._held:
            return BackfillRequest(self.instrument, after, min(self._held) - 1, self.newest_ns)
        if holes := self._ids.holes():
            return BackfillRequest(self.instrument, holes[-1].first, holes[-1].last, self._hole_ns)
        self._hole_ns = None
        return None

    def state(self) -> dict[str, object]:
        """Return the state needed to continue after a restart."""
        state: dict[str, object] = {
            "ids": self._ids.ranges[-_MAX_STORED_RANGES:],
            "newest_ns": self.newest_ns,
            "since_ns": self.since_ns,
        }
        if not self._consecutive and self.newest_ns is not None:
            state["recent_ticks"] = [key for key, times in self._recent.items() if self.newest_ns in times]
        return {name: value for name, value in {**state, "hole_ns": self._hole_ns}.items() if value}

    @classmethod
    def of_state(cls, instrument: str, state: Mapping[str, object], *, consecutive: bool) -> "InstrumentStream":
        """Create a stream from the state that `state` returned."""
        since_ns, newest_ns, hole_ns = (state.get(name) for name in ("since_ns", "newest_ns", "hole_ns"))
        stream = cls(instrument, consecutive=consecutive, since_ns=since_ns if isinstance(since_ns, int) else None)
        stream.newest_ns = newest_ns if isinstance(newest_ns, int) else None
        stream._hole_ns = hole_ns if isinstance(hole_ns, int) else None
        ranges = state.get("ids")
        stream._ids = Ids(ranges if isinstance(ranges, list) else ())
        if stream.newest_ns is not None:
            # All older ticks were delivered, except late ones that may still arrive.
            stream._floor_ns = stream.newest_ns - 1
            recent, ids = state.get("recent_ticks"), state.get("recent")
            stream._recent.update(dict.fromkeys(recent if isinstance(recent, list) else (), (stream.newest_ns,)))
            stream._recent_ids = frozenset(ids if isinstance(ids, list) else ())
            stream._restored_ns = stream.newest_ns
        return stream

    def _take_numbered(self, row: Row, number: int) -> list[Row]:
        newest_ns = self.newest_ns or row.time_ns
        is_newer = row.time_ns > newest_ns and not same_time(row.time_ns, newest_ns)
        newest = self._ids.newest
        released = [] if newest is None or number > newest or row.backfilled or not is_newer else self._restart_count()
        newest = self._ids.newest
        if number in self._ids or number in self._held or (newest is None and row.backfilled and self._is_too_old(row)):
            return []
        fills_hole = newest is not None and number <= newest
        if fills_hole or (newest is None and not self.is_resuming):
            self._ids.add(number)
            return released + self._deliver([row])
        self._held[number] = row
        return released + (self._release_consecutive() if row.backfilled or not self.is_resuming else [])

    def _restart_count(self) -> list[Row]:
        """Forget the ids; return the held ticks that can be released.

        A tick that is newer than all others but has a lower number is neither a repeat nor late: the provider's counter
        restarted.
        """
        self._ids, self._hole_ns = Ids(), None
        self._held_rows += self._held.values()
        self._held.clear()
        return [] if self.is_resuming else self._deliver_rows()

    def _release_consecutive(self) -> list[Row]:
        """Return the held ticks that directly follow the delivered ids without a gap."""
        following, number = list[Row](), self._ids.newest
        while number is not None and (row := self._held.pop(number + 1, None)) is not None:
            number += 1
            self._ids.add(number)
            following.append(row)
        return self._deliver(following)

    def _is_repeat(self, row: Row) -> bool:
        """Return whether a tick without a consecutive id was taken before; remember its id if not."""
        if row.id is None:
            return row.backfilled and row.time_ns <= (self.newest_ns or self.since_ns or 0)
        # Repeats after a reconnection can be older than the remembered ids.
        may_repeat = row.backfilled or self._overlapping_to_ns > 0
        delivered_to_ns = self._floor_ns if self.newest_ns is not None else (self.since_ns or 0) - 1
        key = f"{content_of(row.values)}{row.id}"
        if self._was_recent(row, key) or (may_repeat and row.time_ns <= delivered_to_ns):
            return True
        self._overlapping_to_ns = 0 if row.time_ns > self._overlapping_to_ns else self._overlapping_to_ns
        self._recent[key] = (*self._recent.get(key, ()), row.time_ns)[-_TIMES_KEPT:]
        if len(self._recent) > _RECENT_IDS:
            self._floor_ns = max(self._floor_ns, *self._recent.popitem(last=False)[1])
        return False

    def _was_recent(self, row: Row, key: str) -> bool:
        if any(same_time(row.time_ns, at_ns) for at_ns in self._recent.get(key, ())):
            return True
        is_restored_id = self._recent_ids and (row.id in self._recent_ids or id_of(row.id) in self._recent_ids)
        return bool(is_restored_id) and same_time(row.time_ns, self._restored_ns)

    def _is_too_old(self, row: Row) -> bool:
        return row.time_ns < (self.newest_ns or self.since_ns or 0)

    def _deliver_rows(self) -> list[Row]:
        # At equal times, a fetched tick came before a live tick.
        rows = sorted(self._held_rows, key=lambda row: (row.time_ns, not row.backfilled))
        self._held_rows.clear()
        return self._deliver(rows)

    def _deliver(self, rows: list[Row]) -> list[Row]:
        if rows:
            self.newest_ns = max(self.newest_ns or 0, *(row.time_ns for row in rows))
        return rows


def missing_in(streams: Iterable[InstrumentStream]) -> int:
    """Return the total number of ticks known to be missing."""
    return sum(stream.missing for stream in streams)
