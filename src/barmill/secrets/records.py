"""The tables of the key store in the control database.

    secrets           one row per key: its public data, and its newest version under two layers of encryption
    secret_versions   every version: its creation time, creator and fingerprint; not its secret
    transit_keys      the transit keys (see vault.py) that encrypted data keys

For a revoked key, and for a key stored elsewhere, the columns kek_id, wrapped_key and ciphertext are null.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from barmill.platform.sqlite_file import Database, Migrations
from barmill.secrets.hosts import hosts_in, hosts_of_provider
from barmill.secrets.info import KeyVersion, NoSuchSecretError, SecretInfo
from barmill.secrets.kek import SealedSecret

# Each file stores the names of its migrations, so the functions are never renamed.
keystore_migrations = Migrations("keystore")
_INFO_COLUMNS = tuple(field.name for field in fields(SecretInfo))


@keystore_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    columns = {
        "name": str,
        "id": str,
        "provider": str,
        "version": int,
        "kek_id": str,
        "wrapped_key": bytes,
        "ciphertext": bytes,
        "fingerprint": str,
        "created_ms": int,
    }
    db.table("secrets").create(columns, pk="name", not_null=set(columns), strict=True)


@keystore_migrations()
def keep_versions_and_lifetimes(db: Database) -> None:
    """Add the history, expiry, last use, revocation, references and transit keys."""
    columns = {
        "name": str,
        "id": str,
        "provider": str,
        "version": int,
        "fingerprint": str,
        "created_ms": int,
        "expires_ms": int,
        "last_used_ms": int,
        "revoked_ms": int,
        "reference": str,
        "kek_id": str,
        "wrapped_key": bytes,
        "ciphertext": bytes,
    }
    needed = {"name", "id", "provider", "version", "fingerprint", "created_ms"}
    db.table("secrets_new").create(columns, pk="name", not_null=needed, strict=True)
    stored_columns = "name, id, provider, version, fingerprint, created_ms, kek_id, wrapped_key, ciphertext"
    db.conn.execute(f"INSERT INTO secrets_new ({stored_columns}) SELECT {stored_columns} FROM secrets")
    db.conn.execute("DROP TABLE secrets")
    db.conn.execute("ALTER TABLE secrets_new RENAME TO secrets")

    versions = {"secret_id": str, "version": int, "fingerprint": str, "created_ms": int, "created_by": str}
    db.table("secret_versions").create(versions, pk=("secret_id", "version"), not_null=set(versions), strict=True)
    db.conn.execute(
        # The creator was not recorded.
        "INSERT INTO secret_versions SELECT id, version, fingerprint, created_ms, '' FROM secrets"
    )
    keys = {"id": str, "mount": str, "name": str, "proof": bytes, "created_ms": int}
    db.table("transit_keys").create(keys, pk="id", not_null=set(keys), strict=True)


@keystore_migrations()
def bind_to_hosts(db: Database) -> None:
    """Bind each key to the hosts of its provider and of the feeds that use it.

    The encryption of these rows does not cover their hosts until they are rotated.
    """
    db.conn.execute("ALTER TABLE secrets ADD COLUMN hosts TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE secrets ADD COLUMN hosts_sealed INTEGER NOT NULL DEFAULT 0")
    hosts_by_name = {name: list(hosts_of_provider(provider)) for name, provider in _names_and_providers(db)}
    if "feeds" in db.table_names():
        for kind, settings, key in db.conn.execute("SELECT kind, settings, key FROM feeds").fetchall():
            for name in filter(None, (key, _password_key(settings) if kind == "kafka" else None)):
                hosts_by_name.get(name, []).extend(hosts_in(kind, settings))
    for name, hosts in hosts_by_name.items():
        text = " ".join(dict.fromkeys(hosts))
        db.conn.execute("UPDATE secrets SET hosts = ? WHERE name = ?", (text, name))


def _names_and_providers(db: Database) -> list[tuple[str, str]]:
    return db.conn.execute("SELECT name, provider FROM secrets").fetchall()


def _password_key(settings: str) -> str | None:
    try:
        fields = json.loads(settings)
    except json.JSONDecodeError:
        return None
    return str(fields["password_key"]) if isinstance(fields, dict) and fields.get("password_key") else None


@dataclass(frozen=True, repr=False)
class Row:
    """A key in its stored form. The id is valid from the addition of the name to its deletion.

    hosts_sealed: whether the encryption covers the hosts; False for keys stored by an earlier version.
    """

    info: SecretInfo
    id: str
    kek_id: str | None = None
    sealed: SealedSecret | None = None
    hosts_sealed: bool = True

    @property
    def label(self) -> bytes:
        """Return the associated data of the encryption: the data in the row that must not change without the secret."""
        info = self.info
        settings: dict[str, object] = {
            "name": info.name,
            "provider": info.provider,
            "version": info.version,
            "fingerprint": info.fingerprint,
            "created_ms": info.created_ms,
        }
        if info.expires_ms is not None:
            settings["expires_ms"] = info.expires_ms
        if self.hosts_sealed:
            settings["hosts"] = list(info.hosts)
        return json.dumps(["barmill secret 1", self.id, settings], sort_keys=True).encode()


def read_rows(db: Database) -> Sequence[Row]:
    """Return all keys, by name."""
    return _rows(db, "ORDER BY name")


def find_row(db: Database, name: str) -> Row | None:
    """Return the key with this name, or None."""
    return next(iter(_rows(db, "WHERE name = ?", name)), None)


def read_row(db: Database, name: str) -> Row:
    """Return the key with this name. Raise NoSuchSecretError if there is none."""
    row = find_row(db, name)
    if row is None:
        raise NoSuchSecretError(f"There is no stored key named {name!r}; add it first.")
    return row


def write_version(db: Database, row: Row, created_by: str) -> None:
    """Write a new version of a key. It replaces the previous version and its secret."""
    db.table("secrets").upsert(
        {
            **asdict(row.info),
            "hosts": " ".join(row.info.hosts),
            "hosts_sealed": int(row.hosts_sealed),
            "id": row.id,
            "kek_id": row.kek_id,
            "wrapped_key": row.sealed.wrapped_key if row.sealed else None,
            "ciphertext": row.sealed.ciphertext if row.sealed else None,
        },
        pk="name",
    )
    info = row.info
    version = KeyVersion(info.version, info.fingerprint, info.created_ms, created_by)
    db.table("secret_versions").insert({"secret_id": row.id, **asdict(version)})


def read_versions(db: Database, name: str) -> tuple[KeyVersion, ...]:
    """Return the versions of the key with this name, newest first."""
    rows = db.conn.execute(
        "SELECT version, fingerprint, created_ms, created_by FROM secret_versions"
        " WHERE secret_id = (SELECT id FROM secrets WHERE name = ?) ORDER BY version DESC",
        (name,),
    )
    return tuple(KeyVersion(*values) for values in rows)


def delete_row(db: Database, row: Row) -> None:
    """Delete a key and its history."""
    db.conn.execute("DELETE FROM secrets WHERE name = ?", (row.info.name,))
    db.conn.execute("DELETE FROM secret_versions WHERE secret_id = ?", (row.id,))


def used_keks(db: Database) -> frozenset[str]:
    """Return the ids of the key-encryption keys that stored keys need."""
    return frozenset(kek_id for (kek_id,) in db.conn.execute("SELECT kek_id FROM secrets WHERE kek_id IS NOT NULL"))


def _rows(db: Database, clause: str, *values: object) -> list[Row]:
    query = (
        f"SELECT {', '.join(_INFO_COLUMNS)}, id, kek_id, wrapped_key, ciphertext, hosts_sealed FROM secrets {clause}"
    )
    return [_row(*row) for row in db.conn.execute(query, values)]


def _row(*values: Any) -> Row:
    *info, hosts, secret_id, kek_id, wrapped_key, ciphertext, hosts_sealed = values
    sealed = None if wrapped_key is None or ciphertext is None else SealedSecret(wrapped_key, ciphertext)
    secret_info = SecretInfo(**dict(zip(_INFO_COLUMNS, (*info, tuple(hosts.split())), strict=True)))
    return Row(secret_info, secret_id, kek_id, sealed, bool(hosts_sealed))
