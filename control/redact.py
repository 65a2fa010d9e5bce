"""Take secrets out of text that somebody is going to read."""

import re

_HIDDEN = "[hidden]"
# name = value, name: value, 'name': 'value', in code, JSON, settings and URLs.
_NAMED = re.compile(
    r"""(?ix)
    (?P<name> [\w.-]* (?: password | passwd | secret | token | api[_-]?key | credential ) [\w.-]* ["']? \s* [=:] \s* )
    (?P<quote> ["']? ) (?P<value> [^\s"',;&)}\]]+ )
    """
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?|bearer\s+|basic\s+)(?:(?:bearer|basic)\s+)?[\w.~+/=-]{6,}"
)
_USER_IN_URL = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@")
# Long runs without spaces that mix digits and letters: what generated keys look like. Plain hex of 32 is a Flink id.
_LONG = re.compile(r"\b(?![0-9a-f]{32}\b)(?=[A-Za-z_+/=-]*\d)(?=[\d_+/=-]*[A-Za-z])[A-Za-z0-9_+=-]{32,}")


def redact(text: str) -> str:
    """Return the text with anything that looks like a key, password or token replaced."""
    text = _USER_IN_URL.sub(rf"\1{_HIDDEN}@", text)
    text = _AUTHORIZATION.sub(rf"\1{_HIDDEN}", text)
    text = _NAMED.sub(rf"\g<name>\g<quote>{_HIDDEN}", text)
    return _LONG.sub(_HIDDEN, text)
