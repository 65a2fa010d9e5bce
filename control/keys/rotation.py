"""Rotation of the key-encryption key: a new one first, then every data key is moved under it, one by one.

At every moment each row is under a key that is kept, so a rotation may be cut off anywhere and called again: it
finishes what an earlier call began, and only when there is nothing to finish does it begin anew. The same call moves
everything to another source once the settings name one.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bar.sqlite import Database
from control.actions import action, new_trace_id, preparation, record_outcome
from control.audit import Stage
from control.errors import ControlError
from control.home import Home
from control.keys.envelope import Sealed, rewrap
from control.keys.errors import KekError, TamperedSecretError
from control.keys.kek import KeyEncryption
from control.keys.keyring import Keyring
from control.keys.records import Row, read_rows, used_keks
from control.people.roles import Actor, Permission

_NEEDS = Permission.MANAGE_KEYS


@dataclass(frozen=True)
class KekRotation:
    """What a rotation did: how many keys it moved, found moved already, and could not move (by name).

    place: where the key-encryption key is now, in words; None where nothing is encrypted yet.
    """

    place: str | None
    rewrapped: int
    skipped: int
    failed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rewrapped} re-wrapped, {self.skipped} skipped, {len(self.failed)} failed"


def rotate_kek(home: Home, db: Database, actor: Actor) -> KekRotation:
    """Move every stored key under a new key-encryption key, or finish doing so; raise KekError if that cannot begin."""
    trace_id = new_trace_id()
    with _alone(home):
        with action(db, actor, "kek.rotate", "kek", needs=_NEEDS, trace_id=trace_id) as change:
            change.stage, change.before = Stage.ISSUED, {"keks": sorted(used_keks(db))}
        try:
            done = _Rotation(home, db, actor, trace_id).run()
        except ControlError as error:
            record_outcome(db, actor, "kek.rotate", "kek", trace_id, failed=True, result=str(error))
            raise
        result = f"{done}; now {done.place}" if done.place else "nothing is encrypted yet"
        record_outcome(db, actor, "kek.rotate", "kek", trace_id, failed=bool(done.failed), result=result)
    return done


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
        target = self._keyring.wanted(used) or self._keyring.made()
        done = self._move_to(target)
        if target.id in used and not done.rewrapped:
            target = self._keyring.renewed(target)
            done = self._move_to(target)
        self._keyring.settle(target)
        return done

    def _move_to(self, target: KeyEncryption) -> KekRotation:
        rewrapped, skipped, failed = 0, 0, []
        for row in read_rows(self._db):
            if row.kek_id is None or row.sealed is None:
                continue  # revoked, or kept elsewhere
            if row.kek_id == target.id:
                skipped += 1
                continue
            try:
                moved = self._move(row, row.kek_id, row.sealed, target)
            except TamperedSecretError:
                failed.append(row.info.name)
            else:
                rewrapped, skipped = rewrapped + moved, skipped + (not moved)
        return KekRotation(target.place, rewrapped, skipped, tuple(failed))

    def _move(self, row: Row, kek_id: str, sealed: Sealed, target: KeyEncryption) -> bool:
        """Move one row's data key; return False if the row was changed meanwhile, and so needs no moving."""
        name = row.info.name
        with preparation(self._db, self._actor, "key.rewrap", name, needs=_NEEDS, trace_id=self._trace_id):
            new = rewrap(self._keyring.find(kek_id), target, row.label, sealed)
        with action(self._db, self._actor, "key.rewrap", name, needs=_NEEDS, trace_id=self._trace_id) as change:
            self._keyring.remember(target)
            moved = self._db.conn.execute(
                "UPDATE secrets SET kek_id = ?, wrapped_key = ? WHERE name = ? AND wrapped_key = ?",
                (target.id, new.wrapped_key, name, sealed.wrapped_key),
            ).rowcount
            change.before, change.after = {"kek": kek_id}, {"kek": target.id}
            change.result = "" if moved else "changed meanwhile, left alone"
        return bool(moved)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.run / "kek.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KekError("Another rotation of the key-encryption key is under way; wait for it to end.") from None
        yield
