"""The audit trail: who did what, from what to what, and what came of it. It only grows, and it is chained.

    audit   number, time_ms, actor, action, subject, stage, result, before, after, trace_id, previous_hash, hash

Each record's hash covers the record and the hash before it, so a changed, removed or slipped-in record breaks the
chain from there on. SQLite's own counter of record numbers tells when the newest were cut off. Whoever can write the
file can also forge a whole new chain: note the head now and then (`./barmill audit verify-log` prints it) elsewhere.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from bar.sqlite import Database, Migrations
from control.people.roles import Actor

FIRST_HASH = "0" * 64
audit_migrations = Migrations("audit")


class Stage(StrEnum):
    """Where an action is: asked for, done, or turned away. What takes time is issued first, and executed later."""

    ISSUED = "issued"
    EXECUTED = "executed"
    REFUSED = "refused"
    FAILED = "failed"


@audit_migrations()
def create(db: Database) -> None:
    """Make the table, and the triggers that let it only grow."""
    db.conn.execute(
        "CREATE TABLE audit (number INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, actor TEXT NOT NULL,"
        " action TEXT NOT NULL, subject TEXT NOT NULL, stage TEXT NOT NULL, result TEXT NOT NULL, before TEXT,"
        " after TEXT, trace_id TEXT NOT NULL, previous_hash TEXT NOT NULL, hash TEXT NOT NULL)"
    )
    db.conn.execute("CREATE INDEX audit_by_trace ON audit (trace_id)")
    for change in ("UPDATE", "DELETE"):
        db.conn.execute(
            f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END"
        )


@audit_migrations()
def index_whom_and_what(db: Database) -> None:
    """Find the few records of one actor or action among a million at once."""
    for column in ("actor", "action"):
        db.conn.execute(f"CREATE INDEX audit_by_{column} ON audit ({column})")


@dataclass(frozen=True)
class Record:
    """One line of the trail. before and after are JSON; trace_id joins what belongs to one action."""

    number: int
    time_ms: int
    actor: str
    action: str
    subject: str
    stage: str
    result: str
    before: str | None
    after: str | None
    trace_id: str
    previous_hash: str
    hash: str

    def digest(self) -> str:
        """Return the hash this record must have."""
        text = json.dumps(_unsigned(self), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_COLUMNS = tuple(field.name for field in fields(Record))
_unsigned = attrgetter(*_COLUMNS[:-1])
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM audit"


def record(
    db: Database,
    actor: Actor,
    action: str,
    subject: str,
    stage: Stage,
    *,
    trace_id: str,
    result: str = "",
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Append one record, in the caller's transaction, which must hold the write lock (see database.immediate)."""
    previous = db.conn.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone() or (0, "")
    unsigned = Record(
        number=previous[0] + 1,
        time_ms=time.time_ns() // 1_000_000,
        actor=actor.name,
        action=action,
        subject=subject,
        stage=stage.value,
        result=result,
        before=_json(before),
        after=_json(after),
        trace_id=trace_id,
        previous_hash=previous[1] or FIRST_HASH,
        hash="",
    )
    marks = ", ".join("?" * len(_COLUMNS))
    db.conn.execute(f"INSERT INTO audit VALUES ({marks})", (*astuple(unsigned)[:-1], unsigned.digest()))


@dataclass(frozen=True)
class ChainCheck:
    """What checking the chain found: how many records, the newest hash, and the first thing that is wrong, or ''."""

    records: int
    head: str
    problem: str


def verify_chain(db: Database) -> ChainCheck:
    """Read the whole trail and check every link."""
    count, head = 0, FIRST_HASH
    for one in _records(db, f"{_SELECT} ORDER BY number", ()):
        problem = ""
        if one.number != count + 1:
            problem = f"Record {count + 1} is missing: after record {count} comes {one.number}."
        elif one.previous_hash != head:
            problem = f"Record {one.number} does not follow from the one before it."
        elif one.hash != one.digest():
            problem = f"Record {one.number} was changed after it was written."
        if problem:
            return ChainCheck(count, head, problem)
        count, head = one.number, one.hash
    row = db.conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if row is not None and row[0] > count:
        return ChainCheck(count, head, f"Records {count + 1} to {row[0]} were cut off the end.")
    return ChainCheck(count, head, "")


def holds(db: Database, digest: str) -> bool:
    """Tell whether a record has this hash, so that a head noted earlier can be looked for."""
    return db.conn.execute("SELECT 1 FROM audit WHERE hash = ?", (digest,)).fetchone() is not None


@dataclass(frozen=True)
class Search:
    """Which records to show.

    text: looked for in everything that was written. from_ms, to_ms: bounds in epoch ms. below: only records with
    smaller numbers, which makes the next page.
    """

    text: str = ""
    actor: str | None = None
    action: str | None = None
    stage: str | None = None
    trace_id: str | None = None
    from_ms: int = 0
    to_ms: int = 2**62
    below: int = 2**62


def search(db: Database, wanted: Search, *, limit: int = -1) -> list[Record]:
    """Return the records that fit, the newest first; `limit` below 0 is all of them."""
    where = ["number < ?", "time_ms >= ?", "time_ms < ?"]
    values: list[object] = [wanted.below, wanted.from_ms, wanted.to_ms]
    for column in ("actor", "action", "stage", "trace_id"):
        if (value := getattr(wanted, column)) is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if wanted.text:
        texts = ("actor", "action", "subject", "result", "before", "after", "trace_id")
        where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in texts) + ")")
        values += [f"%{_literally(wanted.text)}%"] * len(texts)
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
    return list(_records(db, query, (*values, limit)))


def last_done(db: Database, actions: Iterable[str], subject: str) -> Record | None:
    """Return the newest record of any of these actions that was carried out on a subject; None if there is none."""
    wanted = list(actions)
    marks = ", ".join("?" * len(wanted))
    query = f"{_SELECT} WHERE action IN ({marks}) AND subject = ? AND stage = ? ORDER BY number DESC LIMIT 1"
    return next(_records(db, query, (*wanted, subject, Stage.EXECUTED.value)), None)


def named(db: Database, column: Literal["actor", "action"]) -> list[str]:
    """Return everybody who has ever acted, or everything that was ever done."""
    return [name for (name,) in db.conn.execute(f"SELECT DISTINCT {column} FROM audit ORDER BY {column}")]


def _literally(text: str) -> str:
    """Keep signs that LIKE takes for patterns from being patterns."""
    return re.sub(r"[\\%_]", r"\\\g<0>", text)


def _records(db: Database, query: str, values: tuple[object, ...]) -> Iterator[Record]:
    return (Record(*row) for row in db.conn.execute(query, values))


def _json(values: Mapping[str, object] | None) -> str | None:
    return None if values is None else json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
