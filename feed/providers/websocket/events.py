"""What happens on a connection to a provider, as events."""

from dataclasses import dataclass

from feed.connection.errors import QuestionError
from feed.connection.reconnect import Pause
from feed.providers.websocket.messages import Said


@dataclass(frozen=True)
class Connecting:
    """The connection is being made."""

    line: int


@dataclass(frozen=True)
class Up:
    """The connection stands; date_ms is the Date of the handshake, if it had one."""

    line: int
    names: frozenset[str]
    heard_ms: int
    date_ms: int | None


@dataclass(frozen=True)
class Subscribed:
    """The provider sends prices of these from now on."""

    line: int
    names: frozenset[str]


@dataclass(frozen=True)
class Heard:
    """A message has come."""

    line: int
    said: Said
    heard_ms: int


@dataclass(frozen=True)
class CaughtUp:
    """Everything that the provider had sent when it answered a ping of `sent_ms`, by our clock, has been told."""

    line: int
    sent_ms: int


@dataclass(frozen=True)
class Down:
    """The connection is gone, or could not be made; the next attempt comes after the pause."""

    line: int
    error: QuestionError
    pause: Pause


@dataclass(frozen=True)
class Ended:
    """The thread has ended: as told, or because of something that a person must mend."""

    line: int
    error: Exception | None


Event = Connecting | Up | Subscribed | Heard | CaughtUp | Down | Ended
