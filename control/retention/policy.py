"""How long bars of each frame are kept, as people say; without a word, for ever.

bar_retention   frame, keep_ms, into: only what somebody has said
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from bar.frames import Frame, FrameError, parse_frame
from bar.sqlite import Database, Migrations
from bar.sqlite_file import StoreMissingError
from control.actions import action
from control.audit import audit_migrations
from control.database import open_control_db, read_control_db
from control.errors import ControlError
from control.home import Home
from control.jobs.ledger import JobLedger
from control.people.accounts import account_migrations
from control.people.roles import Actor, Permission

SHORTEST_MS = 3_600_000
_migrations = Migrations("bar_retention")


class RetentionError(ControlError):
    """Bars cannot be kept like this; nothing was changed."""


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    columns = {"frame": str, "keep_ms": int, "into": str}
    db.table("bar_retention").create(columns, pk="frame", not_null={"keep_ms", "into"}, strict=True)


@dataclass(frozen=True)
class Policy:
    """Bars of `frame` are kept for keep_ms; older ones go, once the frame `into` holds what they add up to."""

    frame: str
    keep_ms: int
    into: str


def open_retention_db(home: Home) -> Database:
    """Open the control database with the table of this room."""
    return open_control_db(home, audit_migrations, account_migrations, _migrations)


def policies(home: Home) -> list[Policy]:
    """Return what is said of each frame, the shortest frame first; nothing where nobody has said anything yet."""
    try:
        with closing(read_control_db(home).conn) as connection:
            rows = connection.execute('SELECT frame, keep_ms, "into" FROM bar_retention').fetchall()
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made the table
        return []
    return sorted((Policy(*row) for row in rows), key=lambda one: parse_frame(one.frame))


def keep(home: Home, actor: Actor, frame: str, keep_ms: int, into: str | None = None) -> Policy:
    """Have bars of a frame removed when they are older than `keep_ms`.

    into: the longer frame that must hold them then; the shortest that every job with this frame makes too.
    """
    short = _frame(frame)
    with closing(open_retention_db(home).conn) as connection:
        db = Database(connection)
        with action(db, actor, "bars.keep", short.text, needs=Permission.MANAGE_JOBS) as change:
            policy = Policy(short.text, keep_ms, _into(home, short, None if into is None else _frame(into)).text)
            _check(policy, policies(home))
            change.before, change.after = _present(home, policy.frame), asdict(policy)
            connection.execute(
                "INSERT OR REPLACE INTO bar_retention VALUES (?, ?, ?)", (policy.frame, keep_ms, policy.into)
            )
    return policy


def keep_for_ever(home: Home, actor: Actor, frame: str) -> None:
    """Have no more bars of a frame removed; those that went are not made again."""
    text = _frame(frame).text
    with closing(open_retention_db(home).conn) as connection:
        db = Database(connection)
        with action(db, actor, "bars.keep", text, needs=Permission.MANAGE_JOBS) as change:
            change.before, change.after = _present(home, text), {"frame": text, "keep_ms": None}
            connection.execute("DELETE FROM bar_retention WHERE frame = ?", (text,))


def _present(home: Home, frame: str) -> dict[str, object]:
    found = (asdict(one) for one in policies(home) if one.frame == frame)
    return next(found, {"frame": frame, "keep_ms": None})


def _frame(text: str) -> Frame:
    try:
        return parse_frame(text)
    except FrameError as error:
        raise RetentionError(str(error)) from error


def _into(home: Home, frame: Frame, wanted: Frame | None) -> Frame:
    longer = _longer_frames(home, frame)
    if not longer:
        raise RetentionError(
            f"No job makes {frame.text} bars together with longer ones that could stand for them; add such a frame to"
            " its spec first."
        )
    if wanted is None:
        return longer[0]
    if wanted not in longer:
        known = ", ".join(one.text for one in longer)
        raise RetentionError(f"{wanted.text} cannot stand for {frame.text}; say --into one of {known}.")
    return wanted


def _longer_frames(home: Home, frame: Frame) -> Sequence[Frame]:
    """Return the frames that `frame` divides and that every job makes that makes it, shortest first."""
    try:
        with JobLedger.read_only(home) as ledger:
            specs = [ledger.spec(job.name, job.version) for job in ledger.jobs()]
    except (StoreMissingError, sqlite3.OperationalError):
        specs = []
    made = [set(spec.frame_list) for spec in specs if frame in spec.frame_list]
    common = set.intersection(*made) if made else set()
    return sorted(one for one in common if one > frame and frame.divides(one))


def _check(policy: Policy, others: Sequence[Policy]) -> None:
    if policy.keep_ms < SHORTEST_MS:
        raise RetentionError("Bars are kept for an hour at least; say 1h or more, or for-ever.")
    for other in others:
        if other.frame == policy.into and other.keep_ms < policy.keep_ms:
            raise RetentionError(
                f"{policy.into} bars, which are to stand for them, go sooner; keep those for longer first."
            )
        if other.into == policy.frame and other.keep_ms > policy.keep_ms:
            raise RetentionError(f"{policy.frame} bars stand for older {other.frame} ones; keep those shorter first.")
