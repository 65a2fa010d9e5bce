"""Envelope encryption: a random data key encrypts each secret, and the key-encryption key encrypts the data key.

A local key (see keyring.py) is in this process's memory. A key in a transit engine (vault.py) never leaves it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from barmill.secrets.info import KekError, TamperedSecretError

KEK_BYTES = 32
NONCE_BYTES = 12


class KeyEncryption(Protocol):
    """A key-encryption key, local or remote, that encrypts and decrypts on request."""

    @property
    def id(self) -> str:
        """Return an id that reveals nothing about the key, to distinguish a wrong key from a damaged row."""
        ...

    @property
    def location(self) -> str:
        """Return a description of where the key is."""
        ...

    def check(self) -> None:
        """Raise KekError unless this is the key that its id refers to."""
        ...

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key. Raise TamperedSecretError if it or its context differs from what was wrapped."""
        ...

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that cannot be computed without the key."""
        ...


class LocalKek:
    """A key-encryption key in this process's memory."""

    def __init__(self, key: bytes, location: str = "a key in memory") -> None:
        if len(key) != KEK_BYTES:
            raise KekError(f"A key-encryption key must be {KEK_BYTES} bytes long.")
        self.location = location
        # One derived key per use: the encryption key never also signs or identifies.
        self._wrapping = AESGCM(_derive(key, b"wrap", 32))
        self._mac_key = _derive(key, b"mac", 32)
        self.id = _derive(key, b"id", 8).hex()

    def __repr__(self) -> str:
        return f"<LocalKek {self.id}>"

    def check(self) -> None:
        """Do nothing: the id is derived from the key."""

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to its context."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, data_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key. Raise TamperedSecretError if it or its context differs from what was wrapped."""
        try:
            return self._wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise TamperedSecretError("This stored key's data key was changed.") from None

    def mac(self, message: bytes) -> bytes:
        """Return a keyed digest that cannot be computed without the key."""
        return hmac.digest(self._mac_key, message, hashlib.sha256)


def _derive(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=length, info=b"barmill kek " + purpose).derive(key)


@dataclass(frozen=True, repr=False)
class SealedSecret:
    """A secret in its stored, encrypted form."""

    wrapped_key: bytes
    ciphertext: bytes


def seal(kek: KeyEncryption, label: bytes, plain: bytes) -> SealedSecret:
    """Encrypt with a new data key. Both layers are bound to the label."""
    data_key = AESGCM.generate_key(bit_length=256)
    nonce = secrets.token_bytes(NONCE_BYTES)
    return SealedSecret(kek.wrap(data_key, label), nonce + AESGCM(data_key).encrypt(nonce, plain, label))


def unseal(kek: KeyEncryption, label: bytes, sealed: SealedSecret) -> bytes:
    """Decrypt. Raise TamperedSecretError if any byte or the label differs from what was sealed."""
    data_key = kek.unwrap(sealed.wrapped_key, label)
    nonce, ciphertext = sealed.ciphertext[:NONCE_BYTES], sealed.ciphertext[NONCE_BYTES:]
    try:
        return AESGCM(data_key).decrypt(nonce, ciphertext, label)
    except (InvalidTag, ValueError):
        raise TamperedSecretError("This stored key's ciphertext was changed.") from None


def rewrap(old: KeyEncryption, new: KeyEncryption, label: bytes, sealed: SealedSecret) -> SealedSecret:
    """Re-encrypt a secret's data key with another key-encryption key, without decrypting the secret.

    Raise TamperedSecretError if the data key or the label differs from what was sealed.
    """
    return SealedSecret(new.wrap(old.unwrap(sealed.wrapped_key, label), label), sealed.ciphertext)
