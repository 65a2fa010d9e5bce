"""Trying the settings of a feed on behalf of somebody, with a key of the key store."""

from contextlib import closing

from control.actions import action
from control.audit import audit_migrations
from control.database import open_control_db
from control.home import Home
from control.keys.store import KeyStore
from control.people.accounts import account_migrations
from control.people.roles import Actor, Permission
from feed.connection.guard import FeedsAccess, Guard, parsed
from feed.feeds import hosts_of
from feed.providers.rest.settings import RestFeed
from feed.providers.websocket.settings import WebSocketFeed
from feed.stream_trial import stream_trial
from feed.trial import Trial, trial

Triable = RestFeed | WebSocketFeed


def tried(home: Home, actor: Actor, settings: Triable, key_name: str | None) -> Trial:
    """Try settings, which is put on record, as is the use of the key.

    Raise ControlError where this is not allowed, or where the key cannot be had.
    """
    guard = Guard(FeedsAccess.read(home))
    db = open_control_db(home, audit_migrations, account_migrations)
    with closing(db.conn), action(db, actor, "feed.try", _host(settings), needs=Permission.MANAGE_FEEDS) as change:
        change.after = {**_asked(settings), "key": key_name}
    key = ""
    if key_name is not None:
        with KeyStore.open(home, actor) as store:
            key = store.reveal(key_name, hosts_of(settings))
    return trial(settings, key, guard) if isinstance(settings, RestFeed) else stream_trial(settings, key, guard)


def _host(settings: Triable) -> str:
    return settings.host if isinstance(settings, RestFeed) else parsed(settings.url).host


def _asked(settings: Triable) -> dict[str, str]:
    if isinstance(settings, RestFeed):
        return {"base_url": settings.base_url, "path": settings.path}
    return {"url": settings.url}
