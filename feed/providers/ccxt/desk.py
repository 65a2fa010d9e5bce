"""What a ccxt feed knows of its instruments, and the batches made of it, whatever connection it came over."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from feed.connection.catch_up import CatchUp, Holding
from feed.connection.doubts import Doubts
from feed.connection.lanes import Ask, Row
from feed.connection.reconnect import Spread
from feed.connection.reporting import Reporting
from feed.connection.skew import Skew
from feed.connection.staleness import Staleness
from feed.connection.state import ConnectionState, Phase, Report
from feed.mapping.table import table
from feed.provider import Batch

_NS_PER_MS = 1_000_000
# The exchange's time is only known from our clock and the skew, and trades take a moment to come.
_UNCERTAIN_MS = 1_000
# A stamp further ahead is wrong, and must not decide in which order trades go on.
_FUTURE_MS = 5_000
_QUIET_BATCH_MS = 250
_NOTABLE_SKEW_MS = 2_000
_MOST_SHOWN = 3


class Desk:
    """Where trades come in from connections and go on in batches, each once and in order."""

    def __init__(
        self,
        report: Report,
        holding: Holding,
        clock_ms: Callable[[], int],
        spread: Spread,
        *,
        consecutive: bool,
        fetches: bool,
    ) -> None:
        self.clock_ms, self._holding = clock_ms, holding
        self._catch_up = CatchUp(holding, consecutive=consecutive, fetches=fetches, spread=spread)
        self.skew, self._staleness, self._reporting = Skew(), Staleness(), Reporting(report, clock_ms)
        self.names: frozenset[str] = frozenset()
        self.connects = 0
        self.heard_ms: int | None = None
        self._state = ConnectionState(Phase.IDLE, "", clock_ms())
        self._ready: list[Mapping[str, object]] = []
        self._complaints: dict[str, str] = {}
        self._doubts = Doubts(clock_ms)
        self._known: frozenset[str] = frozenset()
        self._begun_ns: dict[str, int] = {}
        self._traded: set[str] = set()
        self._complete_ms: int | None = None
        self._batch_ms = 0

    @property
    def provider_ms(self) -> int:
        """Return what the exchange's clock shows, as far as that is known."""
        return self.clock_ms() + round(self.skew.ms or 0)

    @property
    def settled(self) -> bool:
        """Tell whether nothing is waited for."""
        return self._catch_up.settled

    @property
    def heeded(self) -> frozenset[str]:
        """Return the instruments that the exchange does not refuse."""
        return self.names - self._complaints.keys()

    def restore(self, cursor: str | None) -> None:
        """Go on from a cursor of this provider."""
        kept = json.loads(cursor) if cursor else {}
        self._complete_ms = kept.get("complete_ms")
        lanes = kept.get("lanes", {})
        self._catch_up.restore(lanes)
        self._known = frozenset(lanes)
        self._traded = {name for name, lane in lanes.items() if lane.get("newest_ns")}

    def follow(self, names: frozenset[str]) -> None:
        """Take in trades of exactly these from now on."""
        if names != self.names:
            self.names = names
            self._catch_up.watch(names)
            self._staleness.expect(names, self.clock_ms())
            self._known &= names
            self._traded &= names
            for name in self._complaints.keys() - names:
                del self._complaints[name]
            for name in self._begun_ns.keys() - names:
                del self._begun_ns[name]

    def connected(self, label: str) -> frozenset[str]:
        """Take note of a new connection; return the instruments that were read over an earlier one."""
        self.connects += 1
        self.heard_ms = self.clock_ms()
        self._complaints.clear()
        away_ms = self.provider_ms - (self._complete_ms or self.provider_ms)
        if away_ms > self._holding.longest_ms:
            self._catch_up.watch(())
            self._catch_up.watch(self.names)
            self._known = frozenset()
            self._begun_ns.clear()
            self._traded.clear()
            self._doubts.note(
                label, f"What {label} traded in {away_ms // 3_600_000} hours without a connection is missing."
            )
        return self._known | self._begun_ns.keys()

    def expect(self, name: str) -> None:
        """Hold what comes of an instrument back until `resume`, where something may be missing before it."""
        begun_ms = self.provider_ms - _UNCERTAIN_MS
        if name not in self._known:
            self._begun_ns.setdefault(name, begun_ms * _NS_PER_MS)
        self._catch_up.connected((name,), self.clock_ms(), begun_ms, None)

    def resume(self, name: str) -> None:
        """Have what came since the last trade of an instrument fetched."""
        self.expect(name)
        self._catch_up.subscribed((name,), self.clock_ms())

    def asks(self) -> list[Ask]:
        """Return what is to be fetched now."""
        return self._catch_up.asks(self.clock_ms())

    def has_traded(self, name: str) -> bool:
        """Tell whether a trade of an instrument is known, which later ones have to join."""
        return name in self._traded

    def since_it_is_read(self, name: str, rows: Iterable[Row]) -> list[Row]:
        """Return the trades without those of a time when nobody had asked for the instrument yet."""
        begun_ns = self._begun_ns.get(name, 0)
        return [row for row in rows if row.time_ns >= begun_ns]

    def take(self, rows: Iterable[Row]) -> None:
        """Take trades in."""
        now_ms, limit_ns = self.clock_ms(), (self.provider_ms + _FUTURE_MS) * _NS_PER_MS
        self.heard_ms = now_ms
        for row in rows:
            name = str(row.values["instrument"])
            if not row.backfilled:
                self._staleness.heard(name, now_ms)
            if row.time_ns == 0:  # without a time; it is refused further on
                self._ready.append(row.values)
                continue
            sane = row if row.time_ns <= limit_ns else replace(row, time_ns=limit_ns)
            self._put(self._catch_up.take(sane, now_ms))

    def answered(self, name: str, *, whole: bool, label: str) -> None:
        """Take note that all there was of a question has been taken in; whole: it joins what was known."""
        self._put(self._catch_up.answered(name, self.clock_ms()))
        if not whole and name in self.names:
            self._doubts.note(
                name, f"Trades of {name} may be missing, since {label} does not tell its past that far back."
            )

    def failed(self, name: str, retry_after_s: float | None) -> None:
        """Take note that a question came to nothing."""
        self._put(self._catch_up.failed(name, self.clock_ms(), retry_after_s))

    def refused(self, name: str, sentence: str) -> None:
        """Take note that the exchange wants nothing to do with an instrument."""
        self._complaints[name] = sentence

    def tell(self, phase: Phase, sentence: str = "", retry_ms: int | None = None) -> None:
        """Say how the connection is; receiving and idle have a sentence already."""
        self._state = ConnectionState(phase, sentence, self.clock_ms(), retry_ms)
        self._reporting.tell(self._told())

    def batch(self, heard_ms: int | None) -> Batch | None:
        """Return what is ready to go on, or None; heard_ms: up to when, by our clock, all was delivered."""
        now_ms = self.clock_ms()
        self._put(self._catch_up.overdue(now_ms))
        complete_ms = None if heard_ms is None else heard_ms + round(self.skew.ms or 0) - _UNCERTAIN_MS
        news = complete_ms is not None and complete_ms > (self._complete_ms or 0)
        if self._reporting.due(now_ms):
            self._reporting.tell(self._told())
        if not self._ready and not (news and now_ms - self._batch_ms >= _QUIET_BATCH_MS):
            return None
        self._complete_ms, self._batch_ms = complete_ms if news else self._complete_ms, now_ms
        rows, self._ready = self._ready, []
        cursor = json.dumps({"complete_ms": self._complete_ms, "lanes": self._catch_up.state()})
        return Batch(table(rows), cursor, complete_ms if news else None)

    def _put(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._ready.append(row.values)
            self._traded.add(str(row.values["instrument"]))

    def _told(self) -> ConnectionState:
        state = self._state
        return replace(
            state,
            sentence=state.sentence or self._sentence(),
            heard_ms=self.heard_ms,
            connects=self.connects,
            skew_ms=self.skew.ms,
            gaps=self._catch_up.gaps + self._doubts.count,
            backfilled=self._catch_up.backfilled,
            missing=self._catch_up.missing,
            gap=self._doubts.sentence,
            stale=self._staleness.stale(self.clock_ms()),
        )

    def _sentence(self) -> str:
        if not self.names:
            return "Nothing of it is picked; pick instruments on the Instruments page."
        parts = ["Prices arrive." if self.settled else "Prices arrive; what was missed is being fetched."]
        if abs(skew_ms := self.skew.ms or 0) >= _NOTABLE_SKEW_MS:
            parts.append(f"Its clock is {abs(skew_ms) / 1_000:.0f} s {'ahead of' if skew_ms > 0 else 'behind'} ours.")
        complaints = list(self._complaints.values())
        more = len(complaints) - _MOST_SHOWN
        parts += [*complaints[:_MOST_SHOWN], *([f"So it is with {more} more."] if more > 0 else [])]
        parts += [self._doubts.sentence] if self._doubts.sentence else []
        return " ".join(parts)
