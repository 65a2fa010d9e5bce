"""One connection to a provider, held up by a thread of its own, which tells what happens as events.

The thread connects, subscribes to what is wanted at that moment, pings, reads, and connects anew when it must.
"""

import logging
import ssl
import threading

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from feed.connection.errors import (
    AddressRefusedError,
    BrokenAnswerError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    QuestionError,
    UnreachableError,
)
from feed.connection.guard import parsed, trusted
from feed.connection.http import redacted, refusal, retry_after_s, said_in
from feed.connection.reconnect import Attempts
from feed.provider import ProviderError
from feed.providers.websocket import templates
from feed.providers.websocket.events import Connecting, Down, Ended
from feed.providers.websocket.talk import SHOWN_CHARACTERS, Means, Talk

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
# The library logs what it sends and receives, keys included, where it is let.
_wire = logging.getLogger("feed.wire")
_wire.setLevel(logging.ERROR)
# What no further attempt would change.
_FOR_A_PERSON = (AddressRefusedError, BrokenAnswerError, KeyRefusedError, NotFoundError)


class Line:
    """A connection and the instruments that go over it."""

    def __init__(self, number: int, means: Means, attempts: Attempts) -> None:
        self.number, self.names = number, frozenset[str]()
        self._means, self._attempts, self._settings = means, attempts, means.settings
        self._host = parsed(means.settings.url).host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"line-{number}", daemon=True)

    def start(self, names: frozenset[str]) -> None:
        """Begin to connect."""
        self.names = names
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end soon."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        error: Exception | None = None
        while not self._stop.is_set() and error is None:
            talk = Talk(self.number, self._means)
            try:
                self._connect(talk)
            except _FOR_A_PERSON as refused:
                error = refused
            except ProviderError as no_key:
                error = no_key
            except QuestionError as lost:
                pause = self._attempts.failed(lost, talk.stood_s)
                self._means.tell(Down(self.number, lost, pause))
                self._stop.wait(pause.seconds)
        self._means.tell(Ended(self.number, error))

    def _connect(self, talk: Talk) -> None:
        """Make one connection and read it until it ends, which raises, or the thread is told to stop."""
        key = self._means.key_of() if self._means.key_of is not None else ""
        try:
            with self._means.one_at_a_time:
                if self._stop.is_set():
                    return
                self._means.tell(Connecting(self.number))
                opened = self._opened(key)
            with opened as connection:
                talk.read(connection, key, lambda: self.names, self._stop)
        except ConnectionClosed as closed:
            raise self._ended(closed, key) from None
        except InvalidStatus as status:
            raise self._not_taken(status, key) from None
        except ssl.SSLCertVerificationError:
            raise UnreachableError(
                f"The certificate of {self._host} is not trusted, so nothing was sent; is the address right?"
            ) from None
        except (InvalidHandshake, EOFError):
            raise UnreachableError(f"{self._host} broke off while the connection was being made.") from None
        except ValueError:  # how the library says that it was led on to another address
            raise BrokenAnswerError(f"{self._host} leads on to another address; give that one instead.") from None
        except OSError as error:
            raise UnreachableError(f"{self._host} cannot be reached ({type(error).__name__}).") from None

    def _opened(self, key: str) -> ClientConnection:
        settings = self._settings
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise KeyRefusedError("The stored key has characters that no key has; store it again.")
        address = self._means.guard.resolved(settings.url)
        return connect(
            templates.with_key(settings.url, settings.key, key),
            sock=address.connect(),
            ssl=trusted() if address.encrypted else None,
            additional_headers=templates.headers_with_key(settings.key, key),
            user_agent_header="barmill",
            proxy=None,
            open_timeout=min(OPEN_TIMEOUT_S, settings.silence_s),
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_wire,
        )

    def _ended(self, closed: ConnectionClosed, key: str) -> QuestionError:
        frame = closed.rcvd
        if closed.sent is not None and closed.sent.code == 1009 and not closed.rcvd_then_sent:
            return UnreachableError(f"{self._host} sent a message of more than {MAX_MESSAGE_BYTES:,} bytes.")
        if frame is None:
            return UnreachableError(f"{self._host} broke the connection off.")
        reason = f", {redacted(frame.reason, key)[:SHOWN_CHARACTERS]}" if frame.reason else ""
        said = f"{self._host} closed the connection (code {frame.code}{reason})."
        return LimitedError(said, None) if frame.code in self._settings.limited_codes else UnreachableError(said)

    def _not_taken(self, error: InvalidStatus, key: str) -> QuestionError:
        response = error.response
        said = said_in(bytes(response.body), key)
        headers = httpx.Headers(list(response.headers.raw_items()))
        return refusal(response.status_code, self._host, said, retry_after_s(headers))
