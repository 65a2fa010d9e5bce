"""One question to a provider: the settings with their blanks filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import httpx

from feed.connection.errors import BrokenAnswerError, KeyRefusedError
from feed.connection.guard import parsed
from feed.providers.rest.settings import BLANK, KEY_BLANKS, RestFeed

_NS_PER_S, _NS_PER_MS = 1_000_000_000, 1_000_000
_HIDDEN = "[key]"


@dataclass(frozen=True)
class Asking:
    """What a question is about. since_ns: None where everything is wanted. url: of a page that the provider named."""

    instruments: Sequence[str]
    since_ns: int | None = None
    cursor: str | None = None
    url: str | None = None

    @property
    def instrument(self) -> str | None:
        """Return the instrument, where the question is about exactly one."""
        return self.instruments[0] if len(self.instruments) == 1 else None


@dataclass(frozen=True)
class Question:
    """What is sent."""

    url: str
    headers: Mapping[str, str]


def question(settings: RestFeed, asking: Asking, key: str) -> Question:
    """Return what to send; raise KeyRefusedError where the key is none that can be sent."""
    if settings.needs_key:
        _check_key(settings.blanks, key)
    return _filled(settings, asking, key)


def question_shown(settings: RestFeed, asking: Asking) -> str:
    """Return what is sent as people may see it, without the key."""
    shown = _filled(settings, asking, f"{_HIDDEN}:{_HIDDEN}" if "key_id" in settings.blanks else _HIDDEN)
    address = shown.url.replace(quote(_HIDDEN, safe=""), _HIDDEN)
    return "\n".join([f"GET {address}", *(f"{name}: {value}" for name, value in shown.headers.items())])


def catalogue_question(settings: RestFeed, key: str) -> Question:
    """Return what to send for the catalogue, which the settings must have."""
    assert settings.catalogue is not None
    as_prices = settings.model_copy(update={"path": settings.catalogue.path, "query": settings.catalogue.query})
    return question(as_prices, Asking(()), key)


def _filled(settings: RestFeed, asking: Asking, key: str) -> Question:
    blanks = {**_moment(asking.since_ns), **_of_key(key), "cursor": asking.cursor}
    blanks["instrument"] = asking.instrument
    blanks["instruments"] = settings.separator.join(asking.instruments) or None
    query = _known(settings.query, blanks)
    headers = _known(settings.headers, blanks)
    if asking.url is not None:
        secret = {name: query[name] for name, text in settings.query.items() if KEY_BLANKS & set(BLANK.findall(text))}
        return Question(_next_page(settings, asking.url, secret), headers)
    path = BLANK.sub(lambda found: quote(blanks.get(found[1]) or "", safe=""), settings.path)
    address = f"{settings.base_url}/{path.lstrip('/')}" if path else settings.base_url
    return Question(f"{address}?{urlencode(query, quote_via=quote)}" if query else address, headers)


def _known(texts: Mapping[str, str], blanks: Mapping[str, str | None]) -> dict[str, str]:
    """Fill in the blanks, and leave out what has one without a value."""
    return {
        name: BLANK.sub(lambda found: blanks[found[1]] or "", text)
        for name, text in texts.items()
        if all(blanks.get(blank) for blank in BLANK.findall(text))
    }


def _next_page(settings: RestFeed, url: str, secret: Mapping[str, str]) -> str:
    """Return the address of a page that the provider named, with the key, which must stay where it belongs."""
    here = parsed(settings.base_url)
    try:
        there = here.join(url)
    except httpx.InvalidURL:
        raise BrokenAnswerError(f"{here.host} names a next page whose address cannot be read.") from None
    if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
        raise BrokenAnswerError(f"{here.host} names a next page at another host, {there.host}; the key stays here.")
    return str(there.copy_merge_params(dict(secret)))


def _moment(since_ns: int | None) -> dict[str, str | None]:
    if since_ns is None:
        return dict.fromkeys(("since_s", "since_ms", "since_ns", "since_iso", "since_utc"))
    seconds, rest_ns = divmod(since_ns, _NS_PER_S)
    utc = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "since_s": str(seconds),
        "since_ms": str(since_ns // _NS_PER_MS),
        "since_ns": str(since_ns),
        "since_iso": f"{utc}.{rest_ns:09d}Z",
        "since_utc": utc,
    }


def _of_key(key: str) -> dict[str, str | None]:
    key_id, _, secret = key.partition(":")
    return {"key": key, "key_id": key_id, "key_secret": secret}


def _check_key(blanks: frozenset[str], key: str) -> None:
    # Checked here because the errors of the layers below would quote the key.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise KeyRefusedError("The feed has no key, or one with characters that no key has; store it again.")
    if "key_secret" in blanks and not all(key.partition(":")):
        raise KeyRefusedError("This provider's key has two parts; store them as ID:SECRET, with a colon between.")
