"""The public side of the key store: the public data of a key, its state, its test at the provider, and errors.

KeyStoreError                 a key cannot be stored or used; nothing was changed
├── NoSuchSecretError         there is no key with this name
├── KeyExistsError            a key with this name exists; rotate it, or choose another name
├── NotUsableError            the key is revoked or expired
├── SecretReferenceError      the key is stored elsewhere and was not found there
├── TamperedSecretError       the row of the key was changed from outside
├── KekError                  the key-encryption key is missing, unsafe, or the wrong one
├── KeyHostError              the key may not be sent to this host (hosts.py)
├── VaultError                OpenBao or Vault is not reachable, is sealed, or refuses
│   ├── VaultForbiddenError   the token does not allow this
│   ├── VaultNotFoundError    there is nothing at this path
│   └── VaultRequestError     the vault rejects the content of the request
└── KeyTestError              the provider rejects the key, or is not reachable
"""

import base64
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from urllib.parse import quote, quote_plus

from barmill.platform.clock import MS_PER_DAY
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.texts import utc_text


class KeyStoreError(ControlError):
    """A key cannot be stored or used; nothing was changed."""


class NoSuchSecretError(KeyStoreError):
    """There is no stored key with this name; add it first."""


class KeyExistsError(KeyStoreError):
    """A stored key with this name exists; rotate it, or choose another name."""


class NotUsableError(KeyStoreError):
    """The key is revoked or has expired; rotate it."""


class SecretReferenceError(KeyStoreError):
    """The key is stored elsewhere and was not found there; store it there, or correct the reference."""


class TamperedSecretError(KeyStoreError):
    """The row of a stored key was changed from outside; delete it and enter the key again."""


class KekError(KeyStoreError):
    """The key-encryption key is missing, unsafe, unreadable or not the one that encrypted the stored keys."""


class VaultError(KeyStoreError):
    """OpenBao or Vault is not reachable, is sealed, or refuses the request; usually resolved by its operator."""


class VaultForbiddenError(VaultError):
    """The token does not allow this; renew it, or give it a policy that allows this."""


class VaultNotFoundError(VaultError):
    """There is nothing at this path."""


class VaultRequestError(VaultError):
    """The vault rejects the content of the request; `reasons` are its own messages."""

    def __init__(self, sentence: str, reasons: Sequence[str]) -> None:
        super().__init__(sentence)
        self.reasons = tuple(reasons)


class KeyTestError(KeyStoreError):
    """The provider rejects the key or is not reachable, as the message says."""


WARN_BEFORE_MS = 14 * MS_PER_DAY


class State(StrEnum):
    """The state of a key. Expired and revoked keys are not handed out."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"

    @property
    def usable(self) -> bool:
        """Return whether the key is handed out."""
        return self in (State.ACTIVE, State.EXPIRING)


@dataclass(frozen=True)
class SecretInfo:
    """The public data of a stored key. The fingerprint distinguishes keys without revealing anything about them.

    fingerprint: of this version; empty for a key stored elsewhere, which may change there at any time.
    expires_ms: from this time on, this version is not handed out. last_used_ms: when this version was last handed out.
    reference: the location of a key that is stored elsewhere. hosts: the only hosts it may be sent to (see hosts.py).
    """

    name: str
    provider: str
    version: int
    fingerprint: str
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    revoked_ms: int | None = None
    reference: str | None = None
    hosts: tuple[str, ...] = ()

    def state(self, at_ms: int) -> State:
        """Return the state of the key at a time (ms since the epoch)."""
        if self.revoked_ms is not None:
            return State.REVOKED
        if self.expires_ms is None or at_ms < self.expires_ms - WARN_BEFORE_MS:
            return State.ACTIVE
        return State.EXPIRING if at_ms < self.expires_ms else State.EXPIRED

    def warning(self, at_ms: int) -> str | None:
        """Return a sentence if the key expires soon or has expired; otherwise None."""
        match self.state(at_ms):
            case State.EXPIRING if self.expires_ms is not None:
                days = (self.expires_ms - at_ms) // MS_PER_DAY
                remaining = "in less than a day" if days < 1 else f"in {days} day{'' if days == 1 else 's'}"
                return f"The key {self.name} expires {remaining}, on {utc_text(self.expires_ms)}; rotate it before."
            case State.EXPIRED if self.expires_ms is not None:
                return f"The key {self.name} expired on {utc_text(self.expires_ms)}; rotate it."
        return None


@dataclass(frozen=True)
class KeyVersion:
    """A version of a key in its history. Its secret is kept only while it is the newest version."""

    version: int
    fingerprint: str
    created_ms: int
    created_by: str


def end_of_day_ms(day: date) -> int:
    """Return the expiry time of a key whose last day of use, in UTC, is this day."""
    return round(datetime.combine(day + timedelta(days=1), time(), UTC).timestamp() * 1_000)


# Tests a key. Returns one sentence on what it gives access to, or raises KeyTestError.
KeyTest = Callable[[Home, str], str]
# Shorter secrets occur in other words by chance, and hiding those would reveal them.
_MIN_SECRET_LENGTH = 6


def hide_secret(secret: str, text: str) -> str:
    """Return the text with the secret hidden in all usual encodings, in case a provider echoes it."""
    forms = {
        secret,
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
        secret.encode().hex(),
        html.escape(secret),
        html.escape(secret, quote=False),
    }
    forms |= {json.dumps(form)[1:-1] for form in forms} | {form.replace("/", "\\/") for form in forms}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= _MIN_SECRET_LENGTH:
            text = text.replace(form, "[hidden]")
    return text
