"""Which stored keys have a last day: the one place where monitoring asks the keys' room. It reads no secret."""

import sqlite3
from contextlib import closing

from bar.sqlite_file import StoreMissingError
from control.database import read_control_db
from control.home import Home
from control.keys.records import read_rows
from control.monitor.judge import KeyExpiry


def expiring_keys(home: Home) -> list[KeyExpiry]:
    """Return every stored key that is in use and has a last day."""
    try:
        db = read_control_db(home)
        with closing(db.conn):
            infos = [row.info for row in read_rows(db)]
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made it, or not all of it, yet
        return []
    return [
        KeyExpiry(one.name, one.expires_ms) for one in infos if one.expires_ms is not None and one.revoked_ms is None
    ]
