"""The available key-encryption keys: which of them encrypts, and where to find each key that stored keys need.

The settings decide which key encrypts, in this order: the transit key that BARMILL_TRANSIT_KEY names, the key file,
BARMILL_KEK. Once secrets are stored, only a rotation (rotation.py) replaces it with another key.

    keys/kek          the key that encrypts, 32 bytes in base64, readable by this user only
    keys/kek.*.old    earlier keys, which can still decrypt (`kek.old` too)

BARMILL_KEK does the same without files: the key that encrypts, then earlier ones, separated by commas. BARMILL_KEK_FILE
names a file with the same content.
"""

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from barmill.platform.clock import now_ms
from barmill.platform.file_replacement import sync_folder
from barmill.platform.home import Home
from barmill.platform.operating_system import sync
from barmill.platform.sqlite_file import Database
from barmill.secrets.info import KekError, VaultError
from barmill.secrets.kek import KEK_BYTES, KeyEncryption, LocalKek
from barmill.secrets.records import used_keks
from barmill.secrets.settings import KEK_FILE_VARIABLE, KEK_VARIABLE, kek_texts, transit_settings
from barmill.secrets.vault import TransitKek, Vault


@dataclass(frozen=True)
class LocalKeks:
    """The keys of this process: the one that encrypts, if any, and those that only decrypt."""

    current: LocalKek | None
    earlier: tuple[LocalKek, ...]

    def find(self, kek_id: str) -> LocalKek | None:
        """Return the key with this id, or None."""
        return next((kek for kek in (self.current, *self.earlier) if kek and kek.id == kek_id), None)


def local_keks(home: Home) -> LocalKeks:
    """Return the keys of this home. Raise KekError if one cannot be read, or if it is ambiguous which one encrypts."""
    path = _kek_path(home)
    from_file = _read_file(path)
    variable, texts = kek_texts()
    from_variable = [LocalKek(_decode(text, variable), f"the key in {variable}") for text in texts]
    if from_file and from_variable and from_file.id not in (kek.id for kek in from_variable):
        raise KekError(
            f"The key file {path} and {variable} contain different keys; unset the variable, or, to move to its key,"
            f" rename the file to {path.name}.old and run ./barmill key rotate-kek."
        )
    old_paths = sorted({*home.keys.glob("kek.*.old"), *home.keys.glob("kek.old")})
    old = [kek for kek in map(_read_file, old_paths) if kek is not None]
    first, *rest = [kek for kek in (from_file, *from_variable) if kek] or (None,)
    return LocalKeks(first, (*(kek for kek in rest if kek), *old))


def create_kek_file(home: Home) -> LocalKek:
    """Create the key file unless another process was faster, and return the key in it."""
    path = _kek_path(home)
    with _new_key(home) as new_file:
        try:
            path.hardlink_to(new_file)  # unlike a rename, this never replaces an existing key
        except FileExistsError:
            pass
        else:
            sync_folder(path.parent)
    return _require_file(path)


def renew_kek_file(home: Home) -> LocalKek:
    """Replace the key in the key file with a new one and return it. The old key is kept in a file next to it."""
    path = _kek_path(home)
    before = _require_file(path)
    with _new_key(home) as new_file:
        with suppress(FileExistsError):  # an earlier call was interrupted after this step
            _archive_path(path, before).hardlink_to(path)
        sync_folder(path.parent)  # before the other name may be replaced
        new_file.replace(path)
        sync_folder(path.parent)
    return _require_file(path)


def retire_kek_file(home: Home) -> None:
    """Archive the key file, if any: from now on, its key only decrypts."""
    path = _kek_path(home)
    current = _read_file(path)
    if current is not None:
        path.replace(_archive_path(path, current))
        sync_folder(path.parent)


def _kek_path(home: Home) -> Path:
    return home.keys / "kek"


def _archive_path(path: Path, kek: LocalKek) -> Path:
    return path.with_name(f"{path.name}.{kek.id}.old")


def _require_file(path: Path) -> LocalKek:
    kek = _read_file(path)
    if kek is None:
        raise KekError(f"The key file {path} was deleted during this operation; run it again.")
    return kek


@contextmanager
def _new_key(home: Home) -> Iterator[Path]:
    """Create a file with a new key, synced to disk, that is deleted after the block unless it was renamed."""
    home.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    new_file = home.keys / f"kek.{secrets.token_hex(8)}.new"
    try:
        _write_private(new_file, base64.b64encode(secrets.token_bytes(KEK_BYTES)) + b"\n")
        yield new_file
    except OSError as error:
        raise KekError(f"The key file {_kek_path(home)} cannot be created: {error.strerror}.") from error
    finally:
        new_file.unlink(missing_ok=True)


