"""SQLite files shared by several processes: one way to open them, with the same guarantees everywhere."""

import errno
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import methodcaller
from pathlib import Path
from typing import Self

from barmill.platform.clock import wait_until
from barmill.platform.home import Home

__all__ = [
    "PAUSE_S",
    "Database",
    "Migrations",
    "Store",
    "StoreMissingError",
    "data_version",
    "if_ready",
    "immediate",
    "is_from_full_disk",
    "is_full",
    "is_not_ready",
    "open_control_db",
    "open_for_reading",
    "open_for_writing",
    "read_control_db",
    "wait_for_change",
]


@contextmanager
def _hide_module(name: str) -> Iterator[None]:
    """Make imports of a module fail in the block, as if it were not installed."""
    module = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module


# sqlite_utils imports these if they are installed, which takes long, and works without them.
with _hide_module("pandas"), _hide_module("numpy"):
    from sqlite_utils import Database, Migrations


BUSY_TIMEOUT_S = 30.0


class StoreMissingError(Exception):
    """The file does not exist yet, as nothing has been written. Start Barmill with ./barmill up."""


# A new file has no tables for a moment, and a file of an earlier version lacks columns until it is migrated.
_NOT_CREATED_MESSAGES = ("no such table", "no such column")
_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
# On a full disk, even a reader may fail, as it creates the auxiliary files. Health and status report the full disk.
_NO_SPACE_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def is_not_ready(error: BaseException) -> bool:
    """Return whether reading failed because a store is missing, not fully created, or busy, or the disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0)  # an error raised by Python code has none
        return code & 0xFF in _BUSY_CODES or code in _NO_SPACE_CODES or str(error).startswith(_NOT_CREATED_MESSAGES)
    return isinstance(error, StoreMissingError)


class if_ready(AbstractContextManager[None, bool]):
    """Run a block that reads a store; leave the block without an error if the store is not ready.

    The caller provides the value for that case. Errors for which `is_not_ready` is False are raised: wrong
    SQL, a damaged or unreadable file, a disk that fails.
    """

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return error is not None and is_not_ready(error)


def open_for_writing(path: Path, *schemas: Migrations, durable: bool = True) -> Database:
    """Open or create a shared SQLite file in WAL mode, and migrate its tables to these schemas.

    durable: a committed transaction survives a power failure; otherwise it survives only a crash of the process. The
    connection may be used from several threads, one at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite would use the umask; its auxiliary files get the same mode
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    _use_wal(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    # On macOS, SQLite would otherwise leave a commit in the cache of the disk. Other systems ignore this.
    connection.execute(f"PRAGMA fullfsync = {durable:d}")
    db = Database(connection)
    if any(map(methodcaller("pending", db), schemas)):
        with immediate(db):  # so that another process sees all pending migrations or none
            for schema in schemas:
                schema.apply(db)
    return db


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a file to WAL mode. SQLite does not wait if several processes do this at once on a new file."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.005)
        else:
            return


def open_for_reading(path: Path, *schemas: Migrations) -> Database:
    """Open an existing file read-only. Raise StoreMissingError if it does not exist.

    A file from an earlier version is migrated to these schemas by the first process that opens it.
    """
    if not path.exists() or not path.stat().st_size:  # just created, and still empty
        raise _missing_error(path)
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
    except sqlite3.OperationalError:
        if path.exists():
            raise
        raise _missing_error(path) from None  # deleted or replaced since the check above
    db = Database(connection)
    if any(map(methodcaller("pending", db), schemas)):
        connection.close()  # otherwise the write-ahead log of the whole migration would stay, and slow each later open
        open_for_writing(path, *schemas).conn.close()
        return open_for_reading(path)
    return db


def _missing_error(path: Path) -> StoreMissingError:
    return StoreMissingError(f"There is no {path.name} yet; start Barmill with ./barmill up first.")


def open_control_db(home: Home, *schemas: Migrations) -> Database:
    """Open the control database, private to this user, for writing, with the tables of these schemas migrated."""
    db = open_for_writing(home.control_db, *schemas)
    home.control_db.chmod(0o600)
    return db


def read_control_db(home: Home) -> Database:
    """Open the control database for reading. Raise StoreMissingError if it does not exist."""
    return open_for_reading(home.control_db)


class Store:
    """The tables of one SQLite file, to be closed after use, for example by a `with` block."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.db.conn.close()


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection or process has written; cheap while none has."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def wait_for_change(
    connection: sqlite3.Connection, version: int, timeout_s: float, *, every_s: float, stop: threading.Event
) -> bool:
    """Wait until the data version is no longer the one seen; return False on timeout or when `stop` is set."""
    return wait_until(lambda: data_version(connection) != version, timeout_s, every_s=every_s, stop=stop)


@contextmanager
def immediate(db: Database) -> Iterator[None]:
    """Run a block in one transaction that holds the write lock from the start, so that what it reads stays valid.

    Within another transaction, it becomes part of that transaction.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")  # on a full disk this fails and leaves the transaction open
    except BaseException:
        db.rollback()
        raise


# Below this, SQLite and other writers fail in ways that do not name the cause.
FULL_BELOW_BYTES = 1_000_000
# How long a writer pauses before it tries again.
PAUSE_S = 5.0


def is_full(folder: Path) -> bool:
    """Return whether the disk of a folder is full."""
    return shutil.disk_usage(folder).free < FULL_BELOW_BYTES


def is_from_full_disk(error: BaseException, folder: Path) -> bool:
    """Return whether an error was caused by a full disk or quota. `folder` is on the disk in question."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        # SQLite may report a full disk only as an I/O error or as a file that cannot be opened.
        if isinstance(cause, OSError | sqlite3.Error) and is_full(folder):
            return True
        cause = cause.__cause__
    return False
