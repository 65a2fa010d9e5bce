"""Answers over HTTP that are bounded in size and time, for servers that an admin named but that may misbehave."""

import time
from io import BytesIO
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

MAX_BODY_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class AnswerTooLargeError(requests.RequestException):
    """The answer is larger than any that makes sense here; the rest of it was not read."""


class BoundedAdapter(HTTPAdapter):
    """What a session of requests sends by. Bodies are read here, up to max_bytes when decompressed and for total_s."""

    def __init__(self, total_s: float, max_bytes: int = MAX_BODY_BYTES) -> None:
        super().__init__()
        self._total_s, self._max_bytes = total_s, max_bytes

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send, and read the answer; raise AnswerTooLargeError or Timeout."""
        until_s = time.monotonic() + self._total_s
        response = super().send(*args, **options | {"stream": True})
        raw = cast(HTTPResponse, response.raw)
        try:
            response.raw = BytesIO(self._body(raw, until_s))
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            raw.close()
        return response

    def _body(self, raw: HTTPResponse, until_s: float) -> bytes:
        body = bytearray()
        while part := raw.read1(_CHUNK_BYTES, decode_content=True):
            body += part
            if len(body) > self._max_bytes:
                raise AnswerTooLargeError(f"more than {self._max_bytes:,} bytes")
            if time.monotonic() > until_s:
                raise requests.Timeout("the answer did not end in time")
        return bytes(body)


def bounded_session(total_s: float) -> requests.Session:
    """Return a session whose answers are bounded, and that takes nothing from the environment (.netrc, proxies)."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(total_s))
    return session
