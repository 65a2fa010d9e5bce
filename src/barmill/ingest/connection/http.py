"""HTTP GET for untrusted addresses and responses.

Total time, decompressed size and redirects are limited. Every connection passes the guard. Certificates are always
verified. The environment (proxies, .netrc, certificate files) has no effect.
"""

import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from ssl import SSLCertVerificationError
from typing import Self

import httpcore
import httpx

from barmill.ingest.connection.guard import Guard, GuardedNetwork, is_encrypted, parse_url, tls_context
from barmill.ingest.connection.reconnect import (
    AddressRefusedError,
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from barmill.platform.clock import now_ms
from barmill.platform.exact_json import JsonError, Parsed, read_json
from barmill.secrets.info import hide_secret

MAX_VALUES = 1_000_000
MAX_DEPTH = 64
MAX_REDIRECTS = 3
MAX_RETRY_AFTER_S = 3_600.0
MAX_QUOTED_CHARACTERS = 200
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_REFUSAL_STATUSES = frozenset({401, 403})
_LIMIT_STATUSES = frozenset({418, 429})  # 418: Binance sends it to clients that continue after 429
# Separates the parts of a key that consists of an id and a secret.
_PART_SEPARATOR = ":"


@dataclass(frozen=True)
class HttpResponse:
    """A response with a 2xx status.

    body: the decompressed bytes. server_ms: the provider's clock according to the Date header, which has a resolution
    of one second, or None. requested_ms: when the request was sent, by this machine's clock. took_ms: from then
    until the body was complete. key: the key that the request carried, which no text about the response may contain.
    """

    host: str
    content_type: str
    body: bytes
    server_ms: int | None
    requested_ms: int
    took_ms: float
    key: str = field(default="", repr=False, compare=False)

    def without_key(self, text: str) -> str:
        """Return a text about the response without the key."""
        return redact_key(text, self.key)

    def start_of(self, text: str, max_characters: int = MAX_QUOTED_CHARACTERS) -> str:
        """Return the start of a text in the response as one line of plain text without the key."""
        return start_of(text, self.key, max_characters)

    @property
    def skew_ms(self) -> float | None:
        """Return the provider's clock minus this machine's, within half a second, or None without a Date header."""
        if self.server_ms is None:
            return None
        return self.server_ms + 500 - (self.requested_ms + self.took_ms / 2)


def json_of(response: HttpResponse) -> object:
    """Return the parsed JSON value of a response; raise InvalidResponseError as `parse_json` does."""
    return parse_json(response).value


def parse_json(response: HttpResponse) -> Parsed:
    """Parse a response as JSON.

    Raise InvalidResponseError if it is not JSON, has too many values or is nested too deeply.
    """
    # Every value in a list or an object except the first has a comma before it. Commas inside strings also count, which
    # only makes the limit stricter.
    values = response.body.count(b",") + response.body.count(b"[") + response.body.count(b"{")
    if values > MAX_VALUES:
        raise InvalidResponseError(f"{response.host} sent more than {MAX_VALUES:,} values; request fewer at once.")
    try:
        document = read_json(response.body)
    except JsonError:
        kind = response.content_type.partition(";")[0] or "content without a type"
        raise InvalidResponseError(
            f"{response.host} sent {kind} instead of JSON; check the base URL and the path."
        ) from None
    if _is_deeper_than(document.value, MAX_DEPTH):
        raise InvalidResponseError(f"{response.host} sent JSON nested more than {MAX_DEPTH} levels deep.")
    return document


def _is_deeper_than(value: object, depth: int) -> bool:
    """Return whether a value is nested deeper than `depth`.

    It iterates by level, because recursion could overflow the stack.
    """
    level = _nested_values([value])
    while level and depth > 0:
        level = _nested_values(chain.from_iterable(level))
        depth -= 1
    return bool(level)


def _nested_values(values: Iterable[object]) -> list[Iterable[object]]:
    """Return the contents of the lists and objects among the values."""
    return [value.values() if isinstance(value, dict) else value for value in values if isinstance(value, dict | list)]


@dataclass(frozen=True)
class Limits:
    """Limits of one request: seconds from the DNS lookup to the last byte, and bytes after decompression."""

    total_s: float = 10.0
    body_bytes: int = 8 * 1024 * 1024


def redact_key(text: str, key: str) -> str:
    """Return the text without the key, and without each part of a key that consists of an id and a secret."""
    for part in (key, *key.split(_PART_SEPARATOR)) if key else ():
        text = hide_secret(part, text)
    return text


class Http:
    """An HTTP client that sends one request at a time and keeps connections alive. Not thread-safe."""

    def __init__(self, guard: Guard, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._network = GuardedNetwork(guard)
        self._pool = httpcore.ConnectionPool(
            tls_context(), max_connections=4, keepalive_expiry=60.0, network_backend=self._network
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None, key: str = "") -> HttpResponse:
        """Send a GET request and follow redirects within the scheme; raise a RequestError without `key` in it.

        headers: sent to the origin of `url` only; a redirect to another origin is followed without them. key: only
        removed from texts; it is sent if `url` or `headers` contain it.
        """
        requested = address = parse_url(url)
        self._network.deadline_s = time.monotonic() + self._limits.total_s
        try:
            for _ in range(MAX_REDIRECTS + 1):
                own_headers = (headers or {}) if _origin(address) == _origin(requested) else {}
                response = self._send(address, own_headers, key)
                if isinstance(response, HttpResponse):
                    return response
                if is_encrypted(response) != is_encrypted(address):
                    raise InvalidResponseError(f"{address.host} redirects to another scheme, {response.scheme}://.")
                address = response
        except RequestError as error:
            raise _without_key(error, key) from None
        raise InvalidResponseError(f"{requested.host} redirects more than {MAX_REDIRECTS} times.")

    def _send(self, url: httpx.URL, headers: Mapping[str, str], key: str) -> HttpResponse | httpx.URL:
        """Send one request; return the response, or the URL of a redirect."""
        self._network.encrypted = is_encrypted(url)
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        request_headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "barmill", **headers}
        started_ms, started_s = now_ms(), time.monotonic()
        # Errors of the lower layers may quote headers and addresses, so their text is neither passed on nor chained.
        try:
            with self._pool.stream(
                "GET", target, headers=[(name, value.encode("ascii")) for name, value in request_headers.items()]
            ) as response:
                response_headers = httpx.Headers(response.headers)
                if response.status in _REDIRECT_STATUSES:
                    return _join_url(url, response_headers.get("location", ""))
                body = self._body(url.host, response_headers, response.iter_stream())
                if not 200 <= response.status < 300:
                    raise refusal(response.status, url.host, error_text(body, key), retry_after_s(response_headers))
        except httpcore.TimeoutException:
            raise UnreachableError(f"{url.host} did not respond within {self._limits.total_s:g} s.") from None
        except httpcore.ConnectError as error:
            if isinstance(error.__context__, SSLCertVerificationError):
                raise UnreachableError(
                    f"The certificate of {url.host} is not trusted, so nothing was sent; check the address."
                ) from None
            raise UnreachableError(f"{url.host} accepts no connection; check the address.") from None
        except httpcore.NetworkError:
            raise UnreachableError(f"{url.host} closed the connection before the response was complete.") from None
        except (httpcore.LocalProtocolError, UnicodeEncodeError):
            raise KeyRefusedError(
                "The key or a header contains characters that cannot be sent; store the key again."
            ) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise InvalidResponseError(f"The response of {url.host} is not HTTP.") from None
        took_ms = (time.monotonic() - started_s) * 1_000
        kind = error_text(response_headers.get("content-type", "").encode(), key)
        return HttpResponse(url.host, kind, body, server_ms(response_headers), started_ms, took_ms, key)

    def _body(self, host: str, headers: httpx.Headers, chunks: Iterable[bytes]) -> bytes:
        limit = self._limits.body_bytes
        too_large = InvalidResponseError(f"{host} sent more than {_size_text(limit)}; the rest was not read.")
        content_encoding = headers.get("content-encoding", "identity").strip().lower()
        if content_encoding not in ("identity", "gzip"):
            raise InvalidResponseError(
                f'{host} sent content in the encoding "{content_encoding}", which was not requested.'
            )
        decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16) if content_encoding == "gzip" else None
        body = bytearray()
        try:
            for chunk in chunks:
                # One byte more than the limit is enough to detect an oversized body; a decompression bomb is not
                # unpacked further.
                body += decompressor.decompress(chunk, limit + 1 - len(body)) if decompressor else chunk
                if len(body) > limit:
                    raise too_large
        except zlib.error:
            raise InvalidResponseError(f"{host} sent content that is not gzip, although its header says so.") from None
        if decompressor and not decompressor.eof and body:
            raise InvalidResponseError(f"{host} sent an incomplete response.")
        return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _join_url(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return parse_url(str(url.join(location)))
    except (AddressRefusedError, httpx.InvalidURL):
        raise InvalidResponseError(f"{url.host} redirects to an invalid address.") from None


def refusal(status: int, host: str, detail: str, retry_s: float | None = None) -> RequestError:
    """Return the error for an HTTP status, or for a status inside a response.

    detail: the provider's message, or empty. retry_s: the pause that the provider requests, or None.
    """
    detail = f" ({detail})" if detail else ""
    if status in _LIMIT_STATUSES:
        return LimitedError(f"{host} received too many requests{detail}.", retry_s)
    if status in _REFUSAL_STATUSES:
        return KeyRefusedError(
            f"{host} rejects the key, or the key does not permit this request: status {status}{detail}."
        )
    if status >= 500:
        return ServerError(f"{host} reports an internal error: status {status}{detail}.")
    return NotFoundError(f"{host} does not have what was requested: status {status}{detail}.")


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Return the pause in seconds that the provider requests, at most an hour, or None if it requests none."""
    value = headers.get("retry-after", "").strip()
    try:
        if value:
            seconds = float(value) if value.isdecimal() else _seconds_until(parsedate_to_datetime(value))
        else:
            seconds = float(headers["x-ratelimit-reset"]) - time.time()
    except (ValueError, KeyError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _seconds_until(date: datetime) -> float:
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def server_ms(headers: httpx.Headers) -> int | None:
    """Return the server's clock from the Date header, in whole seconds as milliseconds, or None without the header."""
    try:
        return round(parsedate_to_datetime(headers["date"]).timestamp() * 1_000)
    except (ValueError, KeyError):
        return None


def error_text(body: bytes, key: str) -> str:
    """Return the start of the provider's error message as one line of plain text without the key."""
    return start_of(body.decode(errors="replace"), key)


def start_of(text: str, key: str, max_characters: int = MAX_QUOTED_CHARACTERS) -> str:
    """Return the first `max_characters` characters of a text as one line of plain text without the key."""
    # Redact before truncating; otherwise part of the key could remain at the end.
    text = redact_key(" ".join(text.split()), key)
    printable = "".join(character for character in text if character.isprintable())
    return printable if len(printable) <= max_characters else f"{printable[:max_characters]}…"


def _size_text(count: int) -> str:
    return f"{count / 2**20:g} MB" if count >= 2**20 else f"{count:,} bytes"


def _without_key(error: RequestError, key: str) -> RequestError:
    error.args = (redact_key(str(error), key),)
    return error
