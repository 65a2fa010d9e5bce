"""The key store: API keys of providers, encrypted in the control database, with an audit record of every use.

The identity, hosts and expiry of a key are associated data of the encryption (see `label` in records.py), so a row that
was swapped, edited or backdated does not decrypt. A user who can write the database can still restore a complete old
row.

A stored secret is never shown again, only handed to the code that uses it (`reveal`), and every use is audited. The
next version, a revocation or a deletion destroys the secret of a version: the provider invalidates the old key anyway,
and a key that is not kept cannot leak.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Self

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import Change, action, preparation, record_outcome
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import Stage, audit_migrations
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Store, open_control_db
from barmill.platform.texts import utc_text
from barmill.secrets.hosts import check_hosts, hosts_of_provider, normalized_hosts
from barmill.secrets.info import (
    KekError,
    KeyExistsError,
    KeyStoreError,
    KeyTest,
    KeyTestError,
    KeyVersion,
    NoSuchSecretError,
    NotUsableError,
    SecretInfo,
    State,
    TamperedSecretError,
    hide_secret,
)
from barmill.secrets.kek import KeyEncryption, seal, unseal
from barmill.secrets.keyring import Keyring
from barmill.secrets.records import (
    Row,
    delete_row,
    find_row,
    keystore_migrations,
    read_row,
    read_rows,
    read_versions,
    used_keks,
    write_version,
)
from barmill.secrets.references import Reference, parse_reference
from barmill.secrets.rotation import KekRotation, rotate_kek

__all__ = ["KekError", "KeyStore", "KeyStoreError", "NoSuchSecretError", "SecretInfo", "TamperedSecretError"]

MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FINGERPRINT_HEX = 8


class KeyStore(Store):
    """The stored keys of one home. Use from one thread at a time."""

    def __init__(self, home: Home, db: Database, actor: Actor) -> None:
        super().__init__(db)
        self._home, self._actor = home, actor
        self._keyring = Keyring(home, db)

    @classmethod
    def open(cls, home: Home, actor: Actor) -> Self:
        """Open the key store on behalf of `actor`, and create missing tables."""
        db = open_control_db(home, audit_migrations, account_migrations, keystore_migrations)
        db.conn.execute("PRAGMA secure_delete = ON")  # overwrite deleted and replaced content in the file
        return cls(home, db, actor)

    def add(
        self,
        name: str,
        provider: str,
        secret: str | Reference,
        *,
        expires_ms: int | None = None,
        hosts: Sequence[str] = (),
    ) -> SecretInfo:
        """Store a key, or a reference to it, under a new name.

        hosts: where it may be sent; empty for the hosts of its provider. Raise KeyExistsError if the name is taken, and
        another KeyStoreError if the key cannot be stored.
        """
        if not _NAME.fullmatch(name):  # not even audited, as the name may be a key in the wrong field
            raise KeyStoreError("The name of a key has 1 to 64 lowercase letters, digits, dots, dashes or underscores.")
        with self._preparation("key.add", name):
            if not _NAME.fullmatch(provider):
                raise KeyStoreError(
                    "The name of a provider has 1 to 64 lowercase letters, digits, dots, dashes or underscores."
                )
            if find_row(self.db, name) is not None:
                raise KeyExistsError(
                    f"A stored key named {name!r} already exists; give it a new secret with ./barmill key rotate"
                    f" {name}, or choose another name."
                )
            allowed_hosts = normalized_hosts(hosts) or hosts_of_provider(provider)
            info = SecretInfo(name, provider, 1, "", now_ms(), expires_ms, hosts=allowed_hosts)
            row, kek = self._seal_secret(info, secrets.token_hex(8), secret)
        return self._write("key.add", None, row, kek)

    def rotate(
        self, name: str, secret: str | Reference, *, expires_ms: int | None = None, hosts: Sequence[str] = ()
    ) -> SecretInfo:
        """Store a new secret as the next version of a key, with its own expiry. This also reactivates a revoked key.

        hosts: where it may be sent from now on; empty for the same hosts as before. Changing the hosts requires the
        secret. Raise NoSuchSecretError if there is no such key, and another KeyStoreError if it cannot be stored.
        """
        with self._preparation("key.rotate", name):
            before = read_row(self.db, name)
            allowed_hosts = normalized_hosts(hosts) or before.info.hosts
            version = before.info.version + 1
            info = SecretInfo(name, before.info.provider, version, "", now_ms(), expires_ms, hosts=allowed_hosts)
            row, kek = self._seal_secret(info, before.id, secret)
        return self._write("key.rotate", before, row, kek)

    def reveal(self, name: str, hosts: Sequence[str] | None = None) -> str:
        """Return a key in plain text, for immediate use.

        hosts: where it will be sent. Raise KeyHostError if this is empty or the key is not bound to each of these
        hosts. None is only for keys named in the home's own files, not by a feed. Raise another KeyStoreError if there
        is no such key, or if it is revoked, expired or cannot be read.
        """
        row, secret = self._look_up("key.reveal", name, hosts)
        with self._action("key.reveal", name):
            self._use(row)
        return secret

    def test(self, name: str, tests: Mapping[str, KeyTest]) -> str:
        """Test a key at its provider. Return the provider's answer, or raise KeyTestError."""
        row, secret = self._look_up("key.test", name)
        with self._action("key.test", name) as change:
            self._use(row)
            test = tests.get(row.info.provider)
            if test is None:
                raise KeyTestError(
                    f"Keys of {row.info.provider} cannot be tested; testable: {', '.join(sorted(tests)) or 'none'}."
                )
            change.stage = Stage.ISSUED
        try:
            result = hide_secret(secret, test(self._home, secret))
        except KeyTestError as error:
            result = hide_secret(secret, str(error))
            record_outcome(self.db, self._actor, "key.test", name, change.trace_id, failed=True, result=result)
            raise KeyTestError(result) from None
        record_outcome(self.db, self._actor, "key.test", name, change.trace_id, failed=False, result=result)
        return result

    def revoke(self, name: str) -> None:
        """Revoke a key and destroy its secret. This needs no key-encryption key.

        Raise NoSuchSecretError if there is no such key, and NotUsableError if it was already revoked.
        """
        with self._action("key.revoke", name) as change:
            row = read_row(self.db, name)
            if row.info.revoked_ms is not None:
                raise NotUsableError(f"The key {name!r} was already revoked on {utc_text(row.info.revoked_ms)}.")
            self.db.conn.execute(
                "UPDATE secrets SET revoked_ms = ?, kek_id = NULL, wrapped_key = NULL, ciphertext = NULL"
                " WHERE name = ?",
                (now_ms(), name),
            )
            change.before = _audit_fields(row.info)

    def delete(self, name: str) -> None:
        """Delete a key. This needs no key-encryption key, so it also works if that key is lost."""
        with self._action("key.delete", name) as change:
            row = read_row(self.db, name)
            delete_row(self.db, row)
            change.before = _audit_fields(row.info)

    def list(self) -> tuple[SecretInfo, ...]:
        """Return the public data of every stored key, by name."""
        return tuple(row.info for row in read_rows(self.db))

    def versions(self, name: str) -> tuple[KeyVersion, ...]:
        """Return a key's history, newest version first; empty if there is no such key."""
        return read_versions(self.db, name)

    def rotate_kek(self) -> KekRotation:
        """Move everything to a new key-encryption key; see rotation.py."""
        return rotate_kek(self._home, self.db, self._actor)

    def problem(self) -> str | None:
        """Return why the stored keys cannot be read, as far as known without contacting a vault, or None."""
        try:
            for kek_id in used_keks(self.db):
                self._keyring.find(kek_id)
        except ControlError as error:
            return str(error)
        return None

    def _seal_secret(
        self, info: SecretInfo, secret_id: str, secret: str | Reference
    ) -> tuple[Row, KeyEncryption | None]:
        """Return the row of a new version, and the key-encryption key it needs, if any."""
        if info.expires_ms is not None and info.expires_ms <= info.created_ms:
            raise KeyStoreError(f"{utc_text(info.expires_ms)} is in the past; give an expiry in the future.")
        if not isinstance(secret, str):
            return Row(replace(info, reference=str(secret)), secret_id), None
        data = _encode(secret)
        kek = self._keyring.encryption_key()
        row = Row(replace(info, fingerprint=_fingerprint(kek, info.name, secret)), secret_id, kek.id)
        return replace(row, sealed=seal(kek, row.label, data)), kek

    def _write(self, name: str, before: Row | None, row: Row, kek: KeyEncryption | None) -> SecretInfo:
        with self._action(name, row.info.name) as change:
            self._check_unchanged(row.info.name, before)
            if kek is not None:
                self._keyring.record(kek)
            write_version(self.db, row, self._actor.name)
            change.before, change.after = _audit_fields(before.info) if before else None, _audit_fields(row.info)
        return row.info

    def _look_up(self, action_name: str, name: str, hosts: Sequence[str] | None = None) -> tuple[Row, str]:
        """Return a key's row and its secret, which may be used only once the action is audited."""
        with self._preparation(action_name, name):
            row = read_row(self.db, name)
            _check_usable(row.info)
            if hosts is not None:
                check_hosts(name, row.info.hosts, hosts)
            if row.info.reference is not None:
                return row, parse_reference(row.info.reference).look_up()
            return row, self._decrypt(row)

    def _decrypt(self, row: Row) -> str:
        error = TamperedSecretError(
            f"The stored key {row.info.name!r} was changed outside Barmill and cannot be trusted;"
            " delete it and enter it again."
        )
        if row.sealed is None or row.kek_id is None:
            raise error
        kek = self._keyring.find(row.kek_id)
        try:
            return unseal(kek, row.label, row.sealed).decode()
        except TamperedSecretError:
            kek.check()  # with another key no row decrypts, and this row may be unchanged
            raise error from None

    def _use(self, row: Row) -> None:
        self._check_unchanged(row.info.name, row)
        self.db.conn.execute("UPDATE secrets SET last_used_ms = ? WHERE name = ?", (now_ms(), row.info.name))

    def _check_unchanged(self, name: str, before: Row | None) -> None:
        """Raise KeyStoreError if a key has changed since the action was prepared."""
        current = find_row(self.db, name)
        if _identity(current) != _identity(before):
            raise KeyStoreError(f"The key {name!r} was changed by another account at the same time; try again.")

    def _action(self, name: str, subject: str) -> AbstractContextManager[Change]:
        return action(self.db, self._actor, name, subject, needs=Permission.MANAGE_KEYS)

    def _preparation(self, name: str, subject: str) -> AbstractContextManager[None]:
        return preparation(self.db, self._actor, name, subject, needs=Permission.MANAGE_KEYS)


