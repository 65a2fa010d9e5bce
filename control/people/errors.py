"""How people are turned away.

AccountError                    an account cannot be made or changed that way
├── NoSuchAccountError          nobody has that name
├── LastAdminError              nobody would be left who can manage accounts
├── PasswordRuleError           the new password is too easy to guess
├── LinkError                   the one-time link was used, replaced, or is too old
├── PreferenceError             there is no such preference, or it cannot have that value
└── SignInError                 whoever asks to be let in is not
    └── TooManyFailuresError    too many wrong passwords lately; the right one works again after a while
"""

from control.errors import ControlError


class AccountError(ControlError):
    """An account cannot be made or changed that way."""


class NoSuchAccountError(AccountError):
    """Nobody has that name."""


class LastAdminError(AccountError):
    """Nobody would be left who can manage accounts; make somebody else an admin first."""


class PasswordRuleError(AccountError):
    """The new password is too easy to guess; choose another one."""


class LinkError(AccountError):
    """The one-time link was used, replaced, or is too old; ask an admin for a new one."""


class PreferenceError(AccountError):
    """There is no such preference, or it cannot have that value."""


class SignInError(AccountError):
    """Whoever asks to be let in is not."""


class TooManyFailuresError(SignInError):
    """Too many wrong passwords lately. wait_s: whole seconds after which the right one works again."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"Too many wrong passwords; try again in {wait_s} s.")
        self.wait_s = wait_s
