"""Which instruments go over which connection, as what is wanted changes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from feed.connection.state import ConnectionState, Phase
from feed.providers.websocket.line import Line


@dataclass
class Post:
    """A connection and how it is doing; complete_ms: up to when, by the provider's clock, it has delivered all."""

    line: Line
    state: ConnectionState = field(default_factory=lambda: ConnectionState(Phase.CONNECTING, "Connecting.", 0))
    names_up: frozenset[str] = frozenset()
    subscribed: bool = False
    complete_ms: int | None = None

    def complete_to(self, provider_ms: int) -> None:
        """Take note that everything up to this time has come."""
        self.complete_ms = max(self.complete_ms or 0, provider_ms)


class Crew:
    """The connections of a provider, each with at most so many instruments; one that has a place keeps it."""

    def __init__(self, per_connection: int, make: Callable[[int], Line]) -> None:
        self._per_connection, self._make = per_connection, make
        self._posts: dict[int, Post] = {}
        self._made: list[Line] = []

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts.values())

    def post(self, line: int) -> Post | None:
        """Return a connection that is still in use."""
        return self._posts.get(line)

    def assign(self, names: frozenset[str]) -> None:
        """Give each of the names a connection, make those that are needed and end those that are not."""
        for number, post in list(self._posts.items()):
            post.line.names &= names
            if not post.line.names:
                self._posts.pop(number).line.stop()
        placed = frozenset[str]().union(*(post.line.names for post in self))
        left = sorted(names - placed)
        for post in self:
            room = self._per_connection - len(post.line.names)
            post.line.names |= frozenset(left[:room])
            left = left[room:]
        for start in range(0, len(left), self._per_connection):
            line = self._make(len(self._made))
            self._made.append(line)
            self._posts[line.number] = Post(line)
            line.start(frozenset(left[start : start + self._per_connection]))

    def close(self) -> None:
        """End all connections."""
        for line in self._made:
            line.stop()
        for line in self._made:
            line.join()
