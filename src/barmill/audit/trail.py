"""The audit log: who changed what, from which value to which, and the result. Append-only, and chained by hashes.

    audit   number, time_ms, actor, action, subject, stage, result, before, after, trace_id, previous_hash, hash

The hash of a record covers the record and the previous hash, so a changed, removed or inserted record breaks the chain
from there on. SQLite's counter of record numbers reveals whether the newest records were removed. A user who can write
the file can also forge a complete new chain: from time to time, note the head elsewhere (`./barmill audit verify-log`
prints it).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from barmill.audit.roles import Actor
from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import Database, Migrations

FIRST_HASH = "0" * 64
# Each file stores the names of its migrations, so the functions are never renamed.
audit_migrations = Migrations("audit")


class Stage(StrEnum):
    """The stage of an action. A lengthy action is issued first; later it is executed, or it fails."""

    ISSUED = "issued"
    EXECUTED = "executed"
    REFUSED = "refused"
    FAILED = "failed"


@audit_migrations()
def create(db: Database) -> None:
    """Create the table, and the triggers that make it append-only."""
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
    """Add indexes that find the records of one actor or action quickly."""
    for column in ("actor", "action"):
        db.conn.execute(f"CREATE INDEX audit_by_{column} ON audit ({column})")


@dataclass(frozen=True)
class Record:
    """A record of the audit log. before and after are JSON; trace_id is shared by all records of one action."""

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
        text = json.dumps(_fields_without_hash(self), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_COLUMNS = tuple(field.name for field in fields(Record))
_fields_without_hash = attrgetter(*_COLUMNS[:-1])
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
    """Append one record, in the caller's transaction, which must hold the write lock (see platform/sqlite_file.py)."""
    previous = db.conn.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone() or (0, "")
    unhashed = Record(
        number=previous[0] + 1,
        time_ms=now_ms(),
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
    placeholders = ", ".join("?" * len(_COLUMNS))
    db.conn.execute(f"INSERT INTO audit VALUES ({placeholders})", (*astuple(unhashed)[:-1], unhashed.digest()))


@dataclass(frozen=True)
class ChainCheck:
    """The result of checking the chain. problem: the first problem, or ''.

    records, head: the number of records before the problem, and the hash of the last of them.
    """

    records: int
    head: str
    problem: str


def verify_chain(db: Database) -> ChainCheck:
    """Read the log and check every link, up to the first problem."""
    count, head = 0, FIRST_HASH
    for record in _records(db, f"{_SELECT} ORDER BY number", ()):
        problem = ""
        if record.number != count + 1:
            problem = f"Record {count + 1} is missing: record {record.number} follows record {count}."
        elif record.previous_hash != head:
            problem = f"Record {record.number} does not match the hash of the record before it."
        elif record.hash != record.digest():
            problem = f"Record {record.number} was changed after it was written."
        if problem:
            return ChainCheck(count, head, problem)
        count, head = record.number, record.hash
    row = db.conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if row is not None and row[0] > count:
        return ChainCheck(count, head, f"Records {count + 1} to {row[0]} were removed from the end.")
    return ChainCheck(count, head, "")


def contains_hash(db: Database, digest: str) -> bool:
    """Return whether a record has this hash, to check a head noted earlier."""
    return db.conn.execute("SELECT 1 FROM audit WHERE hash = ?", (digest,)).fetchone() is not None


@dataclass(frozen=True)
class Search:
    """A search for records.

    text: a part of the actor, action, subject, result, before, after or trace_id. from_ms, to_ms: only records of
    [from_ms, to_ms), in epoch ms. below: only records with smaller numbers, for the next page.
    """

    text: str = ""
    actor: str | None = None
    action: str | None = None
    stage: str | None = None
    trace_id: str | None = None
    from_ms: int = 0
    to_ms: int = 2**62
    below: int = 2**62


def search(db: Database, criteria: Search, *, limit: int = -1) -> list[Record]:
    """Return the matching records, newest first. A negative `limit` returns all."""
    where = ["number < ?", "time_ms >= ?", "time_ms < ?"]
    values: list[object] = [criteria.below, criteria.from_ms, criteria.to_ms]
    for column in ("actor", "action", "stage", "trace_id"):
        if (value := getattr(criteria, column)) is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if criteria.text:
        text_columns = ("actor", "action", "subject", "result", "before", "after", "trace_id")
        where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in text_columns) + ")")
        values += [f"%{_escape_like(criteria.text)}%"] * len(text_columns)
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
    return list(_records(db, query, (*values, limit)))


def last_executed(db: Database, actions: Iterable[str], subject: str) -> Record | None:
    """Return the newest executed record of any of these actions on a subject; None if there is none."""
    action_names = list(actions)
    placeholders = ", ".join("?" * len(action_names))
    query = f"{_SELECT} WHERE action IN ({placeholders}) AND subject = ? AND stage = ? ORDER BY number DESC LIMIT 1"
    return next(_records(db, query, (*action_names, subject, Stage.EXECUTED.value)), None)


def distinct_values(db: Database, column: Literal["actor", "action"]) -> list[str]:
    """Return every actor, or every action, in the log."""
    return [name for (name,) in db.conn.execute(f"SELECT DISTINCT {column} FROM audit ORDER BY {column}")]


def _escape_like(text: str) -> str:
    """Escape characters that are wildcards for LIKE."""
    return re.sub(r"[\\%_]", r"\\\g<0>", text)


def _records(db: Database, query: str, values: tuple[object, ...]) -> Iterator[Record]:
    return (Record(*row) for row in db.conn.execute(query, values))


def _json(values: Mapping[str, object] | None) -> str | None:
    return None if values is None else json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
