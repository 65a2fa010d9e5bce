"""A planted secret, and the search for it, in every form in which it could get out."""

import base64
import html
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus


def canary() -> str:
    """Return a secret that looks different in every encoding, and is fit for an HTTP header."""
    return f'canary-"{secrets.token_urlsafe(12)}\\/+&%<{secrets.token_urlsafe(12)}'


def forms(secret: str) -> dict[str, frozenset[bytes]]:
    """Return what a secret may look like, by the name of the encoding."""
    plain = secret.encode()
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    escaped |= {json.dumps(text)[1:-1] for text in escaped}  # a text of JSON inside another one
    return {
        "plain": frozenset({plain, secret.encode("utf-16-le")}),
        "base64": frozenset(_base64_anywhere(plain)),
        "hex": frozenset({plain.hex().encode(), plain.hex().upper().encode()}),
        "url": frozenset(form.encode() for text in quoted for form in (text, _lower_case_escapes(text))),
        "json": frozenset(text.encode() for text in escaped) | {_slashes_escaped(secret).encode()},
        "html": frozenset(form.encode() for form in (html.escape(secret), html.escape(secret, quote=False))),
    }


def leaks(secret: str, *paths_or_texts: Path | str | bytes) -> list[str]:
    """Say where a secret is, in which form: looks into texts, files, and folders with all that is in them."""
    wanted = forms(secret)
    return [
        f"{where}: {form}"
        for given in paths_or_texts
        for where, content in _contents(given)
        for form, encoded in wanted.items()
        if any(data in content for data in encoded)
    ]


def _contents(given: Path | str | bytes) -> Iterator[tuple[str, bytes]]:
    if isinstance(given, str):
        yield f"text {given[:40]!r}", given.encode(errors="surrogateescape")
    elif isinstance(given, bytes):
        yield f"bytes {given[:40]!r}", given
    elif given.is_dir():
        for path in sorted(given.rglob("*")):
            with suppress(FileNotFoundError):  # something may still be at work in there
                if path.is_file():
                    yield str(path), path.read_bytes()
    else:
        yield str(given), given.read_bytes()


def _base64_anywhere(plain: bytes) -> Iterator[bytes]:
    """Yield what of the base64 of a text is always the same, wherever in the text the secret begins."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + plain)
        certain = encoded[-(-offset * 4 // 3) + (offset > 0) : len(encoded) - 4]
        yield from (certain, certain.translate(bytes.maketrans(b"+/", b"-_")))


def _lower_case_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _slashes_escaped(secret: str) -> str:
    return json.dumps(secret)[1:-1].replace("/", "\\/")
