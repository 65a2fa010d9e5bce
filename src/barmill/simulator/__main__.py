"""The demo market as a program: python -m barmill.simulator --port PORT --home FOLDER [OPTION]..."""

import argparse
import asyncio
import logging
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from barmill.platform.clock import MS_PER_DAY, MS_PER_MINUTE
from barmill.platform.home import Home
from barmill.platform.locks import exclusive
from barmill.platform.ports import LOOPBACK
from barmill.simulator.access import AccessKeys
from barmill.simulator.api import MarketApi
from barmill.simulator.exchange import Exchange
from barmill.simulator.history import DEFAULT_MAX_TICKS, History

logger = logging.getLogger("barmill.simulator")

MAX_CONNECTIONS = 200
MAX_BACKFILL_DAYS = 31
# The kernel's buffer for a client that does not read. Without a limit it grows to megabytes per client.
SEND_BUFFER_BYTES = 256 * 1024


class MarketStartError(Exception):
    """The demo market cannot run. The message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """The settings from the command line."""

    home: Home
    address: str
    port: int
    rate: float
    history_ticks: int
    past_ms: int
    backfill_ms: int


def read_settings(arguments: Sequence[str]) -> Settings:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m barmill.simulator", description="Serve simulated prices.")
    parser.add_argument("--port", type=int, required=True, help="0 selects a free port and logs it")
    parser.add_argument("--address", default=LOOPBACK, help="address to listen on (default %(default)s)")
    parser.add_argument("--home", type=Path, required=True, help="Barmill's home; the market only uses market/ in it")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="factor on the total rate of about 120 ticks per second"
    )
    parser.add_argument(
        "--history-ticks",
        type=int,
        default=DEFAULT_MAX_TICKS,
        help="maximum number of ticks to keep (at most one hour)",
    )
    parser.add_argument(
        "--past-minutes",
        type=int,
        default=0,
        choices=range(61),
        metavar="M",
        help="a new market already has M minutes of ticks",
    )
    parser.add_argument(
        "--backfill-days",
        type=int,
        default=0,
        choices=range(MAX_BACKFILL_DAYS + 1),
        metavar="D",
        help="a new market also offers sparser prices of the D days before that",
    )
    parsed = parser.parse_args(arguments)
    if not 0 < parsed.rate <= 10_000:
        parser.error("--rate must be above 0 and at most 10000.")
    if parsed.history_ticks < 1:
        parser.error("--history-ticks must be at least 1.")
    past_ms, backfill_ms = parsed.past_minutes * MS_PER_MINUTE, parsed.backfill_days * MS_PER_DAY
    return Settings(
        Home(parsed.home), parsed.address, parsed.port, parsed.rate, parsed.history_ticks, past_ms, backfill_ms
    )


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Run the exchange and its server until a signal arrives or the exchange fails; raise the error of the exchange."""
    history = History.open(settings.home.market / "history.sqlite", settings.history_ticks)
    try:
        exchange = Exchange(
            history,
            np.random.default_rng(),
            settings.rate,
            past_ms=settings.past_ms,
            backfill_ms=settings.backfill_ms,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                MarketApi(exchange, AccessKeys.of(settings.home)).app(),
                headers=[("X-Simulated", "true")],
                server_header=False,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )

        def stop(_signal: int, _frame: object) -> None:
            server.should_exit = True

        # Uvicorn raises a captured signal again when it is done. This handler then lets the process exit with status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        logger.info("Demo market with simulated prices at http://%s:%d", *listener.getsockname())
        market_task = asyncio.create_task(exchange.run(lambda: server.should_exit))
        market_task.add_done_callback(lambda _: stop(0, None))  # a failed market must not look alive
        await server.serve([listener])
        await market_task
    finally:
        history.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo market. Return the exit status."""
    settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings.home.market.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _listener(settings.address, settings.port) as listener, _exclusive(settings.home.market / "market.lock"):
            asyncio.run(serve(settings, listener))
    except MarketStartError as error:
        logger.error("%s", error)
        return 1
    except (sqlite3.Error, OSError) as error:
        logger.error("The demo market cannot store its history in %s: %s.", settings.home.market, error)
        return 1
    return 0


@contextmanager
def _listener(address: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((address, port))
    except (OSError, OverflowError) as error:
        reason = f"Port {port} on {address} cannot be used ({error}); choose another port with --port."
        raise MarketStartError(reason) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        yield listener


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Lock the home's market against a second process, which would issue the same cursors again."""
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path, wait=False))
        except BlockingIOError as error:
            raise MarketStartError("Another demo market is already running for this home; stop it first.") from error
        yield


if __name__ == "__main__":
    sys.exit(main())
