"""Who may read the demo market: a file of key digests, from which no key can be learnt.

The server reads it anew when it changes, so that a key made or revoked meanwhile counts at once.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from control.home import Home


@dataclass(frozen=True)
class AccessKey:
    """One key as the market knows it: its name, the SHA-256 of the key, and whether it still counts."""

    name: str
    sha256: str
    created_ms: int
    revoked_ms: int | None = None


class AccessFileError(Exception):
    """The file of key digests cannot be read; delete it and start again, and a new one is made."""


class AccessKeys:
    """The file of key digests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[AccessKey, ...] = ()

    @classmethod
    def of(cls, home: Home) -> Self:
        """Return the file that the market of this home goes by."""
        return cls(home.market / "keys.json")

    def refusal(self, key: str) -> str | None:
        """Say in plain words why this key does not open the market, or return None when it does."""
        known = self.find(key)
        if known is None:
            return "This API key is not known to the market; check that it was copied whole, or make a new one."
        if known.revoked_ms is not None:
            return f"This API key ({known.name}) has been revoked; use its successor."
        return None

    def find(self, key: str) -> AccessKey | None:
        """Return what is known of a key, revoked or not."""
        digest = _digest(key)
        found = None
        for known in self._read():  # all of them, so that the time taken does not tell which one it is
            if hmac.compare_digest(known.sha256, digest):
                found = known
        return found

    def put(self, name: str, key: str) -> None:
        """Let a key in, in place of an earlier one of the same name."""
        others = [known for known in self._read() if known.name != name]
        self._write([*others, AccessKey(name, _digest(key), _now_ms())])

    def revoke(self, name: str) -> None:
        """Turn a key away from now on, with a reason of its own."""
        self._write([replace(known, revoked_ms=_now_ms()) if known.name == name else known for known in self._read()])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the file meanwhile."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> tuple[AccessKey, ...]:
        try:
            state = self._path.stat()
            stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
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
        beside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"keys": [asdict(key) for key in keys]}, file, indent=2)
            file.flush()
            os.fsync(descriptor)
        beside.replace(self._path)


def _digest(key: str) -> str:
    # Keys are 256 random bits, so a plain digest cannot be guessed back and needs no slow hash.
    return hashlib.sha256(key.encode()).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
