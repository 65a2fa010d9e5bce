"""Which ids of an instrument have been delivered, and so which are missing, where a provider counts its ticks."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# So many stretches are remembered; of more, the oldest hole is forgotten.
_MAX_STRETCHES = 200


@dataclass(frozen=True)
class Hole:
    """Ids that are missing, both ends included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Return how many they are."""
        return self.last - self.first + 1


class Ids:
    """A set of ids that rise one by one, kept as its stretches, in order and never touching each other."""

    def __init__(self, stretches: Iterable[Sequence[int]] = ()) -> None:
        self._stretches = [[first, last] for first, last in stretches]

    def __contains__(self, number: int) -> bool:
        at = self._before(number)
        return at >= 0 and number <= self._stretches[at][1]

    @property
    def newest(self) -> int | None:
        """Return the highest id, None without any."""
        return self._stretches[-1][1] if self._stretches else None

    @property
    def stretches(self) -> list[list[int]]:
        """Return the stretches, to be kept somewhere."""
        return self._stretches

    def add(self, number: int) -> None:
        """Take an id in."""
        at, stretches = self._before(number), self._stretches
        if at >= 0 and number <= stretches[at][1]:
            return
        joins_before = at >= 0 and stretches[at][1] == number - 1
        joins_after = at + 1 < len(stretches) and stretches[at + 1][0] == number + 1
        if joins_before and joins_after:
            stretches[at][1] = stretches.pop(at + 1)[1]
        elif joins_before:
            stretches[at][1] = number
        elif joins_after:
            stretches[at + 1][0] = number
        else:
            stretches.insert(at + 1, [number, number])
            if len(stretches) > _MAX_STRETCHES:
                oldest = stretches.pop(0)
                stretches[0][0] = oldest[0]

    def holes(self) -> list[Hole]:
        """Return what is missing between the lowest and the highest id."""
        pairs = zip(self._stretches, self._stretches[1:], strict=False)
        return [Hole(before[1] + 1, after[0] - 1) for before, after in pairs]

    def _before(self, number: int) -> int:
        """Return the place of the last stretch that begins at or below a number, -1 if there is none."""
        return bisect_right(self._stretches, number, key=lambda stretch: stretch[0]) - 1
