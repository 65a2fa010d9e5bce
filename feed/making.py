"""From a feed to the provider that reads it: the one place where both are known."""

from collections.abc import Callable, Sequence

from control.errors import ControlError
from control.home import Home
from control.kafka.access import password
from control.kafka.settings import KafkaConnection
from control.keys.hosts import is_loopback
from control.keys.store import KeyStore
from control.machine.ports import LOOPBACK, read_ports
from control.people.roles import FEED
from control.settings_file import SettingsError
from feed.connection.guard import FeedsAccess, Guard
from feed.connection.state import Phase, Report
from feed.feeds import Feed, KafkaFeed, MarketFeed, Settings, hosts_of, settings_of
from feed.market.key import SECRET_NAME
from feed.names import Named
from feed.provider import Provider, ProviderError
from feed.providers.ccxt.provider import CcxtProvider
from feed.providers.ccxt.settings import CcxtFeed
from feed.providers.kafka import KafkaProvider
from feed.providers.market import MarketProvider
from feed.providers.replay import ReplayProvider
from feed.providers.rest.provider import RestProvider
from feed.providers.rest.settings import RestFeed
from feed.providers.websocket.provider import WebSocketProvider
from feed.providers.websocket.settings import WebSocketFeed
from feed.settings import FeedSettings

Wanted = Callable[[], frozenset[str] | None]


class KeyMissingError(ProviderError):
    """The key cannot be had from the key store; its page says why."""

    phase = Phase.REFUSED


def provider_of(feed: Feed, first: FeedSettings, home: Home, wanted: Wanted, report: Report) -> Provider:
    """Return the provider of a feed; raise ControlError where it cannot be made.

    first: what feed.json says. wanted: which instruments to read, as the provider calls them, at any moment.
    """
    if feed.first:
        return _first(first, home, wanted, report)
    return Named(feed.name, _added(feed, home, wanted, report))


def _first(settings: FeedSettings, home: Home, wanted: Wanted, report: Report) -> Provider:
    if settings.provider == "replay":
        return ReplayProvider(settings.files, settings.columns, settings.speed)
    topic = settings.kafka
    if settings.provider == "kafka" and topic is not None:
        return KafkaProvider(topic, settings.columns, lambda: _password(home, topic), report)
    ports = read_ports(home)
    if ports is None:
        raise SettingsError("The demo market has no port yet; start Barmill with ./barmill up.")
    return MarketProvider(ports.market_url, lambda: _key(home, SECRET_NAME), wanted, report=report)


def _added(feed: Feed, home: Home, wanted: Wanted, report: Report) -> Provider:
    settings = settings_of(feed.kind, feed.settings)
    match settings:
        case MarketFeed():
            key_of = _key_of(feed, home, settings) or (lambda: "")
            return MarketProvider(f"http://{LOOPBACK}:{settings.port}", key_of, wanted, report=report)
        case KafkaFeed():
            _check_encrypted(settings, FeedsAccess.read(home))
            return KafkaProvider(
                settings, settings.columns, lambda: _password(home, settings, hosts_of(settings)), report
            )
        case RestFeed():
            guard = Guard(FeedsAccess.read(home))
            return RestProvider(feed.name, settings, _key_of(feed, home, settings), wanted, report, guard=guard)
        case WebSocketFeed():
            guard = Guard(FeedsAccess.read(home))
            return WebSocketProvider(feed.name, settings, _key_of(feed, home, settings), wanted, report, guard=guard)
        case CcxtFeed():
            return CcxtProvider(feed.name, settings, _key_of(feed, home, settings), wanted, report)


def _check_encrypted(settings: KafkaFeed, access: FeedsAccess) -> None:
    """Raise SettingsError where a password would be sent as it is over a network that others may read."""
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
    return None if name is None else lambda: _key(home, name, hosts)


def _key(home: Home, name: str, hosts: Sequence[str] | None = None) -> str:
    """Look a key up at the moment of its use; hosts: where a feed sends it."""
    try:
        with KeyStore.open(home, FEED) as store:
            return store.reveal(name, hosts)
    except ControlError as error:
        raise KeyMissingError(str(error)) from error


def _password(home: Home, brokers: KafkaConnection, hosts: Sequence[str] | None = None) -> str | None:
    """Look the password for Kafka up at the moment of its use; hosts: where a feed sends it."""
    try:
        return password(home, brokers, FEED, hosts)
    except ControlError as error:
        raise KeyMissingError(str(error)) from error
