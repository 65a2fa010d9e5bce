"""User actions on feeds: add, edit, enable, disable, delete; and the ready-made feeds. Ingest follows changes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from barmill.audit.actions import Change, action
from barmill.audit.roles import Actor, Permission
from barmill.ingest.connection.provider import ReadyMade
from barmill.ingest.feeds.feed import Feed, FeedError, Feeds
from barmill.ingest.feeds.settings import KafkaFeed, MarketFeed, hosts_of, settings_of, settings_to_store
from barmill.ingest.instruments.names import FIRST_FEED_NAMES, is_feed_name
from barmill.ingest.instruments.store import delete_catalogue
from barmill.ingest.providers.ccxt.settings import READY_MADE_CCXT
from barmill.ingest.providers.rest.ready_made import READY_MADE_REST
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.ingest.providers.websocket import ready_made as websocket
from barmill.platform.clock import now_ms
from barmill.platform.errors import redact
from barmill.secrets.hosts import check_hosts
from barmill.secrets.records import find_row


def _ready_made_websocket(name: str, label: str, note: str, *, needs_key: bool = False) -> ReadyMade:
    settings = websocket.FEEDS[name].model_dump_json(indent=2, exclude_defaults=True)
    return ReadyMade(label, "websocket", settings, needs_key, note)


READY_MADE: Mapping[str, ReadyMade] = {
    "demo-market": ReadyMade(
        "Another demo market",
        "market",
        '{\n  "port": 8600\n}',
        needs_key=True,
        note="The demo market of another Barmill on this machine. Enter the port that its status shows, and choose a"
        " stored key of that market. Prices are simulated.",
    ),
    "kafka-topic": ReadyMade(
        "A topic on Kafka",
        "kafka",
        '{\n  "bootstrap": "localhost:9092",\n  "topic": "prices"\n}',
        note="One JSON object per message, with time, instrument and price. Map other field names with columns.",
    ),
    **READY_MADE_REST,
    "binance": _ready_made_websocket(
        "binance",
        "Binance spot trades",
        "Every trade; fills of one order at one price count as one trade. Trades missed during a disconnect are fetched"
        " later. Instruments have names such as BTCUSDT. No key is needed.",
    ),
    "coinbase": _ready_made_websocket(
        "coinbase",
        "Coinbase Exchange trades",
        "Every trade. Trades missed during a disconnect are fetched later. Instruments have names such as BTC-USD. No"
        " key is needed.",
    ),
    "kraken": _ready_made_websocket(
        "kraken",
        "Kraken spot trades",
        "Every trade. Trades missed during a disconnect are fetched later, one request per second. Instruments have"
        " names such as BTC/USD. No key is needed.",
    ),
    "kraken-futures": _ready_made_websocket(
        "kraken-futures",
        "Kraken Futures trades",
        "Every trade. A new connection delivers the newest hundred trades of each product, which fills short gaps."
        " Instruments have names such as PI_XBTUSD. No key is needed.",
    ),
    "finnhub": _ready_made_websocket(
        "finnhub",
        "Finnhub trades",
        "Stocks, currencies and crypto, depending on the plan of the key; one connection per key. Trades have no ids"
        " and cannot be fetched later, so trades missed during a disconnect are lost.",
        needs_key=True,
    ),
    **READY_MADE_CCXT,
}


# Each feed runs in its own threads, and each of its instruments is a line in many lists.
MAX_FEEDS = 32


class NoSuchFeedError(FeedError):
    """No feed has this name; ./barmill instrument feed list shows all names."""


def add(feeds: Feeds, actor: Actor, name: str, kind: str, settings: str, key: str | None = None) -> Feed:
    """Add a feed, which starts enabled; settings: JSON for `settings_of`.

    Raise FeedError if the name is invalid or taken, if there are too many feeds, or if the feed could not run, and
    KeyHostError if its key may not be sent to its hosts.
    """
    with _action(feeds, actor, "feed.add", name[:64]) as change:
        if not is_feed_name(name):
            raise FeedError(
                "The name of a feed has 1 to 24 lowercase letters, digits or dashes, and does not start with a dash."
            )
        if name in FIRST_FEED_NAMES:
            raise FeedError(f"The name {name} is reserved for the feed in feed.json; choose another name.")
        if feeds.find(name) is not None:
            raise FeedError(f"A feed named {name} already exists; edit it, or choose another name.")
        if len(feeds.all()) >= MAX_FEEDS:
            raise FeedError(f"There are already {MAX_FEEDS} feeds, which is the maximum; delete one first.")
        at_ms = now_ms()
        feed = _validated(feeds, Feed(name, kind, settings, key, made_ms=at_ms, changed_ms=at_ms))
        feeds.write(feed)
        change.after = _audit_fields(feed)
    return feed


def edit(feeds: Feeds, actor: Actor, name: str, settings: str, key: str | None = None) -> Feed:
    """Replace the settings and the key of a feed; it reconnects and continues where it was.

    key: None for no key. Raise FeedError if the feed could not run with them or is the first feed, and KeyHostError if
    the key may not be sent to the feed's hosts.
    """

    def apply_edit(before: Feed) -> Feed:
        if before.is_first:
            raise FeedError(f"The feed {name} is defined in feed.json; edit that file, then restart Barmill.")
        return _validated(feeds, replace(before, settings=settings, key=key))

    return _change(feeds, actor, "feed.edit", name, apply_edit)


def enable(feeds: Feeds, actor: Actor, name: str, *, enabled: bool) -> Feed:
    """Enable or disable a feed; the open bars of a disabled feed close. Raise NoSuchFeedError if there is none."""
    action_name = "feed.enable" if enabled else "feed.disable"
    return _change(feeds, actor, action_name, name, lambda before: replace(before, enabled=enabled))


def delete(feeds: Feeds, actor: Actor, name: str) -> None:
    """Delete a feed and its selection of instruments; its ticks and bars remain. The first feed cannot be deleted."""
    with _action(feeds, actor, "feed.delete", name[:64]) as change:
        feed = _get(feeds, name)
        if feed.is_first:
            raise FeedError(f"The feed {name} is defined in feed.json and cannot be deleted; disable it instead.")
        feeds.delete(name)
        delete_catalogue(feeds.db, name)
        change.before = _audit_fields(feed)


def _change(feeds: Feeds, actor: Actor, action_name: str, name: str, apply_change: Callable[[Feed], Feed]) -> Feed:
    with _action(feeds, actor, action_name, name[:64]) as change:
        before = _get(feeds, name)
        after = replace(apply_change(before), changed_ms=now_ms())
        feeds.write(after)
        change.before, change.after = _audit_fields(before), _audit_fields(after)
    return after


def _validated(feeds: Feeds, feed: Feed) -> Feed:
    """Return the feed with its settings in stored form; raise FeedError or KeyHostError if the feed could not run."""
    settings = settings_of(feed.kind, feed.settings)
    if feed.key is None and isinstance(settings, MarketFeed):
        raise FeedError("The demo market needs a key; select a stored key.")
    if feed.key is None and isinstance(settings, RestFeed) and settings.needs_key:
        raise FeedError("These settings have a placeholder for a key; select a stored key.")
    row = None if feed.key is None else find_row(feeds.db, feed.key)
    if feed.key is not None and row is None:
        raise FeedError(f"There is no stored key named {feed.key!r}; first add it on the API keys page.")
    if isinstance(settings, KafkaFeed) and settings.signs_in:
        row = find_row(feeds.db, settings.password_key)  # a missing key is reported when the feed uses it
    if row is not None:
        check_hosts(row.info.name, row.info.hosts, hosts_of(settings))
    return replace(feed, settings=settings_to_store(settings))


def _get(feeds: Feeds, name: str) -> Feed:
    feed = feeds.find(name)
    if feed is None:
        raise NoSuchFeedError(f"There is no feed named {name[:64]!r}; ./barmill instrument feed list shows all.")
    return feed


def _audit_fields(feed: Feed) -> dict[str, object]:
    # A user may have put a key into the settings by mistake.
    settings = redact(feed.settings) or None
    return {"kind": feed.kind, "settings": settings, "key": feed.key, "enabled": feed.enabled}


def _action(feeds: Feeds, actor: Actor, action_name: str, name: str) -> AbstractContextManager[Change]:
    return action(feeds.db, actor, action_name, name, needs=Permission.MANAGE_FEEDS)
