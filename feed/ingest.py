"""The feed process: keeps one provider's prices flowing into the tick log, and the log in shape.

Run as `python -m feed.ingest --home DIR`; it ends on SIGTERM after the batch in hand.
"""

import logging
import sys
import threading
from collections.abc import Callable

from control.errors import ControlError
from control.home import Home
from control.instruments.store import Instruments
from control.kafka.access import password
from control.kafka.settings import KafkaConnection
from control.keys.store import KeyStore
from control.machine.ports import LOOPBACK, read_ports
from control.machine.service import serve
from control.people.roles import FEED
from control.settings_file import SettingsError
from feed.intake import Intake
from feed.market.key import SECRET_NAME
from feed.provider import Provider, ProviderError
from feed.providers.kafka import KafkaProvider
from feed.providers.market import MarketProvider
from feed.providers.replay import ReplayProvider
from feed.settings import FeedSettings
from feed.ticklog import TickLog
from feed.upkeep import Upkeep
from feed.wanted import Wanted

logger = logging.getLogger(__name__)

RETRY_S = 5.0


def provider_of(settings: FeedSettings, home: Home, wanted: Callable[[], frozenset[str] | None]) -> Provider:
    """Return the provider the settings name; `wanted` tells it which instruments to read, at any moment."""
    if settings.provider == "replay":
        return ReplayProvider(settings.files, settings.columns, settings.speed)
    topic = settings.kafka
    if settings.provider == "kafka" and topic is not None:
        return KafkaProvider(topic, settings.columns, lambda: _password(home, topic))
    ports = read_ports(home)
    if ports is None:
        raise SettingsError("The demo market has no port yet; start Barmill with ./barmill up.")
    return MarketProvider(f"http://{LOOPBACK}:{ports.market}", lambda: _key(home, SECRET_NAME), wanted)


def _key(home: Home, name: str) -> str:
    """Look a key up at the moment of its use."""
    try:
        with KeyStore.open(home, FEED) as store:
            return store.reveal(name)
    except ControlError as error:
        raise ProviderError(str(error)) from error


def _password(home: Home, brokers: KafkaConnection) -> str | None:
    """Look the password for Kafka up at the moment of its use."""
    try:
        return password(home, brokers, FEED)
    except ControlError as error:
        raise ProviderError(str(error)) from error


def feed(settings: FeedSettings, home: Home, stop: threading.Event) -> None:
    """Run the provider until `stop`, taking it up again after every problem it reports."""
    with TickLog.open(home.ticks_db) as log, Instruments.open(home) as instruments:
        wanted = Wanted(instruments, settings.provider)
        provider = provider_of(settings, home, wanted.names)
        log.end_other_sources(provider.name)
        intake = Intake(
            log,
            provider,
            duplicate_window_ms=settings.duplicate_window_ms,
            future_tolerance_ms=settings.future_tolerance_ms,
        )
        upkeep = Upkeep(log.db, keep_days=settings.keep_days, keep_bytes=int(settings.keep_gb * 1e9))
        with wanted.followed(provider, stop):
            while not stop.is_set():
                try:
                    for _ in intake.run(stop):
                        upkeep.do_what_is_due()
                    stop.wait()  # a replay has ended; staying says so better than being started again for ever
                except ProviderError as error:
                    logger.warning("%s Trying again in %.0f s.", error, RETRY_S)
                    log.report_problem(provider.name, str(error))
                    wanted.fetch_soon()
                    stop.wait(RETRY_S)


def run(home: Home, stop: threading.Event) -> int:
    """Run the feed of this home until told to stop."""
    try:
        feed(FeedSettings.read(home), home, stop)
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    # Two writers would hand out the same sequence numbers.
    sys.exit(serve("ingest", "Barmill's feed: prices in, tick log out.", run))
