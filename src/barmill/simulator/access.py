"""Access to the demo market: a file of key digests, and the first API key.

The server reads the file again when it changes, so added and revoked keys take effect at once.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from barmill.audit.roles import FIRST_START
from barmill.platform.clock import now_ms
from barmill.platform.file_replacement import PRIVATE_MODE, replace_file
from barmill.platform.home import Home
from barmill.platform.locks import exclusive
from barmill.secrets.store import KeyStore


@dataclass(frozen=True)
class AccessKey:
    """The data that the market stores about a key: its name, its SHA-256 digest, and its times in ms."""

    name: str
    sha256: str
    created_ms: int
    revoked_ms: int | None = None


class AccessFileError(Exception):
    """The file of key digests is not readable. Delete it and start again; a new one is created."""


class AccessKeys:
    """The file of key digests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[AccessKey, ...] = ()

    @classmethod
    def of(cls, home: Home) -> Self:
        """Return the file that the market of this home uses."""
        return cls(home.market / "keys.json")

    def refusal(self, key: str) -> str | None:
        """Return why this key does not give access to the market, or None if it does."""
        match = self.find(key)
        if match is None:
            return "This API key is unknown to the market; check that it was copied completely, or create a new key."
        if match.revoked_ms is not None:
            return f"This API key ({match.name}) has been revoked; use its successor."
        return None

    def find(self, key: str) -> AccessKey | None:
        """Return the stored data of a key, revoked or not, or None."""
        digest = _digest(key)
        match = None
        for stored_key in self._read():  # compare all, so that the duration does not reveal the match
            if hmac.compare_digest(stored_key.sha256, digest):
                match = stored_key
        return match

    def grant(self, name: str, key: str) -> None:
        """Grant access to a key. It replaces an earlier key with the same name."""
        others = [stored_key for stored_key in self._read() if stored_key.name != name]
        self._write([*others, AccessKey(name, _digest(key), now_ms())])

    def revoke(self, name: str) -> None:
        """Revoke a key. The market then rejects requests with it, and names the revocation as the reason."""
        self._write(
            [
                replace(stored_key, revoked_ms=now_ms()) if stored_key.name == name else stored_key
                for stored_key in self._read()
            ]
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the file during the block."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(self._path.with_suffix(".lock")):
            yield

    def _read(self) -> tuple[AccessKey, ...]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._keys = tuple(AccessKey(**entry) for entry in json.loads(self._path.read_text())["keys"])
                self._stamp = stamp
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = f"The market's key file {self._path} cannot be read; delete it and start again."
            raise AccessFileError(reason) from error
        return self._keys

    def _write(self, keys: list[AccessKey]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps({"keys": [asdict(key) for key in keys]}, indent=2)
        replace_file(self._path, content, mode=PRIVATE_MODE, durable=True)


def _digest(key: str) -> str:
    # Keys are 256 random bits, so a plain digest cannot be reversed and needs no slow hash.
    return hashlib.sha256(key.encode()).hexdigest()


SECRET_NAME = "demo-market"
PROVIDER = "market"


def ensure_market_key(home: Home) -> None:
    """Ensure that the key store holds a key that the demo market accepts.

    Safe to repeat, to run in several processes at once, and to interrupt: the digest is stored at the market before the
    key is stored in the key store. A digest without a key gives no access and is replaced by the next call. A revoked
    key stays revoked. An expired key, or a key stored elsewhere, is not changed.
    """
    access = AccessKeys.of(home)
    with access.locked(), KeyStore.open(home, FIRST_START) as store:
        stored = next((stored_key for stored_key in store.list() if stored_key.name == SECRET_NAME), None)
        if stored is None:
            key = secrets.token_urlsafe(32)
            access.grant(SECRET_NAME, key)
            store.add(SECRET_NAME, PROVIDER, key)
        elif stored.state(now_ms()).usable and stored.reference is None:
            key = store.reveal(SECRET_NAME)
            if access.find(key) is None:  # the market's folder was lost, but not its key
                access.grant(SECRET_NAME, key)
