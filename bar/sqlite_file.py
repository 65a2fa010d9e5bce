"""SQLite files that several processes share: opened in one way, with the same promises everywhere."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bar.sqlite import Database, Migrations

BUSY_TIMEOUT_S = 30.0


class StoreMissingError(Exception):
    """The file is not there yet: nothing has written it; start Barmill with ./barmill up."""


def open_for_writing(path: Path, *schemas: Migrations, durable: bool = True) -> Database:
    """Open or make a shared SQLite file in WAL mode, with the tables of these schemas brought up to date.

    durable: a committed transaction survives a power cut; without it, it survives only the death of the process.
    The connection may be used from several threads, one at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite would go by the umask; the files beside it get the same mode
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    _use_wal(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    db = Database(connection)
    _bring_up_to_date(db, schemas)
    return db


def _bring_up_to_date(db: Database, schemas: Sequence[Migrations]) -> None:
    """Apply what is pending, in one transaction: another process that opens the file finds all of it or none."""
    if any(schema.pending(db) for schema in schemas):
        with immediate(db):
            for schema in schemas:
                schema.apply(db)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a file to WAL mode; of several processes that do so at once on a new file, SQLite lets none wait."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def open_for_reading(path: Path, *schemas: Migrations) -> Database:
    """Open an existing file without any right to change it; raise StoreMissingError if there is none.

    A file that an earlier version wrote is brought up to date with these schemas by the process that opens it first.
    """
    if not path.exists() or not path.stat().st_size:  # made a moment ago, and nothing is in it yet
        raise StoreMissingError(f"There is no {path.name} yet; start Barmill with ./barmill up first.")
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
    )
    db = Database(connection)
    if any(schema.pending(db) for schema in schemas):
        open_for_writing(path, *schemas).conn.close()
    return db


@contextmanager
def immediate(db: Database) -> Iterator[None]:
    """Run a block in one transaction that holds the write lock from its start, so that what it reads stays true.

    Inside another transaction it is a part of that one.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")  # on a full disk it fails, and the transaction is still open
    except BaseException:
        db.rollback()
        raise
