"""A run of the ccxt provider: one connection after the other, with pauses by what ended the last."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from feed.connection.catch_up import Holding
from feed.connection.errors import KeyRefusedError, QuestionError
from feed.connection.reconnect import Attempts, Patience, Spread
from feed.connection.state import Phase, Report
from feed.provider import Batch, ProviderError
from feed.providers.ccxt.connection import LOOK_S, Connection, Markets
from feed.providers.ccxt.desk import Desk
from feed.providers.ccxt.exchanges import has_history
from feed.providers.ccxt.failures import MisfitError
from feed.providers.ccxt.opening import opened
from feed.providers.ccxt.quirks import quirks
from feed.providers.ccxt.settings import CcxtFeed

_RESTS = " It failed so often that it is only tried now and then."


class Session:
    """What the provider knows while it runs."""

    def __init__(
        self,
        settings: CcxtFeed,
        key_of: Callable[[], str] | None,
        report: Report,
        *,
        patience: Patience,
        holding: Holding,
        clock_ms: Callable[[], int],
        spread: Spread,
        overrides: Mapping[str, object],
    ) -> None:
        self._settings, self._key_of, self._overrides = settings, key_of, overrides
        self._quirks = quirks(settings.exchange)
        self._desk = Desk(
            report,
            holding,
            clock_ms,
            spread,
            consecutive=self._quirks.consecutive,
            fetches=has_history(settings.exchange),
        )
        self._attempts = Attempts(patience, spread)
        self._markets = Markets()
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._stumbled: Exception | None = None
        self._heard_ms: int | None = None
        self._stood_s = 0.0

    def restore(self, cursor: str | None) -> None:
        """Go on from a cursor of this provider."""
        self._desk.restore(cursor)

    def follow(self, wanted: frozenset[str]) -> None:
        """Read exactly these from now on."""
        self._desk.follow(wanted)

    async def next_batch(self) -> Batch | None:
        """Let connections do their work for a moment; return what is ready to go on."""
        if self._task is None:
            asyncio.get_running_loop().set_exception_handler(self._note)
            self._task = asyncio.create_task(self._run())
        await asyncio.sleep(LOOK_S)
        # What had been heard at the last look has been taken in by now; what has just been heard, perhaps not.
        heard_ms = self._heard_ms
        self._heard_ms = self._connection.delivered_to_ms() if self._connection is not None else None
        if not self._desk.names:
            heard_ms = self._desk.clock_ms()
        return self._desk.batch(heard_ms)

    def check(self) -> None:
        """Raise what ended the run, if it has ended."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self) -> None:
        """Connect again and again, until a person has to mend something."""
        desk = self._desk
        desk.tell(Phase.IDLE)
        while True:
            if not desk.names:
                await asyncio.sleep(LOOK_S)
                continue
            try:
                await self._connect()
                desk.tell(Phase.IDLE)
            except KeyRefusedError as error:
                desk.tell(Phase.REFUSED, str(error))
                raise ProviderError(str(error)) from None
            except MisfitError as error:
                desk.tell(Phase.BROKEN, str(error))
                raise ProviderError(str(error)) from None
            except QuestionError as error:
                pause = self._attempts.failed(error, self._stood_s)
                rests = _RESTS if pause.phase is Phase.RESTING else ""
                desk.tell(pause.phase, f"{error}{rests}", desk.clock_ms() + round(pause.seconds * 1_000))
                await asyncio.sleep(pause.seconds)

    async def _connect(self) -> None:
        key = self._key_of() if self._key_of is not None else ""
        self._desk.tell(Phase.CONNECTING, f"Connecting to {self._settings.exchange}.")
        self._stumbled, self._stood_s = None, 0.0
        async with opened(self._settings, key, self._overrides) as found:
            self._connection = Connection(found, self._settings, self._quirks, self._desk, lambda: self._stumbled)
            try:
                await self._connection.run(self._markets)
            finally:
                self._stood_s, self._connection = self._connection.stood_s, None

    def _note(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Take note of an error in a callback: ccxt reads messages in callbacks, and stops reading for good then."""
        error = context.get("exception")
        if "handle" in context and isinstance(error, Exception):
            self._stumbled = error
