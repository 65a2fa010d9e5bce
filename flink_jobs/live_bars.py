"""The bars that current ticks change, in plain Python, for batches of a few ticks (see barmill/model/fold_few.py).

OpenBars keeps all partials in tables and uses this copy of the newest ones while few ticks arrive and few bars form.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from barmill.model.fold_few import BarKey, Partial, merge_pair
from barmill.model.progress import CompleteTo, prefix_of
from barmill.platform.clock import NS_PER_MS

NEVER_MS = 2**62
# Closed bars are kept, because a tick may still amend them, until there are this many bars.
_MAX_BARS = 5_000


class LiveBars:
    """Merged partials by bar; `forming` are the keys of those that have not closed."""

    def __init__(self, forming: pl.DataFrame, held: pl.DataFrame) -> None:
        """forming: merged partials of the forming bars; held: all partials that OpenBars holds; both PARTIAL_SCHEMA."""
        self._bars = {partial.key: partial for partial in map(Partial._make, forming.rows())}
        self.forming = set(self._bars)
        # The start of the newest bar of each instrument and frame.
        newest = held.group_by("instrument", "frame_ms").agg(pl.max("start_ms"))
        self._newest_start_ms = {(name, frame_ms): start_ms for name, frame_ms, start_ms in newest.rows()}

    def __getitem__(self, key: BarKey) -> Partial:
        return self._bars[key]

    def missing_keys(self, keys: Iterable[BarKey]) -> list[BarKey]:
        """Return the keys of bars that are not in this copy, but may have partials in the tables of OpenBars."""
        newest_ms = self._newest_start_ms
        return [key for key in keys if key not in self._bars and key[2] <= newest_ms.get(key[:2], -NEVER_MS)]

    def add(self, partials: Iterable[Partial], current: Mapping[BarKey, Partial]) -> None:
        """Add partials, which may reopen a closed bar. current: the missing bars, merged with these partials."""
        for partial in partials:
            key = partial.key
            earlier = self._bars.get(key)
            self._bars[key] = current[key] if key in current else merge_pair(earlier, partial) if earlier else partial
            self.forming.add(key)
            self._newest_start_ms[key[:2]] = max(key[2], self._newest_start_ms.get(key[:2], key[2]))

    def close(self, newest_ns: Mapping[str, int], complete_to: CompleteTo, allowance_ms: int) -> set[BarKey]:
        """Close the forming bars that can close (see OpenBars.changed), and return their keys.

        newest_ns: the time of the newest tick by instrument.
        """
        closed = set()
        for key in self.forming:
            closes_at_ms = key[1] + key[2] + allowance_ms
            prefix = prefix_of(complete_to, key[0])
            complete_ms = None if prefix is None else complete_to[prefix]
            if closes_at_ms <= newest_ns[key[0]] // NS_PER_MS or (
                complete_ms is not None and closes_at_ms <= complete_ms
            ):
                closed.add(key)
        self.forming -= closed
        return closed

    def next_close_ms(self, complete_to: CompleteTo, allowance_ms: int) -> dict[str, int]:
        """Return, by prefix, when the next forming bar can close because its sources are complete, or NEVER_MS."""
        next_ms = dict.fromkeys(complete_to, NEVER_MS)
        for name, frame_ms, start_ms in self.forming:
            prefix = prefix_of(complete_to, name)
            if prefix is not None:
                next_ms[prefix] = min(next_ms[prefix], start_ms + frame_ms + allowance_ms)
        return next_ms

    def drop_closed(self) -> None:
        """Drop closed bars if there are too many; `missing_keys` returns their keys when more ticks arrive for them."""
        if len(self._bars) > _MAX_BARS:
            self._bars = {key: self._bars[key] for key in self.forming}
