"""GET over HTTP, for addresses and answers that nobody has vouched for.

Bounded in time as a whole, in bytes after decompression, and in redirects; every connection goes through the guard;
certificates are always checked; nothing of the environment (proxies, .netrc, certificate files) counts.
"""

import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLCertVerificationError
from typing import Self

import httpcore
import httpx

from bar.clock import now_ms
from control.keys.trial import without
from feed.connection.answer import Answer
from feed.connection.errors import (
    AddressRefusedError,
    BrokenAnswerError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    QuestionError,
    ServerError,
    UnreachableError,
)
from feed.connection.guard import Guard, is_encrypted, parsed, trusted
from feed.connection.network import GuardedNetwork

MAX_REDIRECTS = 3
LONGEST_RETRY_AFTER_S = 3_600.0
_SAID_CHARACTERS = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSALS = frozenset({401, 403})
_LIMITS = frozenset({418, 429})  # 418: how Binance says that one went on asking after 429
# The key's own parts, as where it is an id and a secret with a colon between.
_PART_BREAK = ":"


@dataclass(frozen=True)
class Limits:
    """What an answer may take: seconds from the look-up of the name to the last byte, and bytes when decompressed."""

    total_s: float = 10.0
    body_bytes: int = 8 * 1024 * 1024


def redacted(text: str, key: str) -> str:
    """Return the text without the key, and without the parts of a key made of an id and a secret."""
    for part in (key, *key.split(_PART_BREAK)) if key else ():
        text = without(part, text)
    return text


class Http:
    """Asks one question at a time, and keeps its connections open in between. Not to be shared between threads."""

    def __init__(self, guard: Guard, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._network = GuardedNetwork(guard)
        self._pool = httpcore.ConnectionPool(
            trusted(), max_connections=4, keepalive_expiry=60.0, network_backend=self._network
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None, key: str = "") -> Answer:
        """Ask, following redirects within the scheme; raise a QuestionError, whose sentence is without `key`.

        headers: sent to the host of `url` alone; a redirect to another one goes on without them.
        """
        asked = address = parsed(url)
        self._network.deadline_s = time.monotonic() + self._limits.total_s
        try:
            for _ in range(MAX_REDIRECTS + 1):
                given = (headers or {}) if _origin(address) == _origin(asked) else {}
                answer = self._asked(address, given, key)
                if isinstance(answer, Answer):
                    return answer
                if is_encrypted(answer) != is_encrypted(address):
                    raise BrokenAnswerError(f"{address.host} leads on to another scheme, {answer.scheme}://.")
                address = answer
        except QuestionError as error:
            raise _without_key(error, key) from None
        raise BrokenAnswerError(f"{asked.host} leads on and on: more than {MAX_REDIRECTS} redirects.")

    def _asked(self, url: httpx.URL, headers: Mapping[str, str], key: str) -> Answer | httpx.URL:
        """Make one request; return the answer, or where it leads on to."""
        self._network.encrypted = is_encrypted(url)
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "barmill", **headers}
        began_ms, began_s = now_ms(), time.monotonic()
        # What the layers below say may quote headers and addresses, so none of it is passed on or chained.
        try:
            with self._pool.stream(
                "GET", target, headers=[(name, value.encode("ascii")) for name, value in sent.items()]
            ) as response:
                found = httpx.Headers(response.headers)
                if response.status in _REDIRECTS:
                    return _joined(url, found.get("location", ""))
                body = self._body(url.host, found, response.iter_stream())
                if not 200 <= response.status < 300:
                    raise refusal(response.status, url.host, said_in(body, key), retry_after_s(found))
        except httpcore.TimeoutException:
            raise UnreachableError(f"{url.host} did not answer within {self._limits.total_s:g} s.") from None
        except httpcore.ConnectError as error:
            if isinstance(error.__context__, SSLCertVerificationError):
                raise UnreachableError(
                    f"The certificate of {url.host} is not trusted, so nothing was sent; is the address right?"
                ) from None
            raise UnreachableError(f"{url.host} takes no connection; is the address right?") from None
        except httpcore.NetworkError:
            raise UnreachableError(f"{url.host} broke the connection off.") from None
        except (httpcore.LocalProtocolError, UnicodeEncodeError):
            raise KeyRefusedError(
                "The key or a header has characters that cannot be sent; store the key again."
            ) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise BrokenAnswerError(f"What answers at {url.host} does not speak HTTP.") from None
        took_ms = (time.monotonic() - began_s) * 1_000
        kind = said_in(found.get("content-type", "").encode(), key)
        return Answer(url.host, kind, body, server_ms(found), began_ms, took_ms)

    def _body(self, host: str, headers: httpx.Headers, chunks: Iterable[bytes]) -> bytes:
        limit = self._limits.body_bytes
        too_much = BrokenAnswerError(f"{host} answered with more than {_size(limit)}; the rest was not read.")
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip"):
            raise BrokenAnswerError(f'{host} answered in the coding "{coding}", which it was not asked for.')
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
        body = bytearray()
        try:
            for chunk in chunks:
                # One byte more than allowed is enough to know; a bomb is never unpacked any further than that.
                body += unpack.decompress(chunk, limit + 1 - len(body)) if unpack else chunk
                if len(body) > limit:
                    raise too_much
        except zlib.error:
            raise BrokenAnswerError(f"{host} answered with something that is not gzip, as it had said.") from None
        if unpack and not unpack.eof and body:
            raise BrokenAnswerError(f"{host} broke its answer off.")
        return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return parsed(str(url.join(location)))
    except (AddressRefusedError, httpx.InvalidURL):
        raise BrokenAnswerError(f"{url.host} leads on to something that is no address.") from None


