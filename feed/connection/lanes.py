"""The lane of an instrument: each of its ticks once, and what was missed before what came after it.

A tick that comes back later than the lateness allows would be too late for its bars if newer ones had gone ahead. So
what is live waits, for a while, until what is missing has been fetched.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from feed.connection.gaps import Ids
from feed.connection.ids import content_of, id_of, same_time

_RECENT_IDS = 5_000
_STRETCHES_KEPT = 20
_TIMES_KEPT = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One tick as its provider sent it, and where it belongs: its time, and its id where it has one.

    id: a number where ids rise one by one, otherwise the text that was sent. backfilled: it was asked for because it
    had been missed.
    """

    time_ns: int
    id: int | str | None
    values: Mapping[str, object]
    backfilled: bool = False


@dataclass(frozen=True)
class Ask:
    """What is to be fetched of an instrument: ids and times, both ends included, None where an end is open."""

    instrument: str
    from_id: int | None
    to_id: int | None
    from_ns: int | None


class Lane:
    """What has been delivered of one instrument, and what waits for something older.

    consecutive: its ids rise one by one, so that a missing one shows. since_ns: from when on it has been watched, by
    the provider's clock; what is older and was not asked for by id is nobody's business.
    """

    def __init__(self, instrument: str, *, consecutive: bool, since_ns: int | None = None) -> None:
        self.instrument, self.since_ns = instrument, since_ns
        self.newest_ns: int | None = None
        self.resuming = False
        self._consecutive = consecutive
        self._ids = Ids()
        # The times of each content and id in one text: the same id with another content or time is another tick.
        self._recent: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        # Ids of the time newest_ns as an earlier version kept them: without a content, and of text as numbers.
        self._recent_ids: frozenset[int | str] = frozenset()
        self._restored_ns = self._floor_ns = self._overlapping_to_ns = 0
        self._held: dict[int, Row] = {}
        self._held_rows: list[Row] = []
        self._hole_ns: int | None = None

    @property
    def waiting(self) -> bool:
        """Tell whether something is held back."""
        return self.resuming or bool(self._held)

    @property
    def missing(self) -> int:
        """Return how many ticks are known to be missing behind what was delivered."""
        return sum(hole.size for hole in self._ids.holes())

    def reconnected(self, *, hold: bool) -> None:
        """Take note that what comes now may repeat what has come; `hold` what is live until `filled`."""
        self.resuming = hold
        self._overlapping_to_ns = self.newest_ns or 0

    def take(self, row: Row) -> list[Row]:
        """Take a tick in; return what can go on now, in order."""
        if isinstance(row.id, int) and self._consecutive:
            return self._take_counted(row, row.id)
        if self._known(row):
            return []
        if self.resuming:
            self._held_rows.append(row)
            return []
        return self._deliver([row])

    def filled(self) -> list[Row]:
        """Take note that all that could be fetched has been; return what can go on now."""
        self.resuming = False
        if self._ids.newest is None:
            return self.release()
        return self._deliver_rows() + self._next_ones()

    def release(self) -> list[Row]:
        """Wait no longer: return everything that was held, in order; what is missing before it leaves a hole."""
        self.resuming = False
        self._hole_ns = self._hole_ns or self.newest_ns
        held = [self._held[number] for number in sorted(self._held)]
        self._held.clear()
        for row in held:
            self._ids.add(row.id if isinstance(row.id, int) else 0)
        return self._deliver_rows() + self._deliver(held)

    def ask(self) -> Ask | None:
        """Say what is missing now: all since the newest, what is before the oldest held, or the newest hole."""
        newest = self._ids.newest
        after = None if newest is None else newest + 1
        if self.resuming:
            return Ask(self.instrument, after, None, self.newest_ns or self.since_ns)
        if self._held:
            return Ask(self.instrument, after, min(self._held) - 1, self.newest_ns)
        if holes := self._ids.holes():
            return Ask(self.instrument, holes[-1].first, holes[-1].last, self._hole_ns)
        self._hole_ns = None
        return None

    def state(self) -> dict[str, object]:
        """Return what it takes to go on from here after a restart."""
        kept: dict[str, object] = {
            "ids": self._ids.stretches[-_STRETCHES_KEPT:],
            "newest_ns": self.newest_ns,
            "since_ns": self.since_ns,
        }
        if not self._consecutive and self.newest_ns is not None:
            kept["recent_ticks"] = [key for key, times in self._recent.items() if self.newest_ns in times]
        return {name: value for name, value in {**kept, "hole_ns": self._hole_ns}.items() if value}

    @classmethod
    def of_state(cls, instrument: str, state: Mapping[str, object], *, consecutive: bool) -> "Lane":
        """Go on from what `state` returned."""
        since_ns, newest_ns, hole_ns = (state.get(name) for name in ("since_ns", "newest_ns", "hole_ns"))
        lane = cls(instrument, consecutive=consecutive, since_ns=since_ns if isinstance(since_ns, int) else None)
        lane.newest_ns = newest_ns if isinstance(newest_ns, int) else None
        lane._hole_ns = hole_ns if isinstance(hole_ns, int) else None
        stretches = state.get("ids")
        lane._ids = Ids(stretches if isinstance(stretches, list) else ())
        if lane.newest_ns is not None:
            # Whatever is older was delivered, but for what a late tick may still bring once there is a newer one.
            lane._floor_ns = lane.newest_ns - 1
            recent, ids = state.get("recent_ticks"), state.get("recent")
            lane._recent.update(dict.fromkeys(recent if isinstance(recent, list) else (), (lane.newest_ns,)))
            lane._recent_ids = frozenset(ids if isinstance(ids, list) else ())
            lane._restored_ns = lane.newest_ns
        return lane

    def _take_counted(self, row: Row, number: int) -> list[Row]:
        newest_ns = self.newest_ns or row.time_ns
        is_newer = row.time_ns > newest_ns and not same_time(row.time_ns, newest_ns)
        if number in self._ids and not row.backfilled and is_newer:
            # A repeat is no newer than what was delivered, so the provider counts from a lower number again.
            self._ids, self._hole_ns = Ids(), None
        newest = self._ids.newest
        if number in self._ids or number in self._held or (newest is None and row.backfilled and self._too_old(row)):
            return []
        fits = newest is not None and number <= newest
        if fits or (newest is None and not self.resuming):
            self._ids.add(number)
            return self._deliver([row])
        self._held[number] = row
        return self._next_ones() if row.backfilled or not self.resuming else []

    def _next_ones(self) -> list[Row]:
        """Return the held ticks that follow on what was delivered without a gap."""
        following, number = list[Row](), self._ids.newest
        while number is not None and (row := self._held.pop(number + 1, None)) is not None:
            number += 1
            self._ids.add(number)
            following.append(row)
        return self._deliver(following)

    def _known(self, row: Row) -> bool:
        """Tell whether a tick that is not counted has been taken before, and take note of it."""
        if row.id is None:
            return row.backfilled and row.time_ns <= (self.newest_ns or self.since_ns or 0)
        # What repeats itself after a reconnect can be older than the ids that are remembered.
        repeats = row.backfilled or self._overlapping_to_ns > 0
        watched_ns = self._floor_ns if self.newest_ns is not None else (self.since_ns or 0) - 1
        key = f"{content_of(row.values)}{row.id}"
        if self._was_recent(row, key) or (repeats and row.time_ns <= watched_ns):
            return True
        self._overlapping_to_ns = 0 if row.time_ns > self._overlapping_to_ns else self._overlapping_to_ns
        self._recent[key] = (*self._recent.get(key, ()), row.time_ns)[-_TIMES_KEPT:]
        if len(self._recent) > _RECENT_IDS:
            self._floor_ns = max(self._floor_ns, *self._recent.popitem(last=False)[1])
        return False

    def _was_recent(self, row: Row, key: str) -> bool:
        if any(same_time(row.time_ns, at_ns) for at_ns in self._recent.get(key, ())):
            return True
        earlier = self._recent_ids and (row.id in self._recent_ids or id_of(row.id) in self._recent_ids)
        return bool(earlier) and same_time(row.time_ns, self._restored_ns)

    def _too_old(self, row: Row) -> bool:
        return row.time_ns < (self.newest_ns or self.since_ns or 0)

    def _deliver_rows(self) -> list[Row]:
        # What was fetched came before what was live at the same time.
        rows = sorted(self._held_rows, key=lambda row: (row.time_ns, not row.backfilled))
        self._held_rows.clear()
        return self._deliver(rows)

    def _deliver(self, rows: list[Row]) -> list[Row]:
        if rows:
            self.newest_ns = max(self.newest_ns or 0, *(row.time_ns for row in rows))
        return rows


def missing_in(lanes: Iterable[Lane]) -> int:
    """Return how many ticks are known to be missing in all."""
    return sum(lane.missing for lane in lanes)
