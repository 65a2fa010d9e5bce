"""Key-encryption keys of our own: in the folder `keys/`, or in the environment variable BARMILL_KEK.

    keys/kek          the key that encrypts, 32 bytes in base64, readable by this user alone
    keys/kek.*.old    earlier ones, which still decrypt (`kek.old` too)

BARMILL_KEK does the same without files: the key that encrypts, then earlier ones, with commas between; and
BARMILL_KEK_FILE names a file that holds the same.
"""

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from control.home import Home
from control.keys.errors import KekError
from control.keys.kek import KEK_BYTES, LocalKek
from control.keys.settings import kek_texts


@dataclass(frozen=True)
class LocalKeks:
    """The keys this process has: the one that encrypts, if any, and those that only decrypt."""

    present: LocalKek | None
    earlier: tuple[LocalKek, ...]

    def find(self, kek_id: str) -> LocalKek | None:
        """Return the key of this id."""
        return next((one for one in (self.present, *self.earlier) if one and one.id == kek_id), None)


def local_keks(home: Home) -> LocalKeks:
    """Return the keys of this home; raise KekError where it is not clear which one encrypts."""
    path = _path(home)
    from_file = _read_file(path)
    variable, texts = kek_texts()
    from_variable = [LocalKek(_decoded(text, variable), f"the key in {variable}") for text in texts]
    if from_file and from_variable and from_file.id not in (one.id for one in from_variable):
        raise KekError(
            f"The key file {path} and {variable} hold different keys; unset the variable, or, to move to its key,"
            f" rename the file to {path.name}.old and run ./barmill key rotate-kek."
        )
    old_paths = sorted({*home.keys.glob("kek.*.old"), *home.keys.glob("kek.old")})
    old = [one for one in map(_read_file, old_paths) if one is not None]
    first, *rest = [one for one in (from_file, *from_variable) if one] or (None,)
    return LocalKeks(first, (*(one for one in rest if one), *old))


def make_kek_file(home: Home) -> LocalKek:
    """Make the key file unless another process was faster, and return the key that is in it."""
    path = _path(home)
    with _new_key(home) as beside:
        try:
            path.hardlink_to(beside)  # unlike a rename, this never replaces a key that is there already
        except FileExistsError:
            pass
        else:
            _sync_folder(path.parent)
    return _present(path)


def renew_kek_file(home: Home) -> LocalKek:
    """Put a new key into the key file and return it; the one that was there is kept beside it."""
    path = _path(home)
    before = _present(path)
    with _new_key(home) as beside:
        with suppress(FileExistsError):  # an earlier call got as far as here
            _kept(path, before).hardlink_to(path)
        _sync_folder(path.parent)  # before the other name may go
        beside.replace(path)
        _sync_folder(path.parent)
    return _present(path)


def retire_kek_file(home: Home) -> None:
    """Let the key in the key file only decrypt from now on, where there is one."""
    path = _path(home)
    present = _read_file(path)
    if present is not None:
        path.replace(_kept(path, present))
        _sync_folder(path.parent)


def _path(home: Home) -> Path:
    return home.keys / "kek"


def _kept(path: Path, kek: LocalKek) -> Path:
    return path.with_name(f"{path.name}.{kek.id}.old")


def _present(path: Path) -> LocalKek:
    found = _read_file(path)
    if found is None:
        raise KekError(f"The key file {path} vanished while it was worked on; call this again.")
    return found


@contextmanager
def _new_key(home: Home) -> Iterator[Path]:
    """Lend a file with a new key, complete and on disk, that is gone after the block unless it was renamed."""
    home.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = home.keys / f"kek.{secrets.token_hex(8)}.new"
    try:
        _write_private(beside, base64.b64encode(secrets.token_bytes(KEK_BYTES)) + b"\n")
        yield beside
    except OSError as error:
        raise KekError(f"The key file {_path(home)} cannot be made: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)


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
        raise KekError(f"The key file {path} is open to other users (mode {mode:04o}); run: chmod 600 {path}")
    return LocalKek(_decoded(text.decode("ascii", "replace"), str(path)), f"the key file {path}")


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEK_BYTES:
        raise KekError(f"{where} does not hold a key-encryption key; it must be {KEK_BYTES} bytes in base64.")
    return key


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
