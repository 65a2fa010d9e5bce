"""The demo market's first API key: made once, known to the market by its digest, kept encrypted in the key store."""

import secrets

from bar.clock import now_ms
from control.home import Home
from control.keys.store import KeyStore
from control.people.roles import FIRST_START
from feed.market.access import AccessKeys

SECRET_NAME = "demo-market"
PROVIDER = "market"


def ensure_market_key(home: Home) -> None:
    """Make sure that the key store holds a key which the demo market knows.

    Safe to repeat, to run in several processes at once, and to be cut off anywhere: the digest goes to the market
    before the key goes to the key store, and a digest without a key opens nothing and is replaced next time.
    A key that was revoked stays revoked, and one that expired or is kept elsewhere is left to whoever did that.
    """
    access = AccessKeys.of(home)
    with access.locked(), KeyStore.open(home, FIRST_START) as store:
        stored = next((one for one in store.list() if one.name == SECRET_NAME), None)
        if stored is None:
            key = secrets.token_urlsafe(32)
            access.put(SECRET_NAME, key)
            store.add(SECRET_NAME, PROVIDER, key)
        elif stored.state(now_ms()).usable and stored.reference is None:
            key = store.reveal(SECRET_NAME)
            if access.find(key) is None:  # the market's folder was lost, its key was not
                access.put(SECRET_NAME, key)