def _encode(secret: str) -> bytes:
    try:
        data = secret.encode()
    except UnicodeEncodeError:  # its message and its cause contain the secret
        raise KeyStoreError("The key is not valid text; copy it again from the provider.") from None
    if not 0 < len(data) <= MAX_SECRET_BYTES:
        raise KeyStoreError(f"A key must be 1 to {MAX_SECRET_BYTES} bytes long.")
    return data


def _check_usable(info: SecretInfo) -> None:
    state = info.state(now_ms())
    if state.usable:
        return
    reason = f"expired on {utc_text(info.expires_ms)}" if info.expires_ms and state is State.EXPIRED else "is revoked"
    raise NotUsableError(f"The key {info.name!r} {reason}; give it a new secret with ./barmill key rotate {info.name}.")


def _identity(row: Row | None) -> object:
    return row and (row.id, row.info.version, row.info.revoked_ms, row.info.hosts)


def _audit_fields(info: SecretInfo) -> dict[str, object]:
    return {
        "provider": info.provider,
        "version": info.version,
        "fingerprint": info.fingerprint or None,
        "expires_ms": info.expires_ms,
        "reference": info.reference,
        "hosts": list(info.hosts),
    }


def _fingerprint(kek: KeyEncryption, name: str, secret: str) -> str:
    # Includes the name, so that equal keys with different names have different fingerprints.
    return kek.mac(json.dumps([name, secret]).encode()).hex()[:_FINGERPRINT_HEX]
