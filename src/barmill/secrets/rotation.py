"""Rotation of the key-encryption key: it creates a new key, and re-encrypts every data key with it, one by one.

At any time, each row is encrypted with a key that is kept, so a rotation can be interrupted and called again. A call
first finishes an earlier rotation, and starts a new one only if there is nothing to finish. The same call moves
everything to another source once the settings name one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from barmill.audit.actions import action, new_trace_id, preparation, record_outcome
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import Stage
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.locks import exclusive
from barmill.platform.sqlite_file import Database
from barmill.secrets.info import KekError, TamperedSecretError
from barmill.secrets.kek import KeyEncryption, SealedSecret, rewrap
from barmill.secrets.keyring import Keyring
from barmill.secrets.records import Row, read_rows, used_keks

_PERMISSION = Permission.MANAGE_KEYS


@dataclass(frozen=True)
class KekRotation:
    """The result of a rotation.

    rewrapped: the number of keys moved. skipped: the number of keys that needed no move. failed: the names of keys
    whose rows were changed from outside. location: a description of where the key-encryption key is now; None if
    nothing is encrypted yet.
    """

    location: str | None
    rewrapped: int
    skipped: int
    failed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rewrapped} re-wrapped, {self.skipped} skipped, {len(self.failed)} failed"


def rotate_kek(home: Home, db: Database, actor: Actor) -> KekRotation:
    """Move every stored key to a new key-encryption key, or finish doing so.

    Raise KekError or VaultError if a key-encryption key is not available, or KekError if another rotation is running.
    """
    trace_id = new_trace_id()
    with _exclusive(home):
        with action(db, actor, "kek.rotate", "kek", needs=_PERMISSION, trace_id=trace_id) as change:
            change.stage, change.before = Stage.ISSUED, {"keks": sorted(used_keks(db))}
        try:
            rotation = _Rotation(home, db, actor, trace_id).run()
        except ControlError as error:
            record_outcome(db, actor, "kek.rotate", "kek", trace_id, failed=True, result=str(error))
            raise
        result = f"{rotation}; now {rotation.location}" if rotation.location else "nothing is encrypted yet"
        record_outcome(db, actor, "kek.rotate", "kek", trace_id, failed=bool(rotation.failed), result=result)
    return rotation


class _Rotation:
    def __init__(self, home: Home, db: Database, actor: Actor, trace_id: str) -> None:
        self._db, self._actor, self._trace_id = db, actor, trace_id
        self._keyring = Keyring(home, db)

    def run(self) -> KekRotation:
        used = used_keks(self._db)
        for kek_id in used:  # before anything is changed
            self._keyring.find(kek_id).check()
        if not used:
            return KekRotation(None, 0, 0, ())
        target = self._keyring.configured_kek(used) or self._keyring.create()
        rotation = self._move_to(target)
        if target.id in used and not rotation.rewrapped:
            target = self._keyring.renew(target)
            rotation = self._move_to(target)
        self._keyring.retire_file(target)
        return rotation

    def _move_to(self, target: KeyEncryption) -> KekRotation:
        rewrapped, skipped, failed = 0, 0, []
        for row in read_rows(self._db):
            if row.kek_id is None or row.sealed is None:
                continue  # revoked, or stored elsewhere
            if row.kek_id == target.id:
                skipped += 1
                continue
            try:
                is_moved = self._move(row, row.kek_id, row.sealed, target)
            except TamperedSecretError:
                failed.append(row.info.name)
            else:
                rewrapped, skipped = rewrapped + is_moved, skipped + (not is_moved)
        return KekRotation(target.location, rewrapped, skipped, tuple(failed))

    def _move(self, row: Row, kek_id: str, sealed: SealedSecret, target: KeyEncryption) -> bool:
        """Move one row's data key. Return False if the row was changed meanwhile and needs no move."""
        name = row.info.name
        with preparation(self._db, self._actor, "key.rewrap", name, needs=_PERMISSION, trace_id=self._trace_id):
            new = rewrap(self._keyring.find(kek_id), target, row.label, sealed)
        with action(self._db, self._actor, "key.rewrap", name, needs=_PERMISSION, trace_id=self._trace_id) as change:
            self._keyring.record(target)
            moved = self._db.conn.execute(
                "UPDATE secrets SET kek_id = ?, wrapped_key = ? WHERE name = ? AND wrapped_key = ?",
                (target.id, new.wrapped_key, name, sealed.wrapped_key),
            ).rowcount
            change.before, change.after = {"kek": kek_id}, {"kek": target.id}
            change.result = "" if moved else "changed meanwhile, skipped"
        return bool(moved)


@contextmanager
def _exclusive(home: Home) -> Iterator[None]:
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(home.run / "kek.lock", wait=False))
        except BlockingIOError:
            raise KekError("Another rotation of the key-encryption key is running; wait until it ends.") from None
        yield
