"""What becomes of every row of an answer: the same for the feed and for a trial of its settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from feed.mapping.picked import Picked, shown_names
from feed.providers.rest.delivered import Delivered, RawRow
from feed.providers.rest.settings import RestFeed

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Account:
    """The rows of an answer: new, repeats, held and unpicked are together as many as the rows.

    new: each becomes a tick or a reject when it is checked, oldest first. repeats: delivered before. held: too young,
    and left for a later poll. unpicked: of instruments that are not read; refused holds the first row of each of these.
    foreign: the names in the answer, where it has rows and none of an instrument that is read.
    """

    new: list[RawRow]
    repeats: int
    held: int
    unpicked: int
    refused: pl.DataFrame
    foreign: frozenset[str] = frozenset()


def delivered_of(settings: RestFeed, cursor: str | None = None) -> Delivered:
    """Return what was delivered up to a cursor.

    Questions for what is newest are mostly answered newest first, and those since a time oldest first; that counts
    only until an answer says it by its times.
    """
    return Delivered(
        round(settings.overlap_s * _NS_PER_S),
        cursor,
        order=settings.rows.order,
        newest_first_if_unknown=not settings.asks_since,
    )


def account(
    delivered: Delivered,
    picked: Picked,
    rows: Sequence[RawRow],
    wanted: frozenset[str],
    future_ns: int,
    held_ns: int | None,
) -> Account:
    """Settle what becomes of each row; wanted: the instruments that are read, empty for all. See Delivered.take."""
    own, refused = picked.split(delivered.oldest_first(rows), wanted)
    taken = delivered.take(own, future_ns, held_ns)
    names = frozenset(str(row.get("instrument")) for row in rows) if rows and not own else frozenset[str]()
    return Account(taken.new, taken.repeats, taken.held, len(rows) - len(own), refused, names)


def foreign_names(names: frozenset[str], group: Sequence[str]) -> str:
    """Say that an answer is about other instruments than those that were asked for."""
    return (
        f"The answer is about {shown_names(names)} alone, which is not how {shown_names(group)} is spelled; pick it as"
        ' the provider spells it, or map its name by "names" in the mapping.'
    )
