"""The running demo market: makes a step every 100 ms, keeps what it gave out, and lets any number of clients read on.

Clients pull: each asks for what comes after its own cursor when it has room for it. Nothing is queued for a slow one,
so it can neither hold up the others nor fill the memory. All of this runs in one event loop, between whose turns
cursor, clock and history always agree.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import orjson

from bar.disk import PAUSE_S
from feed.market.history import History, Kept
from feed.market.instruments import INSTRUMENTS, Instrument
from feed.market.prices import MAX_STEP_MS, TickArray, advance, first_state
from feed.market.saved_state import dump_state, load_state

logger = logging.getLogger("feed.market")

STEP_S = 0.1
# A step before the promised 250 ms, since heartbeats go out with steps.
HEARTBEAT_S = 0.2
TICKS_PER_FLUSH = 1_000
# A market that lost its files begins with the microsecond it opens in, so that it never gives out a number twice: no
# market makes a million ticks a second.
_NUMBERS_PER_MS = 1_000


class Exchange:
    """The market's state, its clock, and what it has given out.

    past_ms: a market without a history starts so long ago, and has given out everything since, so that its charts are
    not empty at first.
    """

    def __init__(
        self,
        history: History,
        rng: np.random.Generator,
        rate: float = 1.0,
        instruments: tuple[Instrument, ...] = INSTRUMENTS,
        past_ms: int = 0,
    ) -> None:
        self._history, self._rng, self._rate = history, rng, rate
        self.instruments = instruments
        now_ms = _now_ms()
        first_number = now_ms * _NUMBERS_PER_MS
        saved = history.load()
        if saved is None:
            opened = first_state(instruments, now_ms - past_ms, first_number)
            self._state, self.newest_cursor = opened, first_number
        else:
            self._state, self.newest_cursor = load_state(saved[1], instruments, first_number), saved[0]
        self.oldest_cursor = history.oldest_cursor(self.newest_cursor)
        self.closed = False
        self._next_step = asyncio.Event()
        if saved is None:
            for to_ms in range(now_ms - past_ms + MAX_STEP_MS, now_ms, MAX_STEP_MS):
                self.step(to_ms)

    @property
    def clock_ms(self) -> int:
        """Return the market time up to which everything has been given out."""
        return self._state.clock_ms

    def step(self, to_ms: int) -> None:
        """Move the market on to this time and wake whoever waits for it."""
        state, ticks = advance(self._state, self.instruments, to_ms, self._rate, self._rng)
        if state is self._state:
            return
        first = self.newest_cursor + 1
        self._history.append(first, ticks.size, to_ms, self._lines(ticks, first), dump_state(state, self.instruments))
        self._state, self.newest_cursor = state, self.newest_cursor + ticks.size
        self.oldest_cursor = self._history.oldest_cursor(self.newest_cursor)
        self._wake()

    async def run(self, should_stop: Callable[[], bool]) -> None:
        """Make a step every 100 ms until stopped; then end all streams. A full disk makes it pause."""
        due_s = time.monotonic()
        try:
            while not should_stop():
                try:
                    self.step(_now_ms())
                except sqlite3.Error as error:  # the step is undone, so it can be made later
                    if not self._history.is_disk_full(error):
                        raise
                    logger.warning("The disk is full (%s): no prices until there is room.", error)
                    await asyncio.sleep(PAUSE_S)
                due_s = max(due_s + STEP_S, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())
        finally:
            self.closed = True
            self._wake()

    def read(self, after: int, max_ticks: int) -> Kept:
        """Return what comes after this cursor, with the time up to which it is everything."""
        kept = self._history.read(after, max_ticks)
        if kept is None or kept.cursor == self.newest_cursor:
            return Kept(kept.lines if kept else b"", self.newest_cursor, self.clock_ms)
        return kept

    async def stream(self, after: int, names: frozenset[str], may_go_on: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield lines of ticks and heartbeats from a cursor on, for the named instruments or, with no names, for all.

        Ends when the market closes, when the client is no longer welcome, or when it is so slow that its place in
        the history is gone.
        """
        last_sent_s = 0.0
        while not self.closed and after >= self.oldest_cursor and may_go_on():
            kept = self.read(after, TICKS_PER_FLUSH)
            after = kept.cursor
            lines = _only(kept.lines, names) if names else kept.lines
            if lines or time.monotonic() - last_sent_s >= HEARTBEAT_S:
                yield lines + _heartbeat(after, kept.to_ms)
                last_sent_s = time.monotonic()
            if after == self.newest_cursor:
                await self._next_step.wait()
            else:
                await asyncio.sleep(0)  # one client's long catching up must not keep the others waiting

    def _wake(self) -> None:
        self._next_step.set()
        self._next_step = asyncio.Event()

    def _lines(self, ticks: TickArray, first_cursor: int) -> bytes:
        lines = []
        for cursor, row in enumerate(ticks.tolist(), first_cursor):
            _, time_ms, of, price_open, price_close, volume, number = row
            one = self.instruments[of]
            tick = {
                "cursor": cursor,
                "time": time_ms,
                "instrument": one.name,
                # Whole numbers divided give the float nearest to the decimal, which prints as that decimal.
                "price_open": price_open / 10**one.price_decimals,
                "price_close": price_close / 10**one.price_decimals,
                "volume": volume / 10**one.volume_decimals if one.has_volume else None,
                "id": number,
            }
            lines.append(orjson.dumps(tick, option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(lines)


def _heartbeat(cursor: int, time_ms: int) -> bytes:
    return orjson.dumps({"heartbeat": True, "time": time_ms, "cursor": cursor}, option=orjson.OPT_APPEND_NEWLINE)


def _only(lines: bytes, names: frozenset[str]) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if orjson.loads(line)["instrument"] in names)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
