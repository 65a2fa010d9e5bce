"""Envelope encryption: each secret under a random data key of its own, that key under the key-encryption key."""

import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control.keys.errors import TamperedSecretError
from control.keys.kek import NONCE_BYTES, KeyEncryption


@dataclass(frozen=True, repr=False)
class Sealed:
    """A secret as it lies on disk."""

    wrapped_key: bytes
    ciphertext: bytes


def seal(kek: KeyEncryption, label: bytes, plain: bytes) -> Sealed:
    """Encrypt under a fresh data key; both layers are bound to the label."""
    data_key = AESGCM.generate_key(bit_length=256)
    nonce = secrets.token_bytes(NONCE_BYTES)
    return Sealed(kek.wrap(data_key, label), nonce + AESGCM(data_key).encrypt(nonce, plain, label))


def unseal(kek: KeyEncryption, label: bytes, sealed: Sealed) -> bytes:
    """Decrypt; raise TamperedSecretError when a byte, or what the label says, differs from what was sealed."""
    data_key = kek.unwrap(sealed.wrapped_key, label)
    nonce, ciphertext = sealed.ciphertext[:NONCE_BYTES], sealed.ciphertext[NONCE_BYTES:]
    try:
        return AESGCM(data_key).decrypt(nonce, ciphertext, label)
    except (InvalidTag, ValueError):
        raise TamperedSecretError("This stored key's ciphertext was changed.") from None


def rewrap(old: KeyEncryption, new: KeyEncryption, label: bytes, sealed: Sealed) -> Sealed:
    """Move a secret's data key under another key-encryption key; the secret itself is not decrypted."""
    return Sealed(new.wrap(old.unwrap(sealed.wrapped_key, label), label), sealed.ciphertext)
