"""Creation of a feed's provider from the settings of the feed, with its API key or password."""

from collections.abc import Callable, Sequence

from barmill.audit.roles import FEED
from barmill.ingest.connection.guard import FeedsAccess, Guard
from barmill.ingest.connection.provider import Provider, ProviderError
from barmill.ingest.connection.state import Phase, Report
from barmill.ingest.feeds.feed import Feed
from barmill.ingest.feeds.settings import KafkaFeed, MarketFeed, Settings, hosts_of, settings_of
from barmill.ingest.instruments.names import PrefixedProvider
from barmill.ingest.instruments.selection import SelectedNames
from barmill.ingest.providers.ccxt.provider import CcxtProvider
from barmill.ingest.providers.ccxt.settings import CcxtFeed
from barmill.ingest.providers.kafka import KafkaProvider
from barmill.ingest.providers.market import MarketProvider
from barmill.ingest.providers.replay import ReplayProvider
from barmill.ingest.providers.rest.provider import RestProvider
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.ingest.providers.websocket.provider import WebSocketProvider
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.kafka.access import password
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaConnection
from barmill.platform.ports import LOOPBACK, read_ports
from barmill.platform.settings_file import SettingsError
from barmill.secrets.hosts import is_loopback
from barmill.secrets.store import KeyStore
from barmill.simulator.access import SECRET_NAME


class KeyMissingError(ProviderError):
    """The key or password is not available from the key store; the message says why."""

    phase = Phase.REFUSED


def provider_of(
    feed: Feed, first_settings: FeedSettings, home: Home, selected: SelectedNames, report: Report
) -> Provider:
    """Return the provider of a feed; raise ControlError if it cannot be created.

    first_settings: the settings in feed.json. selected: returns the instruments to read now, by the provider's names,
    or None for everything. report: receives each new state of the connection.
    """
    if feed.is_first:
        return _first_provider(first_settings, home, selected, report)
    return PrefixedProvider(feed.name, _added_provider(feed, home, selected, report))


def _first_provider(settings: FeedSettings, home: Home, selected: SelectedNames, report: Report) -> Provider:
    if settings.provider == "replay":
        return ReplayProvider(settings.files, settings.columns, settings.speed)
    topic = settings.kafka
    if settings.provider == "kafka" and topic is not None:
        return KafkaProvider(topic, settings.columns, lambda: _read_password(home, topic), report)
    ports = read_ports(home)
    if ports is None:
        raise SettingsError("The demo market is not running yet; start Barmill with ./barmill up.")
    return MarketProvider(ports.market_url, lambda: _read_key(home, SECRET_NAME), selected, report=report)


def _added_provider(feed: Feed, home: Home, selected: SelectedNames, report: Report) -> Provider:
    settings = settings_of(feed.kind, feed.settings)
    match settings:
        case MarketFeed():
            key_of = _key_of(feed, home, settings) or (lambda: "")
            return MarketProvider(f"http://{LOOPBACK}:{settings.port}", key_of, selected, report=report)
        case KafkaFeed():
            _check_encrypted(settings, FeedsAccess.read(home))
            return KafkaProvider(
                settings, settings.columns, lambda: _read_password(home, settings, hosts_of(settings)), report
            )
        case RestFeed():
            guard = Guard(FeedsAccess.read(home))
            return RestProvider(feed.name, settings, _key_of(feed, home, settings), selected, report, guard=guard)
        case WebSocketFeed():
            guard = Guard(FeedsAccess.read(home))
            return WebSocketProvider(feed.name, settings, _key_of(feed, home, settings), selected, report, guard=guard)
        case CcxtFeed():
            return CcxtProvider(feed.name, settings, _key_of(feed, home, settings), selected, report)


def _check_encrypted(settings: KafkaFeed, access: FeedsAccess) -> None:
    """Raise SettingsError if a password would be sent unencrypted to a machine that is neither this one nor allowed."""
    if settings.protocol != "SASL_PLAINTEXT" or settings.mechanism != "PLAIN":
        return
    for host in hosts_of(settings):
        if not is_loopback(host) and host not in access.allow:
            raise SettingsError(
                f"The password would be sent to {host} without TLS; use SASL_SSL or a SCRAM mechanism, or allow the"
                f" host in {FeedsAccess.file_name}."
            )


def _key_of(feed: Feed, home: Home, settings: Settings) -> Callable[[], str] | None:
    name, hosts = feed.key, hosts_of(settings)
    return None if name is None else lambda: _read_key(home, name, hosts)


def _read_key(home: Home, name: str, hosts: Sequence[str] | None = None) -> str:
    """Return a key from the store, read at the moment of use; raise KeyMissingError if it is not available.

    hosts: where a feed sends it.
    """
    try:
        with KeyStore.open(home, FEED) as store:
            return store.reveal(name, hosts)
    except ControlError as error:
        raise KeyMissingError(str(error)) from error


def _read_password(home: Home, brokers: KafkaConnection, hosts: Sequence[str] | None = None) -> str | None:
    """Return the password for Kafka, read at the moment of use; raise KeyMissingError if it is not available.

    hosts: where a feed sends it.
    """
    try:
        return password(home, brokers, FEED, hosts)
    except ControlError as error:
        raise KeyMissingError(str(error)) from error
