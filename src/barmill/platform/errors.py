"""Base errors of the control plane, and removal of secrets from text that is shown to users.

ControlError                     an operation is not possible
├── NotAllowedError              the actor's role does not allow this, or its account is disabled
├── AuditError                   the audit log cannot be written
└── (one or more per package)    KeyStoreError, JobError, AccountError, ...
"""

import re


class ControlError(Exception):
    """An operation is not possible. The message, for the user, says why and what to do."""


class NotAllowedError(ControlError):
    """The actor's role does not allow this, or its account is disabled; ask an admin."""


class AuditError(ControlError):
    """The audit log cannot be written: an action was not done, or the outcome of an earlier one is not recorded."""


_HIDDEN = "[hidden]"
# name = value, name: value, 'name': 'value', in code, JSON, settings and URLs.
_NAMED_SECRET = re.compile(
    r"""(?ix)
    (?P<name> [\w.-]* (?: password | passwd | secret | token | api[_-]?key | credential ) [\w.-]* ["']? \s* [=:] \s* )
    (?P<quote> ["']? ) (?P<value> [^\s"',;&)}\]]+ )
    """
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?|bearer\s+|basic\s+)(?:(?:bearer|basic)\s+)?[\w.~+/=-]{6,}"
)
_USER_IN_URL = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@")
# Long runs without spaces that mix digits and letters look like generated keys. Plain hex of 32 digits is a Flink id.
_LONG_TOKEN = re.compile(r"\b(?![0-9a-f]{32}\b)(?=[A-Za-z_+/=-]*\d)(?=[\d_+/=-]*[A-Za-z])[A-Za-z0-9_+=-]{32,}")


def redact(text: str) -> str:
    """Return the text with `[hidden]` in place of anything that looks like a key, password or token."""
    text = _USER_IN_URL.sub(rf"\1{_HIDDEN}@", text)
    text = _AUTHORIZATION.sub(rf"\1{_HIDDEN}", text)
    text = _NAMED_SECRET.sub(rf"\g<name>\g<quote>{_HIDDEN}", text)
    return _LONG_TOKEN.sub(_HIDDEN, text)
