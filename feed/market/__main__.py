"""Run the demo market: python -m feed.market --port PORT --home FOLDER [--rate FACTOR]."""

import argparse
import asyncio
import fcntl
import logging
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from control.home import Home
from control.machine.ports import LOOPBACK
from feed.market.access import AccessKeys
from feed.market.api import MarketApi
from feed.market.exchange import Exchange
from feed.market.history import DEFAULT_MAX_TICKS, History

logger = logging.getLogger("feed.market")

MAX_CONNECTIONS = 200
# What the kernel holds for a client that does not read; without a bound it grows to megabytes for each.
SEND_BUFFER_BYTES = 256 * 1024


class MarketStartError(Exception):
    """The demo market cannot run; the sentence says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    home: Home
    address: str
    port: int
    rate: float
    history_ticks: int
    past_ms: int


def read_settings(arguments: Sequence[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m feed.market", description="Serve simulated prices.")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one and logs it")
    parser.add_argument("--address", default=LOOPBACK, help="where to listen (default %(default)s)")
    parser.add_argument("--home", type=Path, required=True, help="Barmill's home; the market keeps to market/ in it")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the total rate of about 120 ticks a second")
    parser.add_argument(
        "--history-ticks", type=int, default=DEFAULT_MAX_TICKS, help="how many ticks to keep (an hour of them at most)"
    )
    parser.add_argument(
        "--past-minutes", type=int, default=0, choices=range(61), metavar="M", help="a new market opened M minutes ago"
    )
    given = parser.parse_args(arguments)
    if not 0 < given.rate <= 10_000:
        parser.error("--rate must be above 0 and at most 10000.")
    if given.history_ticks < 1:
        parser.error("--history-ticks must be at least 1.")
    past_ms = given.past_minutes * 60_000
    return Settings(Home(given.home), given.address, given.port, given.rate, given.history_ticks, past_ms)


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Run the exchange and its server until a signal ends them."""
    history = History.open(settings.home.market / "history.sqlite", settings.history_ticks)
    try:
        exchange = Exchange(history, np.random.default_rng(), settings.rate, past_ms=settings.past_ms)
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

        # Uvicorn repeats a signal once it is done; then this handler lets the process end by itself, with status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        logger.info("Demo market with simulated prices on http://%s:%d", *listener.getsockname())
        trading = asyncio.create_task(exchange.run(lambda: server.should_exit))
        trading.add_done_callback(lambda _: stop(0, None))  # a market that fails must not look alive
        await server.serve([listener])
        await trading
    finally:
        history.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo market; return the exit status."""
    settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings.home.market.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _listening(settings.address, settings.port) as listener, _alone(settings.home.market / "market.lock"):
            asyncio.run(serve(settings, listener))
    except MarketStartError as error:
        logger.error("%s", error)
        return 1
    except (sqlite3.Error, OSError) as error:
        logger.error("The demo market cannot keep its history in %s: %s.", settings.home.market, error)
        return 1
    return 0


@contextmanager
def _listening(address: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((address, port))
    except (OSError, OverflowError) as error:
        reason = f"Port {port} on {address} cannot be used ({error}); choose another with --port."
        raise MarketStartError(reason) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        yield listener


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the home's market against a second one, which would give out the same cursors again."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MarketStartError("Another demo market runs on this home already; stop it first.") from error
        yield


if __name__ == "__main__":
    sys.exit(main())
