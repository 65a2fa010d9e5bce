"""Turns: how many requests of one account may run at once and how many may wait, so that none takes all threads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import Semaphore


class TooManyRequestsError(Exception):
    """As many requests of this account wait as may; this one has to come again later."""


class Turns:
    """at_once: requests of one account that run. waiting: those that wait for it; more are refused."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, at_once + waiting
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def turn(self, account: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it; raise TooManyRequestsError at once where too many wait already."""
        queue = self._queues.setdefault(account, _Queue(Semaphore(self._at_once)))
        if queue.held >= self._most:
            raise TooManyRequestsError
        queue.held += 1
        try:
            async with queue.turns:
                yield
        finally:
            queue.held -= 1
            if not queue.held:
                del self._queues[account]


@dataclass
class _Queue:
    turns: Semaphore
    held: int = field(default=0)
