"""Sessions: who is signed in, and from where. The browser holds a random token, the database only its digest.

A session ends on sign-out, when another session or an admin ends it, after idle_ms without use, after its maximum age,
and when its account is disabled. In every case, the next check sees that it has ended.
"""

import hashlib
import secrets
from dataclasses import dataclass

from barmill.audit.accounts import AccountError
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission, Role
from barmill.auth.settings import SignInSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, immediate

# Recording every page view would mean a write for every page view.
SEEN_EVERY_MS = 60_000
_MAX_USER_AGENT = 200
_IS_ACTIVE = "s.expires_ms > :now AND s.last_seen_ms + s.idle_ms > :now"


def session_cookie(home: Home) -> str:
    """Return the name of the session cookie. It differs by home, because browsers share cookies between ports."""
    return f"barmill_session_{hashlib.sha256(str(home.root).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Client:
    """The origin of a request."""

    address: str
    user_agent: str = ""


@dataclass(frozen=True)
class SignedInUser:
    """The account that a token is valid for now: the session's id, the account, and its current role.

    seen_ms: when the session was last recorded as in use, in epoch ms.
    """

    session: str
    account: str
    role: Role
    seen_ms: int


@dataclass(frozen=True)
class Session:
    """The public data of a session; times are epoch ms."""

    id: str
    account: str
    created_ms: int
    last_seen_ms: int
    expires_ms: int
    address: str
    user_agent: str


def start_session(db: Database, account: str, client: Client, settings: SignInSettings, now_ms: int) -> str:
    """Create a session in the caller's transaction. Return its token, which must be sent only to the browser."""
    token = secrets.token_urlsafe(32)
    db.conn.execute(f"DELETE FROM sessions AS s WHERE NOT ({_IS_ACTIVE})", {"now": now_ms})
    db.conn.execute(
        "INSERT INTO sessions (token_hash, id, account, created_ms, last_seen_ms, idle_ms, expires_ms, address,"
        " user_agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(digest(token), secrets.token_hex(6), account, now_ms, now_ms),
            *(settings.idle_ms, now_ms + settings.session_ms, client.address, client.user_agent[:_MAX_USER_AGENT]),
        ),
    )
    db.conn.execute("UPDATE accounts SET last_seen_ms = ? WHERE name = ?", (now_ms, account))
    return token


def find_session(db: Database, token: str, now_ms: int) -> SignedInUser | None:
    """Return the session and account of this token, or None if it is not valid now."""
    row = db.conn.execute(
        "SELECT s.id, a.name, a.role, s.last_seen_ms FROM sessions AS s JOIN accounts AS a ON a.name = s.account"
        f" WHERE s.token_hash = :hash AND a.disabled = 0 AND {_IS_ACTIVE}",
        {"hash": digest(token), "now": now_ms},
    ).fetchone()
    return SignedInUser(row[0], row[1], Role(row[2]), row[3]) if row else None


def touch(db: Database, session: str, now_ms: int) -> None:
    """Record that a session is in use, at most once a minute."""
    with immediate(db):
        query = "UPDATE sessions SET last_seen_ms = ? WHERE id = ? AND last_seen_ms <= ? RETURNING account"
        row = db.conn.execute(query, (now_ms, session, now_ms - SEEN_EVERY_MS)).fetchone()
        if row is not None:
            db.conn.execute("UPDATE accounts SET last_seen_ms = ? WHERE name = ?", (now_ms, row[0]))


def sessions_of(db: Database, account: str, now_ms: int) -> list[Session]:
    """Return the active sessions of an account, most recently used first."""
    rows = db.conn.execute(
        "SELECT s.id, s.account, s.created_ms, s.last_seen_ms, s.expires_ms, s.address, s.user_agent"
        f" FROM sessions AS s WHERE s.account = :account AND {_IS_ACTIVE} ORDER BY s.last_seen_ms DESC, s.rowid DESC",
        {"account": account, "now": now_ms},
    )
    return [Session(*row) for row in rows]


def sign_out(db: Database, user: SignedInUser) -> None:
    """End the current session."""
    with action(db, Actor.of_account(user.account), "account.sign_out", user.account, needs=None) as change:
        end_sessions(db, user.account, only=user.session)
        change.before = {"session": user.session}


def end_own_session(db: Database, user: SignedInUser, session: str) -> None:
    """End one session of the current account. Raise AccountError if it has already ended."""
    with action(db, Actor.of_account(user.account), "session.end", user.account, needs=None) as change:
        if not end_sessions(db, user.account, only=session):
            raise AccountError("This session has already ended.")
        change.before = {"session": session}


def end_own_other_sessions(db: Database, user: SignedInUser) -> int:
    """End every session of the current account except the current one. Return how many there were."""
    with action(db, Actor.of_account(user.account), "session.end_others", user.account, needs=None) as change:
        ended = end_sessions(db, user.account, keep=user.session)
        change.before = {"sessions": ended}
    return ended


def end_all_sessions(db: Database, actor: Actor, account: str) -> int:
    """End all sessions of an account. Return how many there were."""
    with action(db, actor, "session.end_all", account, needs=Permission.MANAGE_ACCOUNTS) as change:
        ended = end_sessions(db, account)
        change.before = {"sessions": ended}
    return ended


def end_sessions(db: Database, account: str, *, only: str | None = None, keep: str | None = None) -> int:
    """End sessions of an account in the caller's transaction: `only` one, or all except `keep`. Return how many."""
    return db.conn.execute(
        "DELETE FROM sessions WHERE account = :account AND (:only IS NULL OR id = :only)"
        " AND (:keep IS NULL OR id <> :keep)",
        {"account": account, "only": only, "keep": keep},
    ).rowcount


def digest(token: str) -> str:
    """Return the digest of a token that the database stores. 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
