"""What can go wrong with stored keys, each in one sentence that says what to do next.

KeyStoreError                 a stored key cannot be kept or used; nothing was changed
├── NoSuchSecretError         there is no key of this name
├── KeyExistsError            there is one already; it may be rotated
├── NotUsableError            it is revoked or expired
├── SecretReferenceError      it is kept elsewhere, and is not to be found there
├── TamperedSecretError       its row is not as it was written
├── KekError                  the key-encryption key is missing, unsafe, or not the right one
├── VaultError                OpenBao or Vault cannot be reached, is sealed, or refuses
└── KeyTestError              the provider does not take the key, or cannot be asked
"""

from collections.abc import Sequence

from control.errors import ControlError


class KeyStoreError(ControlError):
    """A stored key cannot be kept or used; nothing was changed."""


class NoSuchSecretError(KeyStoreError):
    """There is no stored key of this name; add it first."""


class KeyExistsError(KeyStoreError):
    """There is a stored key of this name; rotate it, or take another name."""


class NotUsableError(KeyStoreError):
    """The key is revoked or has expired; rotate it."""


class SecretReferenceError(KeyStoreError):
    """The key is kept elsewhere and was not found there; put it there, or correct the reference."""


class TamperedSecretError(KeyStoreError):
    """A stored key's row is not as it was written; delete it and enter the key again."""


class KekError(KeyStoreError):
    """The key-encryption key is missing, unsafe, unreadable or not the one the stored keys were encrypted with."""


class VaultError(KeyStoreError):
    """OpenBao or Vault cannot be reached, is sealed, or refuses; usually resolved by its operator."""


class VaultForbiddenError(VaultError):
    """The token does not allow this; renew it, or give it the policy."""


class VaultNotFoundError(VaultError):
    """There is nothing at this path."""


class VaultRequestError(VaultError):
    """The request was understood and turned down, for the reasons given in the vault's own words."""

    def __init__(self, sentence: str, reasons: Sequence[str]) -> None:
        super().__init__(sentence)
        self.reasons = tuple(reasons)


class KeyTestError(KeyStoreError):
    """The provider does not take the key, or cannot be asked; the sentence says which."""
