"""How people are let in and choose passwords: by password, or with a one-time link. Every try is on record."""

from bar.clock import now_ms
from bar.sqlite import Database
from control.actions import action, new_trace_id
from control.audit import Stage, record
from control.database import immediate
from control.people.administration import normal_name
from control.people.errors import AccountError, LinkError, SignInError
from control.people.passwords import check_rules, hashed, is_outdated, matches
from control.people.roles import Actor
from control.people.sessions import Client, SignedIn, digest, end_sessions, start_session
from control.people.settings import SignInSettings
from control.people.slowdown import forgive, reserve

_WRONG = "The name or the password is wrong."
_DEAD_LINK = (
    "This link was used, replaced, or is older than a day; ask an admin for a new one (./barmill user link NAME)."
)
# Who it was, nobody knows yet.
_VISITOR = Actor("visitor")


def sign_in(db: Database, name: str, password: str, client: Client, settings: SignInSettings) -> str:
    """Let somebody in by password and return the token of a new session; raise SignInError."""
    name = normal_name(name)
    _check_password(db, name, password, client, "account.sign_in", _WRONG)
    return _let_in(db, name, client, settings, how="password")


def link_account(db: Database, token: str) -> str:
    """Return whose password a one-time link chooses, without using it up; raise LinkError."""
    query = (
        "SELECT l.account FROM welcome_links AS l JOIN accounts AS a ON a.name = l.account"
        " WHERE l.token_hash = ? AND l.expires_ms > ? AND a.disabled = 0"
    )
    row = db.conn.execute(query, (digest(token), now_ms())).fetchone()
    if row is None:
        raise LinkError(_DEAD_LINK)
    return str(row[0])


def welcome(db: Database, token: str, password: str, client: Client, settings: SignInSettings) -> str:
    """Choose a password with a one-time link, which this uses up, and return the token of a new session."""
    name = link_account(db, token)
    check_rules(password, name)
    password_hash = hashed(password)
    with action(db, Actor.of_account(name), "account.password", name, needs=None) as change:
        used = db.conn.execute("DELETE FROM welcome_links WHERE token_hash = ?", (digest(token),))
        if not used.rowcount:
            raise LinkError(_DEAD_LINK)
        _set_password(db, name, password_hash)
        ended = end_sessions(db, name)
        change.after = {"how": "one-time link", "sessions_ended": ended}
    return _let_in(db, name, client, settings, how="one-time link")


def change_password(db: Database, who: SignedIn, old: str, new: str, client: Client) -> int:
    """Change one's own password, which ends all other sessions; return how many. Wrong old passwords slow down too."""
    check_rules(new, who.account)
    _check_password(db, who.account, old, client, "account.password", "The present password is wrong.")
    password_hash = hashed(new)
    with action(db, Actor.of_account(who.account), "account.password", who.account, needs=None) as change:
        _set_password(db, who.account, password_hash)
        db.conn.execute("DELETE FROM welcome_links WHERE account = ?", (who.account,))
        ended = end_sessions(db, who.account, but=who.session)
        change.after = {"how": "old password", "sessions_ended": ended}
    return ended


def _check_password(db: Database, name: str, password: str, client: Client, action_name: str, wrong: str) -> None:
    """Raise SignInError unless this is the password of that account, and put every wrong one on record."""
    reserve(db, name, client.address, now_ms())
    row = db.conn.execute("SELECT password_hash, disabled FROM accounts WHERE name = ?", (name,)).fetchone()
    password_hash = row[0] if row else None
    if not matches(password_hash, password) or password_hash is None:
        # A name nobody has is not put on record: people type passwords into the wrong field.
        subject, why = (name, "wrong password") if row else ("unknown", "unknown name")
        _record_failure(db, action_name, subject, f"{why}, from {client.address}")
        raise SignInError(wrong)
    forgive(db, name, client.address)
    if row[1]:
        _record_failure(db, action_name, name, f"disabled account, from {client.address}")
        raise SignInError("This account is disabled; ask an admin.")
    if is_outdated(password_hash):
        renewed = hashed(password)
        with immediate(db):
            query = "UPDATE accounts SET password_hash = ? WHERE name = ? AND password_hash = ?"
            db.conn.execute(query, (renewed, name, password_hash))


def _let_in(db: Database, name: str, client: Client, settings: SignInSettings, *, how: str) -> str:
    with action(db, Actor.of_account(name), "account.sign_in", name, needs=None) as change:
        token = start_session(db, name, client, settings, now_ms())
        change.after = {"how": how, "address": client.address}
    return token


def _set_password(db: Database, name: str, password_hash: str) -> None:
    query = "UPDATE accounts SET password_hash = ? WHERE name = ? AND disabled = 0"
    if not db.conn.execute(query, (password_hash, name)).rowcount:
        raise AccountError("This account is disabled; ask an admin.")


def _record_failure(db: Database, action_name: str, subject: str, why: str) -> None:
    with immediate(db):
        record(db, _VISITOR, action_name, subject, Stage.REFUSED, trace_id=new_trace_id(), result=why)
