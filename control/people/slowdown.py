"""How wrong passwords make the next try wait, without locking the owner out.

Failures are counted for the account, for the address, and for the two together. What an address got wrong makes that
address wait, longer each time; what others got wrong on an account only makes an address wait sooner. So whoever
guesses from one place or from many is slowed down, and the owner with the right password gets in from an address of
their own at once, and from the attacker's after the wait.

    sign_in_failures   key, failures, last_ms

Keys are digests: what is typed into the field for the name is now and then a password.
"""

import hashlib
import ipaddress
from dataclasses import dataclass

from bar.sqlite import Database
from control.database import immediate
from control.people.errors import TooManyFailuresError

MAX_WAIT_MS = 15 * 60_000
FORGET_AFTER_MS = 60 * 60_000
_FREE_TRIES = 4
_FREE_TRIES_UNDER_ATTACK = 1
_FREE_TRIES_OF_AN_ADDRESS = 20
_ATTACK_FROM_FAILURES = 20


@dataclass(frozen=True)
class Failures:
    """How many wrong passwords there were lately, and when the last one was."""

    count: int = 0
    last_ms: int = 0


def wait_until_ms(pair: Failures, address: Failures, account: Failures) -> int:
    """Return when the next try may come, in epoch ms."""
    free = _FREE_TRIES if account.count < _ATTACK_FROM_FAILURES else _FREE_TRIES_UNDER_ATTACK
    return max(_next_try_ms(pair, free), _next_try_ms(address, _FREE_TRIES_OF_AN_ADDRESS))


def reserve(db: Database, name: str, address: str, now_ms: int) -> None:
    """Count a try as a failure before it is made, so that many at once gain nothing; raise TooManyFailuresError."""
    with immediate(db):
        db.conn.execute("DELETE FROM sign_in_failures WHERE last_ms < ?", (now_ms - FORGET_AFTER_MS,))
        known = [_read(db, key) for key in _keys(name, address)]
        # A clock that was set back must not make anybody wait longer than ever.
        left_ms = min(wait_until_ms(*known) - now_ms, MAX_WAIT_MS)
        if left_ms > 0:
            raise TooManyFailuresError(-(-left_ms // 1_000))
        for key, failures in zip(_keys(name, address), known, strict=True):
            db.conn.execute(
                "INSERT OR REPLACE INTO sign_in_failures VALUES (?, ?, ?)", (key, failures.count + 1, now_ms)
            )


def forgive(db: Database, name: str, address: str) -> None:
    """Take back what `reserve` counted, after the password was right; what others got wrong stays counted."""
    pair, *others = _keys(name, address)
    with immediate(db):
        db.conn.execute("DELETE FROM sign_in_failures WHERE key = ?", (pair,))
        for key in others:
            db.conn.execute("UPDATE sign_in_failures SET failures = max(0, failures - 1) WHERE key = ?", (key,))


def _next_try_ms(failures: Failures, free: int) -> int:
    if failures.count < free:
        return 0
    return failures.last_ms + min(1_000 * (1 << min(failures.count - free, 20)), MAX_WAIT_MS)


def _read(db: Database, key: str) -> Failures:
    row = db.conn.execute("SELECT failures, last_ms FROM sign_in_failures WHERE key = ?", (key,)).fetchone()
    return Failures(*row) if row else Failures()


def _keys(name: str, address: str) -> tuple[str, str, str]:
    place = place_of(address)
    parts = (("pair", name, place), ("address", place), ("account", name))
    pair, of_address, of_account = (hashlib.sha256("\0".join(part).encode()).hexdigest()[:16] for part in parts)
    return pair, of_address, of_account


def place_of(address: str) -> str:
    """Return what counts as one address: a whole /64 of IPv6, since one machine has all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
