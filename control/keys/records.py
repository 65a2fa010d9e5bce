"""The key store's tables in the control database.

    secrets           one row a key: what may be shown of it, and its newest version under two layers of encryption
    secret_versions   every version there was: when it came, from whom, its fingerprint; not its secret
    transit_keys      the transit keys (see transit.py) that data keys were encrypted with

Of a revoked key, and of one kept elsewhere, the columns kek_id, wrapped_key and ciphertext are empty.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bar.sqlite import Database, Migrations
from control.keys.envelope import Sealed
from control.keys.errors import NoSuchSecretError
from control.keys.hosts import hosts_in, hosts_of_provider
from control.keys.info import KeyVersion, SecretInfo

keystore_migrations = Migrations("keystore")
_INFO = tuple(field.name for field in fields(SecretInfo))


@keystore_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
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
    kept = "name, id, provider, version, fingerprint, created_ms, kek_id, wrapped_key, ciphertext"
    db.conn.execute(f"INSERT INTO secrets_new ({kept}) SELECT {kept} FROM secrets")
    db.conn.execute("DROP TABLE secrets")
    db.conn.execute("ALTER TABLE secrets_new RENAME TO secrets")

    versions = {"secret_id": str, "version": int, "fingerprint": str, "created_ms": int, "created_by": str}
    db.table("secret_versions").create(versions, pk=("secret_id", "version"), not_null=set(versions), strict=True)
    db.conn.execute(
        "INSERT INTO secret_versions SELECT id, version, fingerprint, created_ms, '' FROM secrets"  # nobody noted who
    )
    keys = {"id": str, "mount": str, "name": str, "proof": bytes, "created_ms": int}
    db.table("transit_keys").create(keys, pk="id", not_null=set(keys), strict=True)


@keystore_migrations()
def bind_to_hosts(db: Database) -> None:
    """Bind each key to the hosts of the feeds that use it and to those of its provider.

    The encryption of these rows does not cover their hosts, until they are rotated.
    """
    db.conn.execute("ALTER TABLE secrets ADD COLUMN hosts TEXT NOT NULL DEFAULT ''")
    db.conn.execute("ALTER TABLE secrets ADD COLUMN hosts_sealed INTEGER NOT NULL DEFAULT 0")
    bound = {name: list(hosts_of_provider(provider)) for name, provider in _names_and_providers(db)}
    if "feeds" in db.table_names():
        for kind, settings, key in db.conn.execute("SELECT kind, settings, key FROM feeds").fetchall():
            for name in filter(None, (key, _password_key(settings) if kind == "kafka" else None)):
                bound.get(name, []).extend(hosts_in(kind, settings))
    for name, hosts in bound.items():
        text = " ".join(dict.fromkeys(hosts))
        db.conn.execute("UPDATE secrets SET hosts = ? WHERE name = ?", (text, name))


def _names_and_providers(db: Database) -> list[tuple[str, str]]:
    return db.conn.execute("SELECT name, provider FROM secrets").fetchall()


def _password_key(settings: str) -> str | None:
    try:
        found = json.loads(settings)
    except json.JSONDecodeError:
        return None
    return str(found["password_key"]) if isinstance(found, dict) and found.get("password_key") else None


@dataclass(frozen=True, repr=False)
class Row:
    """One key as it lies in the database. The id is of the name's life, from its addition to its deletion.

    hosts_sealed: the encryption covers the hosts, which it does not for a key of an earlier version.
    """

    info: SecretInfo
    id: str
    kek_id: str | None = None
    sealed: Sealed | None = None
    hosts_sealed: bool = True

    @property
    def label(self) -> bytes:
        """What the encryption is bound to: all that the row says about its secret."""
        info = self.info
        said: dict[str, object] = {
            "name": info.name,
            "provider": info.provider,
            "version": info.version,
            "fingerprint": info.fingerprint,
            "created_ms": info.created_ms,
        }
        if info.expires_ms is not None:
            said["expires_ms"] = info.expires_ms
        if self.hosts_sealed:
            said["hosts"] = list(info.hosts)
        return json.dumps(["barmill secret 1", self.id, said], sort_keys=True).encode()


def read_rows(db: Database) -> Sequence[Row]:
    """Return all keys, by name."""
    return _rows(db, "ORDER BY name")


def find_row(db: Database, name: str) -> Row | None:
    """Return the key of this name."""
    return next(iter(_rows(db, "WHERE name = ?", name)), None)


def read_row(db: Database, name: str) -> Row:
    """Return the key of this name; raise NoSuchSecretError where there is none."""
    row = find_row(db, name)
    if row is None:
        raise NoSuchSecretError(f"There is no stored key named {name!r}; add it first.")
    return row


def write_version(db: Database, row: Row, created_by: str) -> None:
    """Write a key's new version, in place of the one before, whose secret is gone with that."""
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
    """Return the versions of the key of this name, the newest first."""
    found = db.conn.execute(
        "SELECT version, fingerprint, created_ms, created_by FROM secret_versions"
        " WHERE secret_id = (SELECT id FROM secrets WHERE name = ?) ORDER BY version DESC",
        (name,),
    )
    return tuple(KeyVersion(*values) for values in found)


def forget(db: Database, row: Row) -> None:
    """Delete a key and its history."""
    db.conn.execute("DELETE FROM secrets WHERE name = ?", (row.info.name,))
    db.conn.execute("DELETE FROM secret_versions WHERE secret_id = ?", (row.id,))


def used_keks(db: Database) -> frozenset[str]:
    """Return the ids of the key-encryption keys that stored keys need."""
    return frozenset(kek_id for (kek_id,) in db.conn.execute("SELECT kek_id FROM secrets WHERE kek_id IS NOT NULL"))


def _rows(db: Database, which: str, *values: object) -> list[Row]:
    query = f"SELECT {', '.join(_INFO)}, id, kek_id, wrapped_key, ciphertext, hosts_sealed FROM secrets {which}"
    return [_row(*found) for found in db.conn.execute(query, values)]


def _row(*values: Any) -> Row:
    *info, hosts, secret_id, kek_id, wrapped_key, ciphertext, hosts_sealed = values
    sealed = None if wrapped_key is None or ciphertext is None else Sealed(wrapped_key, ciphertext)
    shown = SecretInfo(**dict(zip(_INFO, (*info, tuple(hosts.split())), strict=True)))
    return Row(shown, secret_id, kek_id, sealed, bool(hosts_sealed))
