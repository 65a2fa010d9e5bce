"""Actions: changes that users and Barmill's processes make. Each is authorized, audited, and runs in one transaction.

    with action(db, actor, "key.rotate", name, needs=Permission.MANAGE_KEYS) as change:
        change.before = {...}
        ...
        change.after = {...}

If the audit record cannot be written, the change is rolled back. What an action returns (a secret, for example) may be
used only after the block, when the record is on disk. A refused action leaves only a record with the reason.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from barmill.audit.accounts import authorize
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import Stage, record
from barmill.platform.errors import AuditError, ControlError
from barmill.platform.sqlite_file import Database, immediate


@dataclass
class Change:
    """The change that an action makes, for the audit log; never a secret.

    stage: ISSUED if the action only requests something that others carry out under the same trace_id.
    """

    trace_id: str
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    stage: Stage = Stage.EXECUTED
    result: str = ""


@contextmanager
def action(
    db: Database,
    actor: Actor,
    name: str,
    subject: str,
    *,
    needs: Permission | None,
    trace_id: str | None = None,
) -> Iterator[Change]:
    """Run a `with` block as an action of `actor` on `subject`.

    needs: the required permission; None for actions of an account on its own data. Raise NotAllowedError without the
    permission, and AuditError if the control database cannot be written.
    """
    change = Change(trace_id or new_trace_id())
    try:
        with immediate(db):
            if needs is not None:
                authorize(db, actor, needs)
            yield change
            record(
                db,
                actor,
                name,
                subject,
                change.stage,
                trace_id=change.trace_id,
                result=change.result,
                before=change.before,
                after=change.after,
            )
    except ControlError as error:
        _record_refusal(db, actor, name, subject, change.trace_id, error)
        raise
    except sqlite3.Error as error:
        raise AuditError(f"The control database could not be written, so nothing was done: {error}.") from error


@contextmanager
def preparation(
    db: Database,
    actor: Actor,
    name: str,
    subject: str,
    *,
    needs: Permission | None,
    trace_id: str | None = None,
) -> Iterator[None]:
    """Run preparations of an action outside its transaction, so that no other writer waits for them.

    If the `with` block raises ControlError, this is recorded as a refusal of the action.
    """
    try:
        yield
    except ControlError:
        with action(db, actor, name, subject, needs=needs, trace_id=trace_id):
            raise


def record_outcome(
    db: Database, actor: Actor, name: str, subject: str, trace_id: str, *, failed: bool, result: str
) -> None:
    """Record the outcome of an action issued before. Raise AuditError if it cannot be written."""
    stage = Stage.FAILED if failed else Stage.EXECUTED
    try:
        with immediate(db):
            record(db, actor, name, subject, stage, trace_id=trace_id, result=result)
    except sqlite3.Error as error:
        raise AuditError(f"The result of {name} {subject} could not be recorded in the audit log: {error}.") from error


def new_trace_id() -> str:
    """Return an id shared by all records of one action."""
    return uuid.uuid4().hex


def _record_refusal(db: Database, actor: Actor, name: str, subject: str, trace_id: str, error: ControlError) -> None:
    try:
        with immediate(db):
            record(db, actor, name, subject, Stage.REFUSED, trace_id=trace_id, result=str(error))
    except sqlite3.Error:
        raise error from None  # the action did not happen in either case, and its own error is more specific
