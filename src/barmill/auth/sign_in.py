"""Sign-in and choice of passwords, with increasing delays after wrong ones. Every password check is audited."""

import hashlib
import ipaddress
from dataclasses import dataclass

from barmill.audit.accounts import AccountError, LinkError, SignInError, TooManyFailuresError
from barmill.audit.actions import action, new_trace_id
from barmill.audit.roles import Actor
from barmill.audit.trail import Stage, record
from barmill.auth.administration import check_rules, hash_password, is_outdated, normalize_name, password_matches
from barmill.auth.sessions import Client, SignedInUser, digest, end_sessions, start_session
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import MS_PER_MINUTE, now_ms
from barmill.platform.sqlite_file import Database, immediate

_WRONG_PASSWORD = "The name or the password is wrong."
_INVALID_LINK = "This link was used, replaced, or has expired; ask an admin for a new one (./barmill user link NAME)."
# The user is not known yet.
_VISITOR = Actor("visitor")


def sign_in(db: Database, name: str, password: str, client: Client, settings: SignInSettings) -> str:
    """Sign in with a password and return the token of a new session. Raise SignInError if refused."""
    name = normalize_name(name)
    _check_password(db, name, password, client, "account.sign_in", _WRONG_PASSWORD)
    return _start_session(db, name, client, settings, method="password")


def account_of_link(db: Database, token: str) -> str:
    """Return the account whose password a one-time link sets, without using it up. Raise LinkError if it is invalid."""
    query = (
        "SELECT l.account FROM welcome_links AS l JOIN accounts AS a ON a.name = l.account"
        " WHERE l.token_hash = ? AND l.expires_ms > ? AND a.disabled = 0"
    )
    row = db.conn.execute(query, (digest(token), now_ms())).fetchone()
    if row is None:
        raise LinkError(_INVALID_LINK)
    return str(row[0])


def set_first_password(db: Database, token: str, password: str, client: Client, settings: SignInSettings) -> str:
    """Set a password with a one-time link, which is used up, and return the token of a new session.

    Raise LinkError if the link is invalid, and PasswordRuleError if the password is too weak.
    """
    name = account_of_link(db, token)
    check_rules(password, name)
    password_hash = hash_password(password)
    with action(db, Actor.of_account(name), "account.password", name, needs=None) as change:
        used = db.conn.execute("DELETE FROM welcome_links WHERE token_hash = ?", (digest(token),))
        if not used.rowcount:
            raise LinkError(_INVALID_LINK)
        _set_password(db, name, password_hash)
        ended = end_sessions(db, name)
        change.after = {"how": "one-time link", "sessions_ended": ended}
    return _start_session(db, name, client, settings, method="one-time link")


def change_password(db: Database, user: SignedInUser, old: str, new: str, client: Client) -> int:
    """Change the account's password and end its other sessions. Return how many. A wrong old password causes delays.

    Raise PasswordRuleError if the new password is too weak, and SignInError if the old one is wrong or too many
    attempts were wrong.
    """
    check_rules(new, user.account)
    _check_password(db, user.account, old, client, "account.password", "The current password is wrong.")
    password_hash = hash_password(new)
    with action(db, Actor.of_account(user.account), "account.password", user.account, needs=None) as change:
        _set_password(db, user.account, password_hash)
        db.conn.execute("DELETE FROM welcome_links WHERE account = ?", (user.account,))
        ended = end_sessions(db, user.account, keep=user.session)
        change.after = {"how": "old password", "sessions_ended": ended}
    return ended


def _check_password(db: Database, name: str, password: str, client: Client, action_name: str, message: str) -> None:
    """Raise SignInError unless this is the password of that account, and audit every wrong one."""
    count_attempt(db, name, client.address, now_ms())
    row = db.conn.execute("SELECT password_hash, disabled FROM accounts WHERE name = ?", (name,)).fetchone()
    password_hash = row[0] if row else None
    if not password_matches(password_hash, password) or password_hash is None:
        # Do not record an unknown name: users sometimes type a password into the wrong field.
        subject, reason = (name, "wrong password") if row else ("unknown", "unknown name")
        _record_failure(db, action_name, subject, f"{reason}, from {client.address}")
        raise SignInError(message)
    reset_failures(db, name, client.address)
    if row[1]:
        _record_failure(db, action_name, name, f"disabled account, from {client.address}")
        raise SignInError("This account is disabled; ask an admin.")
    if is_outdated(password_hash):
        new_hash = hash_password(password)
        with immediate(db):
            query = "UPDATE accounts SET password_hash = ? WHERE name = ? AND password_hash = ?"
            db.conn.execute(query, (new_hash, name, password_hash))


