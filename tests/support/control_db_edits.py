"""Edits of the control database's file, as an attacker with access to it could make them."""

import sqlite3
from contextlib import closing

from barmill.platform.home import Home


def execute(home: Home, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run one statement on the file, past all that guards it."""
    with closing(sqlite3.connect(home.control_db)) as connection, connection:
        return connection.execute(statement, values).fetchall()
