"""The control database, opened for what people do."""

from collections.abc import Iterator
from contextlib import contextmanager

from bar.sqlite import Database
from control.audit import audit_migrations
from control.database import open_control_db
from control.home import Home
from control.people.tables import account_migrations


@contextmanager
def open_people(home: Home) -> Iterator[Database]:
    """Lend the control database of a home, with accounts and audit trail."""
    db = open_control_db(home, audit_migrations, account_migrations)
    try:
        yield db
    finally:
        db.conn.close()