def refusal(status: int, host: str, said: str, retry_s: float | None = None) -> QuestionError:
    """Return the error for a status, of HTTP or within an answer; `said` is what the provider says to it, or empty."""
    said = f" ({said})" if said else ""
    if status in _LIMITS:
        return LimitedError(f"{host} was asked too often{said}.", retry_s)
    if status in _REFUSALS:
        return KeyRefusedError(f"{host} refuses the key, or what was asked for with it: status {status}{said}.")
    if status >= 500:
        return ServerError(f"{host} has trouble of its own: status {status}{said}.")
    return NotFoundError(f"{host} does not know what it was asked for: status {status}{said}.")


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Return how long a provider wants to be left alone, or None where it does not say."""
    wanted = headers.get("retry-after", "").strip()
    try:
        if wanted:
            seconds = float(wanted) if wanted.isdecimal() else _until_s(parsedate_to_datetime(wanted))
        else:
            seconds = float(headers["x-ratelimit-reset"]) - time.time()
    except (ValueError, KeyError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def _until_s(moment: datetime) -> float:
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def server_ms(headers: httpx.Headers) -> int | None:
    """Return the clock of whoever answered, which knows whole seconds, or None where the answer does not say."""
    try:
        return round(parsedate_to_datetime(headers["date"]).timestamp() * 1_000)
    except (ValueError, KeyError):
        return None


def said_in(body: bytes, key: str) -> str:
    """Return the beginning of what a provider says to its refusal, as one line of plain text without the key."""
    # First without the key and then cut, or else a part of it could be left at the end.
    text = redacted(" ".join(body.decode(errors="replace").split()), key)
    shown = "".join(one for one in text if one.isprintable())
    return shown if len(shown) <= _SAID_CHARACTERS else f"{shown[:_SAID_CHARACTERS]}…"


def _size(count: int) -> str:
    return f"{count / 2**20:g} MB" if count >= 2**20 else f"{count:,} bytes"


def _without_key(error: QuestionError, key: str) -> QuestionError:
    error.args = (redacted(str(error), key),)
    return error
