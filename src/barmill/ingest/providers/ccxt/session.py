"""A run of the ccxt provider: consecutive connections, with pauses that depend on how the last one ended."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from barmill.ingest.connection.catch_up import HoldLimits
from barmill.ingest.connection.provider import Batch, ProviderError
from barmill.ingest.connection.reconnect import Attempts, Jitter, KeyRefusedError, ReconnectDelays, RequestError
from barmill.ingest.connection.state import Phase, Report
from barmill.ingest.providers.ccxt.connection import CHECK_EVERY_S, Connection, Markets
from barmill.ingest.providers.ccxt.history import history_query
from barmill.ingest.providers.ccxt.opening import UnsupportedSettingsError, open_exchange
from barmill.ingest.providers.ccxt.settings import CcxtFeed, has_history
from barmill.ingest.providers.ccxt.streams import TradeStreams

_RESTING_TEXT = " After many failures, connections are attempted less often."


class Session:
    """The provider's state while it runs."""

    def __init__(
        self,
        settings: CcxtFeed,
        key_of: Callable[[], str] | None,
        report: Report,
        *,
        reconnect_delays: ReconnectDelays,
        hold_limits: HoldLimits,
        clock_ms: Callable[[], int],
        jitter: Jitter,
        overrides: Mapping[str, object],
    ) -> None:
        self._settings, self._key_of, self._overrides = settings, key_of, overrides
        self._history_query = history_query(settings.exchange)
        self._trade_streams = TradeStreams(
            report,
            hold_limits,
            clock_ms,
            jitter,
            consecutive=self._history_query.consecutive,
            can_fetch=has_history(settings.exchange),
        )
        self._attempts = Attempts(reconnect_delays, jitter)
        self._markets = Markets()
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._callback_error: Exception | None = None
        self._heard_ms: int | None = None
        self._connected_s = 0.0

    def restore(self, cursor: str | None) -> None:
        """Continue from a cursor of this provider."""
        self._trade_streams.restore(cursor)

    def follow(self, names: frozenset[str]) -> None:
        """Read exactly these instruments from now on."""
        self._trade_streams.follow(names)

    async def next_batch(self) -> Batch | None:
        """Let the connections run briefly; return the rows that are ready, or None."""
        if self._task is None:
            asyncio.get_running_loop().set_exception_handler(self._record_callback_error)
            self._task = asyncio.create_task(self._run())
        await asyncio.sleep(CHECK_EVERY_S)
        # Everything received before the previous check has been processed by now; later data perhaps not.
        heard_ms = self._heard_ms
        self._heard_ms = self._connection.delivered_to_ms() if self._connection is not None else None
        if not self._trade_streams.names:
            heard_ms = self._trade_streams.clock_ms()
        return self._trade_streams.batch(heard_ms)

    def check(self) -> None:
        """Raise the error that ended the run, if it has ended."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self) -> None:
        """Reconnect until an error needs action by a person."""
        trade_streams = self._trade_streams
        trade_streams.report_state(Phase.IDLE)
        while True:
            if not trade_streams.names:
                await asyncio.sleep(CHECK_EVERY_S)
                continue
            try:
                await self._connect()
                trade_streams.report_state(Phase.IDLE)
            except KeyRefusedError as error:
                trade_streams.report_state(Phase.REFUSED, str(error))
                raise ProviderError(str(error)) from None
            except UnsupportedSettingsError as error:
                trade_streams.report_state(Phase.BROKEN, str(error))
                raise ProviderError(str(error)) from None
            except RequestError as error:
                pause = self._attempts.next_pause(error, self._connected_s)
                resting_text = _RESTING_TEXT if pause.phase is Phase.RESTING else ""
                trade_streams.report_state(
                    pause.phase, f"{error}{resting_text}", trade_streams.clock_ms() + round(pause.seconds * 1_000)
                )
                await asyncio.sleep(pause.seconds)

    async def _connect(self) -> None:
        key = self._key_of() if self._key_of is not None else ""
        self._trade_streams.report_state(Phase.CONNECTING, f"Connecting to {self._settings.exchange}.")
        self._callback_error, self._connected_s = None, 0.0
        async with open_exchange(self._settings, key, self._overrides) as opened:
            self._connection = Connection(
                opened, self._settings, self._history_query, self._trade_streams, lambda: self._callback_error
            )
            try:
                await self._connection.run(self._markets)
            finally:
                self._connected_s, self._connection = self._connection.connected_s, None

    def _record_callback_error(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Record an error in a callback, because ccxt reads messages in callbacks and stops after an error."""
        error = context.get("exception")
        if "handle" in context and isinstance(error, Exception):
            self._callback_error = error
