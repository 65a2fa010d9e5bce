"""Trying the settings of a feed on behalf of somebody, with a key of the key store."""

from contextlib import closing

from control.actions import action
from control.audit import audit_migrations
from control.database import open_control_db
from control.home import Home
from control.keys.store import KeyStore
from control.people.accounts import account_migrations
from control.people.roles import Actor, Permission
from feed.connection.guard import FeedsAccess, Guard
from feed.providers.rest.settings import RestFeed
from feed.trial import Trial, trial


def tried(home: Home, actor: Actor, settings: RestFeed, key_name: str | None) -> Trial:
    """Try settings, which is put on record, as is the use of the key.

    Raise ControlError where this is not allowed, or where the key cannot be had.
    """
    guard = Guard(FeedsAccess.read(home))
    db = open_control_db(home, audit_migrations, account_migrations)
    with closing(db.conn), action(db, actor, "feed.try", settings.host, needs=Permission.MANAGE_FEEDS) as change:
        change.after = {"base_url": settings.base_url, "path": settings.path, "key": key_name}
    if key_name is None:
        return trial(settings, guard=guard)
    with KeyStore.open(home, actor) as store:
        key = store.reveal(key_name)
    return trial(settings, key, guard)
