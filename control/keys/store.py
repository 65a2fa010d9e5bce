"""The key store: API keys of providers, encrypted in the control database, with a record of every use.

Everything a row says about its secret is associated data of the encryption: a row that was swapped, edited or dated
back does not decrypt. Whoever can write the database can still put a whole old row back.

What goes in is never shown again, except to what uses it (`reveal`), and every use is on record. A version's secret is
gone for good with the next version, with its revocation and with its deletion: a provider ends the old key anyway, and
a key that nobody keeps cannot be lost.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Self

from bar.clock import now_ms
from bar.sqlite import Database
from control.actions import Change, action, preparation, record_outcome
from control.audit import Stage, audit_migrations
from control.database import open_control_db
from control.errors import ControlError
from control.home import Home
from control.keys.envelope import seal, unseal
from control.keys.errors import (
    KekError,
    KeyExistsError,
    KeyStoreError,
    KeyTestError,
    NoSuchSecretError,
    NotUsableError,
    TamperedSecretError,
)
from control.keys.hosts import check_hosts, checked_hosts, hosts_of_provider
from control.keys.info import KeyVersion, SecretInfo, State, moment
from control.keys.kek import KeyEncryption
from control.keys.keyring import Keyring
from control.keys.records import (
    Row,
    find_row,
    forget,
    keystore_migrations,
    read_row,
    read_rows,
    read_versions,
    used_keks,
    write_version,
)
from control.keys.references import Reference, parse_reference
from control.keys.rotation import KekRotation, rotate_kek
from control.keys.trial import KeyTest, without
from control.people.accounts import account_migrations
from control.people.roles import Actor, Permission

__all__ = ["KekError", "KeyStore", "KeyStoreError", "NoSuchSecretError", "SecretInfo", "TamperedSecretError"]

MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FINGERPRINT_HEX = 8


class KeyStore:
    """The stored keys of one home. One thread at a time."""

    def __init__(self, home: Home, db: Database, actor: Actor) -> None:
        self._home, self._db, self._actor = home, db, actor
        self._keyring = Keyring(home, db)

    @classmethod
    def open(cls, home: Home, actor: Actor) -> Self:
        """Open the key store, making its tables where there are none, on behalf of `actor`."""
        db = open_control_db(home, audit_migrations, account_migrations, keystore_migrations)
        db.conn.execute("PRAGMA secure_delete = ON")  # what is deleted or replaced is overwritten in the file
        return cls(home, db, actor)

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(
        self,
        name: str,
        provider: str,
        secret: str | Reference,
        *,
        expires_ms: int | None = None,
        hosts: Sequence[str] = (),
    ) -> SecretInfo:
        """Store a key, or where it is kept, under a new name; hosts: where it may be sent, empty: to its provider's."""
        if not _NAME.fullmatch(name):  # not even on record: it may be a key in the wrong place
            raise KeyStoreError("A key's name is 1 to 64 small letters, digits, dots, dashes and underscores.")
        with self._preparation("key.add", name):
            if not _NAME.fullmatch(provider):
                raise KeyStoreError("A provider's name is 1 to 64 small letters, digits, dots, dashes and underscores.")
            if find_row(self._db, name) is not None:
                raise KeyExistsError(
                    f"There is a stored key named {name!r} already; give it a new secret with ./barmill key rotate"
                    f" {name}, or take another name."
                )
            bound = checked_hosts(hosts) or hosts_of_provider(provider)
            info = SecretInfo(name, provider, 1, "", now_ms(), expires_ms, hosts=bound)
            row, kek = self._sealed(info, secrets.token_hex(8), secret)
        return self._write("key.add", None, row, kek)

    def rotate(
        self, name: str, secret: str | Reference, *, expires_ms: int | None = None, hosts: Sequence[str] = ()
    ) -> SecretInfo:
        """Give a key a new secret as its next version, with its own expiry; a revoked key is good again.

        hosts: where it may be sent from now on; empty: as before. Binding it to others takes the secret.
        """
        with self._preparation("key.rotate", name):
            before = read_row(self._db, name)
            bound = checked_hosts(hosts) or before.info.hosts
            version = before.info.version + 1
            info = SecretInfo(name, before.info.provider, version, "", now_ms(), expires_ms, hosts=bound)
            row, kek = self._sealed(info, before.id, secret)
        return self._write("key.rotate", before, row, kek)

    def reveal(self, name: str, hosts: Sequence[str] | None = None) -> str:
        """Return a key in the clear, for the moment of its use.

        hosts: where it will be sent; raise KeyHostError if there are none, or the key is not bound to each of these.
        None only for what is set in the home's own files, and not by a feed.
        """
        row, secret = self._look_up("key.reveal", name, hosts)
        with self._action("key.reveal", name):
            self._use(row)
        return secret

    def test(self, name: str, tests: Mapping[str, KeyTest]) -> str:
        """Try a key at its provider; return what the provider says to it, or raise KeyTestError."""
        row, secret = self._look_up("key.test", name)
        with self._action("key.test", name) as change:
            self._use(row)
            test = tests.get(row.info.provider)
            if test is None:
                raise KeyTestError(f"Keys of {row.info.provider} cannot be tested; {_those(tests)} can.")
            change.stage = Stage.ISSUED
        try:
            said = without(secret, test(self._home, secret))
        except KeyTestError as error:
            said = without(secret, str(error))
            record_outcome(self._db, self._actor, "key.test", name, change.trace_id, failed=True, result=said)
            raise KeyTestError(said) from None
        record_outcome(self._db, self._actor, "key.test", name, change.trace_id, failed=False, result=said)
        return said

    def revoke(self, name: str) -> None:
        """Let a key not be used any more, and destroy its secret. This needs no key-encryption key."""
        with self._action("key.revoke", name) as change:
            row = read_row(self._db, name)
            if row.info.revoked_ms is not None:
                raise NotUsableError(f"The key {name!r} was revoked already, on {moment(row.info.revoked_ms)}.")
            self._db.conn.execute(
                "UPDATE secrets SET revoked_ms = ?, kek_id = NULL, wrapped_key = NULL, ciphertext = NULL"
                " WHERE name = ?",
                (now_ms(), name),
            )
            change.before = _shown(row.info)

    def delete(self, name: str) -> None:
        """Forget a key. This needs no key-encryption key, so that it is the way out when that one is lost."""
        with self._action("key.delete", name) as change:
            row = read_row(self._db, name)
            forget(self._db, row)
            change.before = _shown(row.info)

    def list(self) -> tuple[SecretInfo, ...]:
        """Return what may be shown of every stored key, by name."""
        return tuple(row.info for row in read_rows(self._db))

    def versions(self, name: str) -> tuple[KeyVersion, ...]:
        """Return a key's history, the newest version first; nothing where there is no such key."""
        return read_versions(self._db, name)

    def rotate_kek(self) -> KekRotation:
        """Move everything under a new key-encryption key; see rotation.py."""
        return rotate_kek(self._home, self._db, self._actor)

    def problem(self) -> str | None:
        """Say why the stored keys cannot be read here, as far as that shows without asking anybody, or None."""
        try:
            for kek_id in used_keks(self._db):
                self._keyring.find(kek_id)
        except ControlError as error:
            return str(error)
        return None

    def _sealed(self, info: SecretInfo, secret_id: str, secret: str | Reference) -> tuple[Row, KeyEncryption | None]:
        """Return the row of a new version, and the key it needs if any."""
        if info.expires_ms is not None and info.expires_ms <= info.created_ms:
            raise KeyStoreError(f"{moment(info.expires_ms)} is past; a key expires in the future.")
        if not isinstance(secret, str):
            return Row(replace(info, reference=str(secret)), secret_id), None
        data = _encoded(secret)
        kek = self._keyring.to_encrypt()
        row = Row(replace(info, fingerprint=_fingerprint(kek, info.name, secret)), secret_id, kek.id)
        return replace(row, sealed=seal(kek, row.label, data)), kek

    def _write(self, name: str, before: Row | None, row: Row, kek: KeyEncryption | None) -> SecretInfo:
        with self._action(name, row.info.name) as change:
            self._expect(row.info.name, before)
            if kek is not None:
                self._keyring.remember(kek)
            write_version(self._db, row, self._actor.name)
            change.before, change.after = _shown(before.info) if before else None, _shown(row.info)
        return row.info

    def _look_up(self, action_name: str, name: str, hosts: Sequence[str] | None = None) -> tuple[Row, str]:
        """Return a key's row and its secret, which may be used only once the action is on record."""
        with self._preparation(action_name, name):
            row = read_row(self._db, name)
            _check_usable(row.info)
            if hosts is not None:
                check_hosts(name, row.info.hosts, hosts)
            if row.info.reference is not None:
                return row, parse_reference(row.info.reference).look_up()
            return row, self._opened(row)

    def _opened(self, row: Row) -> str:
        changed = TamperedSecretError(
            f"The stored key {row.info.name!r} was changed from outside and cannot be trusted;"
            " delete it and enter it again."
        )
        if row.sealed is None or row.kek_id is None:
            raise changed
        kek = self._keyring.find(row.kek_id)
        try:
            return unseal(kek, row.label, row.sealed).decode()
        except TamperedSecretError:
            kek.check()  # with another key no row decrypts, and this one may be as it was
            raise changed from None

    def _use(self, row: Row) -> None:
        self._expect(row.info.name, row)
        self._db.conn.execute("UPDATE secrets SET last_used_ms = ? WHERE name = ?", (now_ms(), row.info.name))

    def _expect(self, name: str, before: Row | None) -> None:
        """Raise KeyStoreError if a key is not what it was when the action was prepared."""
        now = find_row(self._db, name)
        if _identity(now) != _identity(before):
            raise KeyStoreError(f"The key {name!r} was changed by somebody else at the same moment; try again.")

    def _action(self, name: str, subject: str) -> AbstractContextManager[Change]:
        return action(self._db, self._actor, name, subject, needs=Permission.MANAGE_KEYS)

    def _preparation(self, name: str, subject: str) -> AbstractContextManager[None]:
        return preparation(self._db, self._actor, name, subject, needs=Permission.MANAGE_KEYS)


