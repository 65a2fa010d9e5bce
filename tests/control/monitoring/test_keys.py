"""Which stored keys an alert may be about."""

import time

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from control.monitoring.judge import KeyExpiry
from control.monitoring.watch import expiring_keys


def test_keys_in_use_that_have_a_last_day(home: Home) -> None:
    assert expiring_keys(home) == []
    last_ms = time.time_ns() // 1_000_000 + 5 * 86_400_000
    with KeyStore.open(home, Actor("admin")) as store:
        for name, expires_ms in (("soon", last_ms), ("never", None), ("revoked", last_ms)):
            store.add(name, "market", "s3cret-s3cret", expires_ms=expires_ms)
        store.revoke("revoked")
    assert expiring_keys(home) == [KeyExpiry("soon", last_ms)]


def test_a_home_without_tables_has_no_keys(home: Home) -> None:
    home.control_db.touch()
    assert expiring_keys(home) == []
