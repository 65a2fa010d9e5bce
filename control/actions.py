"""The one way anything is changed: by somebody who may, with a record of it, in one transaction.

    with action(db, actor, "key.rotate", name, needs=Permission.MANAGE_KEYS) as change:
        change.before = {...}
        ...
        change.after = {...}

If the record cannot be written, nothing happens. What an action hands out (a secret, say) may be used only after the
block: then the record is on disk. An action that is refused leaves a record that says why, and nothing else.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bar.sqlite import Database
from control.audit import Stage, record
from control.database import immediate
from control.errors import AuditError, ControlError
from control.people.accounts import authorise
from control.people.roles import Actor, Permission


@dataclass
class Change:
    """What an action changes, for the trail; never a secret.

    stage: ISSUED where the action only asks for something that others carry out under the same trace_id.
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
    """Run a block as an action of `actor` on `subject`; needs: None for what everybody may do to what is their own."""
    change = Change(trace_id or new_trace_id())
    try:
        with immediate(db):
            if needs is not None:
                authorise(db, actor, needs)
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
    """Run what an action needs from elsewhere before it begins, so that nobody waits for the database meanwhile.

    What is refused here is on record as a refusal of the action.
    """
    try:
        yield
    except ControlError:
        with action(db, actor, name, subject, needs=needs, trace_id=trace_id):
            raise


def record_outcome(
    db: Database, actor: Actor, name: str, subject: str, trace_id: str, *, failed: bool, result: str
) -> None:
    """Record what became of something that was issued before; raise AuditError where that cannot be written."""
    stage = Stage.FAILED if failed else Stage.EXECUTED
    try:
        with immediate(db):
            record(db, actor, name, subject, stage, trace_id=trace_id, result=result)
    except sqlite3.Error as error:
        raise AuditError(f"What became of {name} {subject} could not be recorded: {error}.") from error


def new_trace_id() -> str:
    """Return an id that joins everything that belongs to one action."""
    return uuid.uuid4().hex


def _record_refusal(db: Database, actor: Actor, name: str, subject: str, trace_id: str, error: ControlError) -> None:
    try:
        with immediate(db):
            record(db, actor, name, subject, Stage.REFUSED, trace_id=trace_id, result=str(error))
    except sqlite3.Error:
        raise error from None  # the action did not happen either way, and its own reason says more
