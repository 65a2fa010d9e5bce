"""What "test this key" asks of a provider, and the care with what the provider answers."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from control.home import Home

# Tries a key; returns one sentence that says what it opens, or raises KeyTestError.
KeyTest = Callable[[Home, str], str]
# Shorter ones are in other words by chance, and hiding those would give them away.
_SHORTEST = 6


def without(secret: str, text: str) -> str:
    """Return the text with the secret hidden, in case a provider sends back what it was sent."""
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
        if len(form) >= _SHORTEST:
            text = text.replace(form, "[hidden]")
    return text
