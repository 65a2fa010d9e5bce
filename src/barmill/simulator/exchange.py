"""The running demo market: advances every 200 ms, keeps its newest ticks, and serves any number of readers.

Clients pull: each requests what follows its cursor when it is ready. Nothing is queued for a slow client, so it can
neither delay others nor fill the memory. Everything runs in one event loop, so cursor, clock and history are always
consistent between two tasks.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import orjson

from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import PAUSE_S
from barmill.simulator.backfill import backfill
from barmill.simulator.history import Block, History, StoredTicks
from barmill.simulator.prices import (
    INSTRUMENTS,
    MAX_STEP_MS,
    Instrument,
    TickArray,
    advance,
    dump_state,
    first_state,
    load_state,
)

logger = logging.getLogger("barmill.simulator")

# Every batch of ticks costs its readers the same, however few ticks it has.
STEP_S = 0.2
# Shorter than a step, so that every step sends a heartbeat; clients expect one at least every 250 ms.
HEARTBEAT_S = 0.15
TICKS_PER_FLUSH = 1_000
# A market that lost its files starts numbering at the current microsecond. It never issues a number twice, since no
# market makes a million ticks a second.
_NUMBERS_PER_MS = 1_000


class Exchange:
    """The market's state, its clock, and what it has published.

    past_ms: a market without a history starts this long ago and has published everything since, so that its charts are
    not empty at first. backfill_ms: such a market also offers sparser ticks for this long before that.
    """

    def __init__(
        self,
        history: History,
        rng: np.random.Generator,
        rate: float = 1.0,
        instruments: tuple[Instrument, ...] = INSTRUMENTS,
        past_ms: int = 0,
        backfill_ms: int = 0,
    ) -> None:
        self._history, self._rng, self._rate = history, rng, rate
        self.instruments = instruments
        started_ms = now_ms()
        first_number = started_ms * _NUMBERS_PER_MS
        saved = history.load()
        self._is_new = saved is None
        if saved is None:
            self._state = first_state(instruments, started_ms - past_ms, first_number)
            self.newest_cursor = first_number
            if backfill_ms:
                self._backfill(backfill_ms, first_number)
        else:
            self._state, self.newest_cursor = load_state(saved[1], instruments, first_number), saved[0]
        self.oldest_cursor = history.oldest_cursor(self.newest_cursor)
        self.closed = False
        self._next_step = asyncio.Event()
        if saved is None:
            for to_ms in range(started_ms - past_ms + MAX_STEP_MS, started_ms, MAX_STEP_MS):
                self.step(to_ms)

    @property
    def clock_ms(self) -> int:
        """Return the market time up to which everything has been published."""
        return self._state.clock_ms

    def _backfill(self, backfill_ms: int, first_number: int) -> None:
        to_ms = self.clock_ms
        state, ticks = backfill(self.instruments, to_ms - backfill_ms, to_ms, first_number, self._rng)
        first, starts = self.newest_cursor + 1, range(0, ticks.size, TICKS_PER_FLUSH)

        def blocks() -> Iterator[Block]:
            for start in starts:
                part, rest = ticks[start : start + TICKS_PER_FLUSH], ticks[start + TICKS_PER_FLUSH :]
                # Ticks with equal times may be on both sides of a cut, so a block is complete only up to the time
                # before.
                complete_to_ms = int(rest["time_ms"][0]) - 1 if rest.size else to_ms
                yield Block(part.size, complete_to_ms, self._lines(part, first + start))

        self._history.begin(first, blocks(), dump_state(state, self.instruments), now_ms())
        self._state, self.newest_cursor = state, self.newest_cursor + ticks.size

    def step(self, to_ms: int) -> None:
        """Advance the market to this time and wake all waiting readers."""
        state, ticks = advance(self._state, self.instruments, to_ms, self._rate, self._rng)
        if state is self._state:
            return
        first = self.newest_cursor + 1
        self._history.append(first, ticks.size, to_ms, self._lines(ticks, first), dump_state(state, self.instruments))
        self._state, self.newest_cursor = state, self.newest_cursor + ticks.size
        self.oldest_cursor = self._history.oldest_cursor(self.newest_cursor)
        self._wake_readers()

    async def run(self, should_stop: Callable[[], bool]) -> None:
        """Advance every 200 ms until stopped, then end all streams. Pause while the disk is full."""
        due_s = time.monotonic()
        try:
            # Preparing the past takes time. Advance over that time too, to leave no gap before the live ticks.
            while self._is_new and now_ms() - self.clock_ms > MAX_STEP_MS:
                self.step(self.clock_ms + MAX_STEP_MS)
            self._is_new = False
            while not should_stop():
                try:
                    self.step(now_ms())
                except sqlite3.Error as error:  # the step is rolled back, so it can be made later
                    if not self._history.is_disk_full(error):
                        raise
                    logger.warning("The disk is full (%s); no prices until there is free space.", error)
                    await asyncio.sleep(PAUSE_S)
                due_s = max(due_s + STEP_S, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())
        finally:
            self.closed = True
            self._wake_readers()

    def read(self, after: int, max_ticks: int) -> StoredTicks:
        """Return about `max_ticks` ticks after this cursor, and the time up to which they are complete."""
        stored = self._history.read(after, max_ticks)
        if stored is None or stored.cursor == self.newest_cursor:
            return StoredTicks(stored.lines if stored else b"", self.newest_cursor, self.clock_ms)
        return stored

    async def stream(
        self, after: int, names: frozenset[str], is_authorized: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Yield lines of ticks and heartbeats from a cursor on, for the named instruments; no names mean all.

        Ends when the market closes, when `is_authorized` returns False, or when the client is so slow that its cursor
        has left the history.
        """
        last_sent_s = 0.0
        while not self.closed and after >= self.oldest_cursor and is_authorized():
            stored = self.read(after, TICKS_PER_FLUSH)
            after = stored.cursor
            lines = _select_lines(stored.lines, names) if names else stored.lines
            if lines or time.monotonic() - last_sent_s >= HEARTBEAT_S:
                yield lines + _heartbeat(after, stored.to_ms)
                last_sent_s = time.monotonic()
            if after == self.newest_cursor:
                await self._next_step.wait()
            else:
                await asyncio.sleep(0)  # one client catching up must not block the others

    def _wake_readers(self) -> None:
        self._next_step.set()
        self._next_step = asyncio.Event()

    def _lines(self, ticks: TickArray, first_cursor: int) -> bytes:
        lines = []
        for cursor, row in enumerate(ticks.tolist(), first_cursor):
            _, time_ms, index, price_open, price_close, volume, number = row
            instrument = self.instruments[index]
            tick = {
                "cursor": cursor,
                "time": time_ms,
                "instrument": instrument.name,
                # Dividing integers gives the float nearest to the decimal, which prints as that decimal.
                "price_open": price_open / 10**instrument.price_decimals,
                "price_close": price_close / 10**instrument.price_decimals,
                "volume": volume / 10**instrument.volume_decimals if instrument.has_volume else None,
                "id": number,
            }
            lines.append(orjson.dumps(tick, option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(lines)


def _heartbeat(cursor: int, time_ms: int) -> bytes:
    return orjson.dumps({"heartbeat": True, "time": time_ms, "cursor": cursor}, option=orjson.OPT_APPEND_NEWLINE)


def _select_lines(lines: bytes, names: frozenset[str]) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if orjson.loads(line)["instrument"] in names)
