"""Passwords: which are good enough, and their hashes (argon2id). Slow on purpose."""

import functools
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from control.people.errors import PasswordRuleError

MIN_LENGTH = 10
# Longer ones would only cost time.
MAX_LENGTH = 1_000

_hasher = PasswordHasher()
# Each hash takes 64 MiB and a tenth of a second: a flood of guesses must not take the machine.
_turn = threading.BoundedSemaphore(2)


def check_rules(password: str, account: str) -> None:
    """Raise PasswordRuleError unless the password is good enough for this account."""
    if len(password) < MIN_LENGTH:
        raise PasswordRuleError(f"The password has {len(password)} characters; take at least {MIN_LENGTH}.")
    if len(password) > MAX_LENGTH:
        raise PasswordRuleError(f"The password is longer than {MAX_LENGTH} characters; take a shorter one.")
    if password.casefold() == account.casefold():
        raise PasswordRuleError("The password is the account's name; take another one.")
    if len(set(password)) == 1:
        raise PasswordRuleError("The password is one character over and over; take another one.")


def hashed(password: str) -> str:
    """Return the hash to keep, with its own salt and parameters."""
    with _turn:
        return _hasher.hash(_normal(password))


def matches(password_hash: str | None, password: str) -> bool:
    """Tell whether this is the password; without a hash it never is, and telling so takes as long."""
    dummy = _dummy_hash()
    if len(password) > MAX_LENGTH:
        return False
    try:
        with _turn:
            _hasher.verify(password_hash or dummy, _normal(password))
    except VerifyMismatchError:
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Tell whether the hash was made with other parameters than today's, and should be made anew."""
    return _hasher.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    # The same letters may be typed as different code points on different keyboards.
    return unicodedata.normalize("NFKC", password)


@functools.cache
def _dummy_hash() -> str:
    return _hasher.hash(secrets.token_hex())
