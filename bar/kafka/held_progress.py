"""Progress that waits for the bars it speaks of: topics are read side by side, and its own may be ahead of theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bar.store import Progress

# Where reading is: (topic, partition) to the offset that comes next.
Offsets = Mapping[tuple[str, int], int]


@dataclass
class _Said:
    """The newest word of each shard, and up to where the topic of progress was read for it."""

    by_shard: dict[tuple[str, int], Progress] = field(default_factory=dict)
    next_offsets: dict[tuple[str, int], int] = field(default_factory=dict)


class HeldProgress:
    """What shards said of their progress, held until everything that they published before has been read.

    Whatever was in the topics of bars when a word arrived was published before it or together with it.
    """

    def __init__(self) -> None:
        self._arriving, self._waiting = _Said(), _Said()
        self._until: Offsets | None = None

    def arrive(self, progress: Sequence[Progress], next_offsets: Offsets) -> None:
        """Take in what was read from the topic of progress, and where that reading is."""
        self._arriving.by_shard |= {(one.job, one.shard): one for one in progress}
        self._arriving.next_offsets |= next_offsets

    @property
    def asks_for_ends(self) -> bool:
        """Tell whether it must be known where the topics of bars end now, for `hold_until`."""
        return self._until is None and bool(self._arriving.by_shard)

    def hold_until(self, ends: Offsets) -> None:
        """Hold what has arrived so far until the topics of bars were read up to there."""
        self._waiting, self._arriving, self._until = self._arriving, _Said(), ends

    def due(self, reached: Offsets) -> tuple[Sequence[Progress], Offsets]:
        """Return what need not be held any more, now that reading is there, and up to where it had been read."""
        if self._until is None or any(reached.get(place, 0) < end for place, end in self._until.items()):
            return [], {}
        said, self._waiting, self._until = self._waiting, _Said(), None
        return [*said.by_shard.values()], said.next_offsets