def _encoded(secret: str) -> bytes:
    try:
        data = secret.encode()
    except UnicodeEncodeError:  # its message and its cause hold the secret
        raise KeyStoreError(
            "A key is text, and this one has parts that are none; give it as its provider did."
        ) from None
    if not 0 < len(data) <= MAX_SECRET_BYTES:
        raise KeyStoreError(f"A key is 1 to {MAX_SECRET_BYTES} bytes long.")
    return data


def _check_usable(info: SecretInfo) -> None:
    state = info.state(now_ms())
    if state.usable:
        return
    since = f"expired on {moment(info.expires_ms)}" if info.expires_ms and state is State.EXPIRED else "is revoked"
    raise NotUsableError(f"The key {info.name!r} {since}; give it a new secret with ./barmill key rotate {info.name}.")


def _identity(row: Row | None) -> object:
    return row and (row.id, row.info.version, row.info.revoked_ms, row.info.hosts)


def _shown(info: SecretInfo) -> dict[str, object]:
    return {
        "provider": info.provider,
        "version": info.version,
        "fingerprint": info.fingerprint or None,
        "expires_ms": info.expires_ms,
        "reference": info.reference,
        "hosts": list(info.hosts),
    }


def _those(tests: Mapping[str, KeyTest]) -> str:
    return f"those of {', '.join(sorted(tests))}" if tests else "none"


def _fingerprint(kek: KeyEncryption, name: str, secret: str) -> str:
    # Under the name, so that equal keys of different names do not show as equal.
    return kek.mac(json.dumps([name, secret]).encode()).hex()[:_FINGERPRINT_HEX]
