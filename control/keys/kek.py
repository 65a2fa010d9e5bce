"""The key-encryption key: what turns data keys into something that may lie on disk.

A key of our own (from files.py) is in this process's memory; one in a transit engine (transit.py) never leaves it.
"""

import hashlib
import hmac
import secrets
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from control.keys.errors import KekError, TamperedSecretError

KEK_BYTES = 32
NONCE_BYTES = 12


class KeyEncryption(Protocol):
    """Whoever holds a key-encryption key and works with it on request."""

    @property
    def id(self) -> str:
        """Name this key without saying anything about it, so that a wrong key is told from a damaged row."""
        ...

    @property
    def place(self) -> str:
        """Say in words where the key is."""
        ...

    def check(self) -> None:
        """Raise KekError unless this is the key that its id stands for."""
        ...

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key; raise TamperedSecretError when it or its context is not what was wrapped."""
        ...

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that nobody without the key can recompute."""
        ...


class LocalKek:
    """A key-encryption key in this process's memory."""

    def __init__(self, key: bytes, place: str = "a key in memory") -> None:
        if len(key) != KEK_BYTES:
            raise KekError(f"A key-encryption key is {KEK_BYTES} bytes long; this one is not.")
        self.place = place
        # One key, one use: what encrypts never also signs or names.
        self._wrapping = AESGCM(_derived(key, b"wrap", 32))
        self._mac_key = _derived(key, b"mac", 32)
        self.id = _derived(key, b"id", 8).hex()

    def __repr__(self) -> str:
        return f"<LocalKek {self.id}>"

    def check(self) -> None:
        """Do nothing: the id is made of the key."""

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, data_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key; raise TamperedSecretError when it or its context is not what was wrapped."""
        try:
            return self._wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise TamperedSecretError("This stored key's data key was changed.") from None

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that nobody without the key can recompute."""
        return hmac.digest(self._mac_key, message, hashlib.sha256)


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=length, info=b"barmill kek " + purpose).derive(key)
