"""Sessions: who is signed in, and from where. The browser holds a random token, the database only its digest.

A session ends by signing out, by being ended from another one, after a time without use, after its longest time, and
with its account; whatever ends it, it is over at the next look.
"""

import hashlib
import secrets
from dataclasses import dataclass

from bar.sqlite import Database
from control.actions import action
from control.database import immediate
from control.home import Home
from control.people.errors import AccountError
from control.people.roles import Actor, Permission, Role
from control.people.settings import SignInSettings

# A look at every page would be a write at every page.
SEEN_EVERY_MS = 60_000
_MAX_USER_AGENT = 200
_ALIVE = "s.expires_ms > :now AND s.last_seen_ms + s.idle_ms > :now"


def session_cookie(home: Home) -> str:
    """Return the name of the cookie that holds the token; browsers share cookies between ports, two homes must not."""
    return f"barmill_session_{hashlib.sha256(str(home.root).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Client:
    """Where a request comes from."""

    address: str
    user_agent: str = ""


@dataclass(frozen=True)
class SignedIn:
    """Who stands behind a token at this moment: the session's id, the account, and its present role."""

    session: str
    account: str
    role: Role
    seen_ms: int


@dataclass(frozen=True)
class Session:
    """What may be shown of a session."""

    id: str
    account: str
    created_ms: int
    last_seen_ms: int
    expires_ms: int
    address: str
    user_agent: str


def start_session(db: Database, account: str, client: Client, settings: SignInSettings, now_ms: int) -> str:
    """Make a session in the caller's transaction and return its token; it must reach nobody but the browser."""
    token = secrets.token_urlsafe(32)
    db.conn.execute(f"DELETE FROM sessions AS s WHERE NOT ({_ALIVE})", {"now": now_ms})
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


def signed_in(db: Database, token: str, now_ms: int) -> SignedIn | None:
    """Return who stands behind this token now, or None."""
    row = db.conn.execute(
        "SELECT s.id, a.name, a.role, s.last_seen_ms FROM sessions AS s JOIN accounts AS a ON a.name = s.account"
        f" WHERE s.token_hash = :hash AND a.disabled = 0 AND {_ALIVE}",
        {"hash": digest(token), "now": now_ms},
    ).fetchone()
    return SignedIn(row[0], row[1], Role(row[2]), row[3]) if row else None


def touch(db: Database, session: str, now_ms: int) -> None:
    """Note that a session is in use, at most once a minute."""
    with immediate(db):
        query = "UPDATE sessions SET last_seen_ms = ? WHERE id = ? AND last_seen_ms <= ? RETURNING account"
        row = db.conn.execute(query, (now_ms, session, now_ms - SEEN_EVERY_MS)).fetchone()
        if row is not None:
            db.conn.execute("UPDATE accounts SET last_seen_ms = ? WHERE name = ?", (now_ms, row[0]))


def sessions_of(db: Database, account: str, now_ms: int) -> list[Session]:
    """Return the living sessions of an account, the one seen last first."""
    rows = db.conn.execute(
        "SELECT s.id, s.account, s.created_ms, s.last_seen_ms, s.expires_ms, s.address, s.user_agent"
        f" FROM sessions AS s WHERE s.account = :account AND {_ALIVE} ORDER BY s.last_seen_ms DESC, s.rowid DESC",
        {"account": account, "now": now_ms},
    )
    return [Session(*row) for row in rows]


def sign_out(db: Database, who: SignedIn) -> None:
    """End the session somebody acts in."""
    with action(db, Actor.of_account(who.account), "account.sign_out", who.account, needs=None) as change:
        end_sessions(db, who.account, only=who.session)
        change.before = {"session": who.session}


def end_own_session(db: Database, who: SignedIn, session: str) -> None:
    """End one session of one's own account."""
    with action(db, Actor.of_account(who.account), "session.end", who.account, needs=None) as change:
        if not end_sessions(db, who.account, only=session):
            raise AccountError("This session has ended already.")
        change.before = {"session": session}


def end_own_other_sessions(db: Database, who: SignedIn) -> int:
    """End every session of one's own account but the present one; return how many there were."""
    with action(db, Actor.of_account(who.account), "session.end_others", who.account, needs=None) as change:
        ended = end_sessions(db, who.account, but=who.session)
        change.before = {"sessions": ended}
    return ended


def end_all_sessions(db: Database, actor: Actor, account: str) -> int:
    """Sign somebody out everywhere; return how many sessions they had."""
    with action(db, actor, "session.end_all", account, needs=Permission.MANAGE_ACCOUNTS) as change:
        ended = end_sessions(db, account)
        change.before = {"sessions": ended}
    return ended


def end_sessions(db: Database, account: str, *, only: str | None = None, but: str | None = None) -> int:
    """End sessions of an account in the caller's transaction: all, `only` one, or all `but` one; return how many."""
    return db.conn.execute(
        "DELETE FROM sessions WHERE account = :account AND (:only IS NULL OR id = :only)"
        " AND (:but IS NULL OR id <> :but)",
        {"account": account, "only": only, "but": but},
    ).rowcount


def digest(token: str) -> str:
    """Return what the database keeps of a token; 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
