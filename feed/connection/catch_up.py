"""What is missed while a connection is away: found, asked for, waited for, and given up on.

One lane an instrument. Nothing here asks anybody anything: `asks` says what is to be fetched, `answered` and `failed`
say what became of it.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from feed.connection.lanes import Ask, Lane, Row, missing_in
from feed.connection.reconnect import Spread, backoff_s

_NS_PER_MS = 1_000_000
_NEVER_MS = 2**62


@dataclass(frozen=True)
class Holding:
    """How long live ticks wait for missing ones.

    settle_ms: ids that are out of order by less are not missing. hold_ms: then what is live goes on, and what is
    fetched later comes late. answers: so many answers without what is missing mean that it cannot be had; failures: so
    many failed questions do. longest_ms: what was missed longer ago is not asked for.
    """

    settle_ms: int = 300
    hold_ms: int = 60_000
    answers: int = 3
    failures: int = 20
    longest_ms: int = 6 * 3_600_000
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0


@dataclass
class _Standing:
    lane: Lane
    since_ms: int | None = None
    ask_at_ms: int = 0
    asked: bool = False
    answers: int = 0
    failures: int = 0
    counted: bool = False

    def begin(self, now_ms: int, ask_at_ms: int) -> None:
        self.since_ms, self.ask_at_ms = now_ms, ask_at_ms
        self.answers, self.failures, self.counted = 0, 0, False


class CatchUp:
    """The lanes of a provider's instruments. fetches: whether what is missing can be asked for at all."""

    def __init__(self, holding: Holding, *, consecutive: bool, fetches: bool, spread: Spread = random.uniform) -> None:
        self._holding, self._consecutive, self._fetches, self._spread = holding, consecutive, fetches, spread
        self._standings: dict[str, _Standing] = {}
        self._open: dict[str, _Standing] = {}
        self.gaps = 0
        self.backfilled = 0

    @property
    def settled(self) -> bool:
        """Tell whether nothing is waited for, so that what was delivered is all there is."""
        return not any(one.lane.waiting or self._hopes(one) for one in self._open.values())

    @property
    def missing(self) -> int:
        """Return how many ticks are known to be missing."""
        return missing_in(one.lane for one in self._standings.values())

    def watch(self, instruments: Iterable[str]) -> None:
        """Keep lanes for exactly these: what is no longer wanted is forgotten, and not missed when it comes back."""
        wanted = set(instruments)
        for name in self._standings.keys() - wanted:
            del self._standings[name]
            self._open.pop(name, None)
        for name in wanted - self._standings.keys():
            self._standings[name] = _Standing(Lane(name, consecutive=self._consecutive))

    def connected(self, instruments: Iterable[str], now_ms: int, provider_ms: int, complete_ms: int | None) -> None:
        """Hold these instruments back from now on, if any of theirs may have been missed since `complete_ms`."""
        for one in self._named(instruments):
            lane = one.lane
            if lane.newest_ns is None and lane.since_ns is None:
                lane.since_ns = provider_ms * _NS_PER_MS
                continue
            one.begin(now_ms, _NEVER_MS)
            too_long = complete_ms is not None and provider_ms - complete_ms > self._holding.longest_ms
            lane.reconnected(hold=self._fetches and not too_long)
            one.answers = self._holding.answers if too_long else 0
            if self._fetches:
                self._open[lane.instrument] = one
            elif not self._consecutive:
                self.gaps += 1

    def subscribed(self, instruments: Iterable[str], now_ms: int) -> None:
        """Ask for what was missed of these now: whatever comes from here on comes live."""
        for one in self._named(instruments):
            if one.ask_at_ms == _NEVER_MS:
                one.ask_at_ms = now_ms

    def take(self, row: Row, now_ms: int) -> list[Row]:
        """Take in a tick; return what can go on."""
        one = self._standings.get(str(row.values["instrument"]))
        if one is None:
            return []
        was_waiting = one.lane.waiting
        ready = self._going(one, one.lane.take(row))
        if one.lane.waiting and not was_waiting:
            one.begin(now_ms, now_ms + self._holding.settle_ms)
            self._open[one.lane.instrument] = one
        return ready

    def asks(self, now_ms: int) -> list[Ask]:
        """Return what is to be fetched now; each counts as asked until it is answered or has failed."""
        due = list[Ask]()
        for name, one in list(self._open.items()):
            if one.asked or now_ms < one.ask_at_ms:
                continue
            ask = one.lane.ask()
            if ask is None:
                del self._open[name]
            elif self._hopes(one):
                one.asked = True
                due.append(ask)
        return due

    def answered(self, instrument: str, now_ms: int) -> list[Row]:
        """Take note that all there was has been taken in; return what can go on."""
        one = self._standings.get(instrument)
        if one is None:
            return []
        one.asked, one.answers = False, one.answers + 1
        ready = self._going(one, one.lane.filled())
        one.ask_at_ms = now_ms + self._pause_ms(one.answers)
        if not self._hopes(one):
            return ready + self._released(one)
        return ready

    def failed(self, instrument: str, now_ms: int, retry_after_s: float | None = None) -> list[Row]:
        """Take note that a question came to nothing; return what can go on, if it was the last."""
        one = self._standings.get(instrument)
        if one is None:
            return []
        one.asked = False
        if retry_after_s is not None:
            one.ask_at_ms = now_ms + int(retry_after_s * 1_000)
            return []
        one.failures += 1
        one.ask_at_ms = now_ms + self._pause_ms(one.failures)
        return [] if self._hopes(one) else self._released(one)

    def overdue(self, now_ms: int) -> list[Row]:
        """Return what has waited long enough."""
        hold_ms = self._holding.hold_ms if self._fetches else self._holding.settle_ms
        late = [
            one
            for one in self._open.values()
            if one.lane.waiting and one.since_ms is not None and now_ms - one.since_ms > hold_ms
        ]
        return [row for one in late for row in self._released(one)]

    def state(self) -> dict[str, object]:
        """Return what it takes to go on after a restart."""
        return {name: one.lane.state() for name, one in self._standings.items()}

    def restore(self, state: Mapping[str, Mapping[str, object]]) -> None:
        """Go on from what `state` returned."""
        for name, kept in state.items():
            self._standings[name] = _Standing(Lane.of_state(name, kept, consecutive=self._consecutive))

    def _named(self, instruments: Iterable[str]) -> list[_Standing]:
        return [self._standings[name] for name in instruments if name in self._standings]

    def _hopes(self, one: _Standing) -> bool:
        """Tell whether what is missing may still be had."""
        few = one.answers < self._holding.answers and one.failures < self._holding.failures
        return self._fetches and few

    def _released(self, one: _Standing) -> list[Row]:
        missing_before = one.lane.missing
        ready = self._going(one, one.lane.release())
        if one.lane.missing > missing_before:
            self._count(one)
        return ready

    def _going(self, one: _Standing, rows: list[Row]) -> list[Row]:
        """Count what was missed among the ticks that go on."""
        if fetched := sum(row.backfilled for row in rows):
            self._count(one)
            self.backfilled += fetched
        return rows

    def _count(self, one: _Standing) -> None:
        if not one.counted:
            one.counted = True
            self.gaps += 1

    def _pause_ms(self, times: int) -> int:
        holding = self._holding
        return int(backoff_s(times, holding.first_pause_s, holding.longest_pause_s, self._spread) * 1_000)