def _start_session(db: Database, name: str, client: Client, settings: SignInSettings, *, method: str) -> str:
    with action(db, Actor.of_account(name), "account.sign_in", name, needs=None) as change:
        token = start_session(db, name, client, settings, now_ms())
        change.after = {"how": method, "address": client.address}
    return token


def _set_password(db: Database, name: str, password_hash: str) -> None:
    query = "UPDATE accounts SET password_hash = ? WHERE name = ? AND disabled = 0"
    if not db.conn.execute(query, (password_hash, name)).rowcount:
        raise AccountError("This account is disabled; ask an admin.")


def _record_failure(db: Database, action_name: str, subject: str, reason: str) -> None:
    with immediate(db):
        record(db, _VISITOR, action_name, subject, Stage.REFUSED, trace_id=new_trace_id(), result=reason)


MAX_WAIT_MS = 15 * MS_PER_MINUTE
FORGET_AFTER_MS = 60 * MS_PER_MINUTE
_FREE_ATTEMPTS = 4
_FREE_ATTEMPTS_UNDER_ATTACK = 1
_FREE_ATTEMPTS_OF_ADDRESS = 20
_ATTACK_FROM_FAILURES = 20


@dataclass(frozen=True)
class Failures:
    """The number of recent wrong passwords, and the time of the last one."""

    count: int = 0
    last_ms: int = 0


def next_attempt_ms(pair: Failures, address: Failures, account: Failures) -> int:
    """Return when the next attempt is allowed, in epoch ms.

    pair: failures with this account from this address. address: with any account from this address. account: with this
    account from any address.
    """
    free_attempts = _FREE_ATTEMPTS if account.count < _ATTACK_FROM_FAILURES else _FREE_ATTEMPTS_UNDER_ATTACK
    return max(_allowed_from_ms(pair, free_attempts), _allowed_from_ms(address, _FREE_ATTEMPTS_OF_ADDRESS))


def count_attempt(db: Database, name: str, address: str, now_ms: int) -> None:
    """Count an attempt as a failure in advance, so that parallel attempts gain nothing.

    Raise TooManyFailuresError if no attempt is allowed yet.
    """
    with immediate(db):
        db.conn.execute("DELETE FROM sign_in_failures WHERE last_ms < ?", (now_ms - FORGET_AFTER_MS,))
        entries = [_read_failures(db, key) for key in _failure_keys(name, address)]
        # A clock that was set back must not make the wait longer than the maximum.
        remaining_ms = min(next_attempt_ms(*entries) - now_ms, MAX_WAIT_MS)
        if remaining_ms > 0:
            raise TooManyFailuresError(-(-remaining_ms // 1_000))
        for key, failures in zip(_failure_keys(name, address), entries, strict=True):
            db.conn.execute(
                "INSERT OR REPLACE INTO sign_in_failures VALUES (?, ?, ?)", (key, failures.count + 1, now_ms)
            )


def reset_failures(db: Database, name: str, address: str) -> None:
    """Undo what `count_attempt` counted, after a correct password. Failures of others stay counted."""
    pair, *others = _failure_keys(name, address)
    with immediate(db):
        db.conn.execute("DELETE FROM sign_in_failures WHERE key = ?", (pair,))
        for key in others:
            db.conn.execute("UPDATE sign_in_failures SET failures = max(0, failures - 1) WHERE key = ?", (key,))


def _allowed_from_ms(failures: Failures, free_attempts: int) -> int:
    if failures.count < free_attempts:
        return 0
    return failures.last_ms + min(1_000 * (1 << min(failures.count - free_attempts, 20)), MAX_WAIT_MS)


def _read_failures(db: Database, key: str) -> Failures:
    row = db.conn.execute("SELECT failures, last_ms FROM sign_in_failures WHERE key = ?", (key,)).fetchone()
    return Failures(*row) if row else Failures()


def _failure_keys(name: str, address: str) -> tuple[str, str, str]:
    network = network_of(address)
    parts = (("pair", name, network), ("address", network), ("account", name))
    pair_key, address_key, account_key = (hashlib.sha256("\0".join(part).encode()).hexdigest()[:16] for part in parts)
    return pair_key, address_key, account_key


def network_of(address: str) -> str:
    """Return what counts as one address: for IPv6 a whole /64, since one machine has all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