def _read_file(path: Path) -> LocalKek | None:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(1024)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KekError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise KekError(f"The key file {path} is accessible to other users (mode {mode:04o}); run: chmod 600 {path}")
    return LocalKek(_decode(text.decode("ascii", "replace"), str(path)), f"the key file {path}")


def _decode(text: str, location: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEK_BYTES:
        raise KekError(f"{location} does not contain a key-encryption key; it must be {KEK_BYTES} bytes in base64.")
    return key


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        sync(descriptor)


class Keyring:
    """The key-encryption keys of one home. Every call reads files and settings again."""

    def __init__(self, home: Home, db: Database) -> None:
        self._home, self._db = home, db

    def find(self, kek_id: str) -> KeyEncryption:
        """Return the key with this id. Raise KekError or VaultError if it is not available."""
        local = local_keks(self._home)
        kek = local.find(kek_id) or self._find_transit_kek(kek_id)
        if kek is None:
            raise self._missing_error(local)
        return kek

    def encryption_key(self) -> KeyEncryption:
        """Return the key to encrypt with. Create one only if nothing is encrypted yet.

        Raise KekError or VaultError if the key is not available, or if the settings name another key than the one used.
        """
        used = used_keks(self._db)
        configured = self.configured_kek(used)
        if not used:
            return configured or create_kek_file(self._home)
        if configured is None or configured.id not in used:
            # Usually a key was lost or replaced by mistake; then `find` raises the error that says so.
            keks = [self.find(kek_id) for kek_id in used]
            raise KekError(
                f"The stored keys are encrypted with {keks[0].location}, but the settings name"
                f" {configured.location if configured else 'no key'}; run ./barmill key rotate-kek to move them,"
                " or restore the settings."
            )
        return configured

    def configured_kek(self, used: Set[str]) -> KeyEncryption | None:
        """Return the key that the settings name, or None if there is no key at all.

        For a transit key, return the newest generation in use, after a check that it is the same key; if none is in
        use, create one.
        """
        settings = transit_settings()
        if settings is None:
            return local_keks(self._home).current
        generations = self._db.conn.execute(
            "SELECT id FROM transit_keys WHERE mount = ? AND name = ? ORDER BY created_ms DESC, rowid DESC",
            (settings.mount, settings.name),
        )
        kek = next((self._find_transit_kek(kek_id) for (kek_id,) in generations.fetchall() if kek_id in used), None)
        if kek is None:
            return TransitKek.create(Vault.from_environment(), settings.mount, settings.name)
        kek.check()
        return kek

    def renew(self, kek: KeyEncryption) -> KeyEncryption:
        """Create a new key at the location of this key, which can still decrypt; raise KekError for BARMILL_KEK."""
        if isinstance(kek, TransitKek):
            return kek.renew()
        variable, texts = kek_texts()
        if texts:
            place = f"the file that {variable} names" if variable == KEK_FILE_VARIABLE else variable
            raise KekError(
                f"Barmill cannot replace a key in {place}; write NEW,OLD there, where NEW is a new key"
                " (from `head -c 32 /dev/urandom | base64`), and run this again."
            )
        return renew_kek_file(self._home)

    def create(self) -> KeyEncryption:
        """Create the key file, for a home whose settings name no key, and return the key in it."""
        return create_kek_file(self._home)

    def record(self, kek: KeyEncryption) -> None:
        """Store where to find a key again, in the transaction that writes the first row that needs it."""
        if isinstance(kek, TransitKek):
            row = {"id": kek.id, "mount": kek.mount, "name": kek.name, "proof": kek.proof, "created_ms": now_ms()}
            self._db.table("transit_keys").insert(row, pk="id", ignore=True)

    def retire_file(self, kek: KeyEncryption) -> None:
        """Retire the key file if another kind of key encrypts now. Its key can still decrypt."""
        if isinstance(kek, TransitKek):
            retire_kek_file(self._home)

    def _find_transit_kek(self, kek_id: str) -> TransitKek | None:
        row = self._db.conn.execute("SELECT mount, name, proof FROM transit_keys WHERE id = ?", (kek_id,)).fetchone()
        if row is None:
            return None
        mount, name, proof = row
        try:
            return TransitKek(Vault.from_environment(), mount, name, kek_id, proof)
        except VaultError as error:
            raise KekError(f"The stored keys need the transit key {mount}/{name}: {error}") from None

    def _missing_error(self, local: LocalKeks) -> KekError:
        path = self._home.keys / "kek"
        if local.current is None:
            return KekError(
                f"The key file {path} is missing, so the stored keys cannot be decrypted;"
                f" restore it, or set {KEK_VARIABLE} to its content."
            )
        return KekError(
            "The stored keys were encrypted with another key-encryption key than the current one;"
            f" put the original one into {path} or {KEK_VARIABLE}, or delete the stored keys."
        )
