"""What people do with feeds: add them, edit them, enable and disable them, delete them. Ingest follows by itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from bar.clock import now_ms
from control.actions import Change, action
from control.feeds.store import Feeds
from control.instruments.store import forget
from control.keys.hosts import check_hosts
from control.keys.records import find_row
from control.people.roles import Actor, Permission
from control.redact import redact
from feed.feeds import Feed, FeedError, KafkaFeed, MarketFeed, hosts_of, settings_of, written
from feed.names import FIRST_NAMES, can_be_a_name
from feed.providers.rest.settings import RestFeed

# Each runs in threads of its own, and each instrument of each is a line in many lists.
MOST_FEEDS = 32


class NoSuchFeedError(FeedError):
    """There is no feed of this name; ./barmill instrument feed list shows all."""


def add(feeds: Feeds, actor: Actor, name: str, kind: str, settings: str, key: str | None = None) -> Feed:
    """Make a feed, enabled from the start; settings: JSON, as `settings_of` reads it."""
    with _action(feeds, actor, "feed.add", name[:64]) as change:
        if not can_be_a_name(name):
            raise FeedError("A feed's name is 1 to 24 small letters, digits and dashes, and begins with no dash.")
        if name in FIRST_NAMES:
            raise FeedError(f"{name} is what feed.json may call the first feed; take another name.")
        if feeds.find(name) is not None:
            raise FeedError(f"There is a feed named {name} already; edit that one, or take another name.")
        if len(feeds.all()) >= MOST_FEEDS:
            raise FeedError(f"There are {MOST_FEEDS} feeds already, which is the most; delete one first.")
        at_ms = now_ms()
        feed = _checked(feeds, Feed(name, kind, settings, key, made_ms=at_ms, changed_ms=at_ms))
        feeds.write(feed)
        change.after = _shown(feed)
    return feed


def edit(feeds: Feeds, actor: Actor, name: str, settings: str, key: str | None = None) -> Feed:
    """Give a feed other settings or another key; it connects anew, and goes on where it stood."""

    def changed(before: Feed) -> Feed:
        if before.first:
            raise FeedError(f"The feed {name} is set in feed.json; edit that file, then start Barmill again.")
        return _checked(feeds, replace(before, settings=settings, key=key))

    return _change(feeds, actor, "feed.edit", name, changed)


def enable(feeds: Feeds, actor: Actor, name: str, *, enabled: bool) -> Feed:
    """Have a feed run, or not; the bars of one that does not run close."""
    what = "feed.enable" if enabled else "feed.disable"
    return _change(feeds, actor, what, name, lambda before: replace(before, enabled=enabled))


def delete(feeds: Feeds, actor: Actor, name: str) -> None:
    """Forget a feed and what was picked of it; its ticks and bars stay."""
    with _action(feeds, actor, "feed.delete", name[:64]) as change:
        feed = _found(feeds, name)
        if feed.first:
            raise FeedError(f"The feed {name} is named by feed.json and cannot be deleted; disable it instead.")
        feeds.drop(name)
        forget(feeds.db, name)
        change.before = _shown(feed)


def _change(feeds: Feeds, actor: Actor, what: str, name: str, changed: Callable[[Feed], Feed]) -> Feed:
    with _action(feeds, actor, what, name[:64]) as change:
        before = _found(feeds, name)
        after = replace(changed(before), changed_ms=now_ms())
        feeds.write(after)
        change.before, change.after = _shown(before), _shown(after)
    return after


def _checked(feeds: Feeds, feed: Feed) -> Feed:
    """Return the feed with its settings as they are stored; raise FeedError where it could not run."""
    settings = settings_of(feed.kind, feed.settings)
    if feed.key is None and isinstance(settings, MarketFeed):
        raise FeedError("The demo market wants a key; name one of the key store.")
    if feed.key is None and isinstance(settings, RestFeed) and settings.needs_key:
        raise FeedError("These settings have a blank for a key; name one of the key store.")
    row = None if feed.key is None else find_row(feeds.db, feed.key)
    if feed.key is not None and row is None:
        raise FeedError(f"There is no stored key named {feed.key!r}; add it first, on the page API keys.")
    if isinstance(settings, KafkaFeed) and settings.signs_in:
        row = find_row(feeds.db, settings.password_key)  # one that is missing is said where it is used
    if row is not None:
        check_hosts(row.info.name, row.info.hosts, hosts_of(settings))
    return replace(feed, settings=written(settings))


def _found(feeds: Feeds, name: str) -> Feed:
    feed = feeds.find(name)
    if feed is None:
        raise NoSuchFeedError(f"There is no feed named {name[:64]!r}; ./barmill instrument feed list shows all.")
    return feed


def _shown(feed: Feed) -> dict[str, object]:
    # Somebody may have put a key where it does not belong.
    settings = redact(feed.settings) or None
    return {"kind": feed.kind, "settings": settings, "key": feed.key, "enabled": feed.enabled}


def _action(feeds: Feeds, actor: Actor, what: str, name: str) -> AbstractContextManager[Change]:
    return action(feeds.db, actor, what, name, needs=Permission.MANAGE_FEEDS)
