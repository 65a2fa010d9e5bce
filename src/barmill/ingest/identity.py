"""The identity of ticks (instrument, id): ids joined from parts, missing ids, gaps, and duplicates.

Ids are compared as the text that was sent: 7 and "7" are the same id, "07" is another. A tick is a duplicate if its
instrument had a tick with the same id, prices and volume at the same time, or at a time that differs only in precision,
for example because another feed truncates it to milliseconds. Within one batch, the times must be equal. The same id
with any other difference is not a duplicate: the provider's counter restarted, or the id is unique only together with
another field. These ticks are kept and counted, so a restarted counter loses no trades.

Duplicates are never found by content alone, because identical trades occur, and never by "lower than the last id",
because ticks arrive out of order. Ticks without an id are never duplicates.
"""

from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import polars as pl

from barmill.platform.clock import MS_PER_HOUR, NS_PER_MS, NS_PER_S
from barmill.platform.exact_json import text_of
from barmill.platform.texts import moment

_MAX_ID = 2**63 - 1
_CONTENT_COLUMNS = ("price", "price_open", "price_close", "volume")
_PRECISIONS_NS = (NS_PER_S, NS_PER_MS, 1_000)


def hash_id(text: str) -> int:
    """Return a stable 63-bit number (0 or above) for a text; different texts almost never get the same number."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & _MAX_ID


def id_of(value: object) -> int | None:
    """Return a provider's id as a number: integers and digits below 2**63 as they are, other texts hashed, or None."""
    if value is None:
        return None
    if type(value) is int and abs(value) <= _MAX_ID:
        return value
    text = str(value).strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() else None
    return number if number is not None and number <= _MAX_ID else hash_id(text)


def escape_id_part(part: str) -> str:
    """Return a part of an id, escaped for joining by `/`, so that different parts never produce the same id."""
    return part.replace("\\", "\\\\").replace("/", "\\/")


def content_of(row: Mapping[str, object]) -> str:
    """Return a four-character digest of the prices and volume of a row, independent of how the numbers are written."""
    return b64encode(blake2b(content_text(row).encode(), digest_size=3).digest()).decode()


def content_text(row: Mapping[str, object]) -> str:
    """Return the prices and volume of a row as one text, independent of how the numbers are written."""
    return "|".join(_number_text(row.get(name)) for name in _CONTENT_COLUMNS)


def same_time(first_ns: int, second_ns: int) -> bool:
    """Return whether two times are equal, or differ only because one of them is less precise."""
    difference_ns = abs(first_ns - second_ns)
    return not difference_ns or any(
        difference_ns < step and not (first_ns % step and second_ns % step) for step in _PRECISIONS_NS
    )


def _number_text(value: object) -> str:
    text = text_of(value) or ""
    try:
        return repr(float(text))
    except ValueError:
        return text


# The maximum number of remembered ranges; beyond it, the lowest hole is forgotten.
_MAX_RANGES = 200


@dataclass(frozen=True)
class Hole:
    """A range of missing ids, both ends inclusive."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Return the number of missing ids."""
        return self.last - self.first + 1


class Ids:
    """A set of ids that rise one by one, stored as sorted ranges; adjacent ranges are joined."""

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._ranges = [[first, last] for first, last in ranges]

    def __contains__(self, number: int) -> bool:
        index = self._before(number)
        return index >= 0 and number <= self._ranges[index][1]

    @property
    def newest(self) -> int | None:
        """Return the highest id, or None if the set is empty."""
        return self._ranges[-1][1] if self._ranges else None

    @property
    def ranges(self) -> list[list[int]]:
        """Return the ranges as [first, last] pairs, ready to be stored."""
        return self._ranges

    def add(self, number: int) -> None:
        """Add an id."""
        index, ranges = self._before(number), self._ranges
        if index >= 0 and number <= ranges[index][1]:
            return
        joins_before = index >= 0 and ranges[index][1] == number - 1
        joins_after = index + 1 < len(ranges) and ranges[index + 1][0] == number + 1
        if joins_before and joins_after:
            ranges[index][1] = ranges.pop(index + 1)[1]
        elif joins_before:
            ranges[index][1] = number
        elif joins_after:
            ranges[index + 1][0] = number
        else:
            ranges.insert(index + 1, [number, number])
            if len(ranges) > _MAX_RANGES:
                oldest = ranges.pop(0)
                ranges[0][0] = oldest[0]

    def holes(self) -> list[Hole]:
        """Return the missing ranges between the lowest and the highest id."""
        pairs = zip(self._ranges, self._ranges[1:], strict=False)
        return [Hole(before[1] + 1, after[0] - 1) for before, after in pairs]

    def _before(self, number: int) -> int:
        """Return the index of the last range that begins at or below a number, or -1 if there is none."""
        return bisect_right(self._ranges, number, key=lambda id_range: id_range[0]) - 1


_SHOWN_MS = MS_PER_HOUR
_MAX_SHOWN = 3
_MAX_KEPT = 1_000


class GapNotes:
    """Possible gaps, by subject; `count` is the total number ever noted."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._noted: dict[str, tuple[int, str]] = {}
        self.count = 0

    def note(self, subject: str, sentence: str, count: int = 1) -> None:
        """Record a possible gap (count 0: counted elsewhere).

        The sentence replaces an earlier one on the same subject.
        """
        self._noted.pop(subject, None)
        self._noted[subject] = (self._clock_ms(), sentence)
        self.count += count
        if len(self._noted) > _MAX_KEPT:
            del self._noted[next(iter(self._noted))]

    @property
    def sentence(self) -> str:
        """Return up to three sentences of the last hour, newest first, and the number of others; '' if none."""
        now_ms = self._clock_ms()
        notes = [text for at_ms, text in reversed(self._noted.values()) if now_ms - at_ms < _SHOWN_MS]
        more = len(notes) - _MAX_SHOWN
        return " ".join([*notes[:_MAX_SHOWN], *([f"And {more:,} more."] if more > 0 else [])])


def time_range_text(from_ns: int, to_ns: int) -> str:
    """Return a time range as text, in UTC to the second."""
    first, last = (moment(at_ns // NS_PER_MS) for at_ns in (from_ns, to_ns))
    return f"between {first} and {last} UTC"


_COMPARED_COLUMNS = ["instrument", "key", "price_open", "price_close", "volume"]
_KEPT_COLUMNS = [*_COMPARED_COLUMNS, "time_ns"]
# Searching many small pieces costs more than searching one piece with the same rows.
_MAX_PIECES = 64
_NO_VOLUME = -1.0
# Per instrument: the highest id, the newest time, and the id of the tick with that time; ids only if they rise.
_NEWEST_SCHEMA = {"instrument": pl.String, "newest_id": pl.Int64, "newest_ns": pl.Int64, "last_id": pl.Int64}


class RecentIds:
    """The recently accepted ids, per instrument.

    An id is remembered at least until its instrument's newest tick is `window_ns` newer. Most batches with rising ids
    contain only ids above the newest of their instrument; those need no lookup.

    reused: new ticks whose id had been seen. restarted: how often the rising ids of an instrument fell while time
    advanced.
    """

    def __init__(self, window_ns: int) -> None:
        self.reused = self.restarted = 0
        self._window_ns = window_ns
        self._pieces: list[pl.DataFrame] = []
        self._has_numeric_ids = False
        self._newest = pl.DataFrame(schema=_NEWEST_SCHEMA)

    def split(self, ticks: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (new ticks, duplicates) of TICK_SCHEMA, both in their original order, and remember the new ticks."""
        if ticks["id"].null_count() == ticks["id_text"].null_count() == ticks.height:
            return ticks, ticks.clear()
        keyed = _with_keys(ticks).join(self._newest, on="instrument", how="left", maintain_order="left")
        restarted = keyed.filter((pl.col("id") < pl.col("last_id")) & (pl.col("time_ns") > pl.col("newest_ns")))
        self.restarted += restarted["instrument"].n_unique()
        repeated, reused = self._find_repeats(keyed)
        self.reused += reused
        self._remember(keyed.filter(~repeated) if repeated.any() else keyed)
        if not repeated.any():
            return ticks, ticks.clear()
        return ticks.filter(~repeated), ticks.filter(repeated)

    def remember(self, accepted: Iterable[pl.DataFrame]) -> None:
        """Remember ticks (TICK_SCHEMA) that are already in the log, for example after a restart."""
        for ticks in accepted:
            self._has_numeric_ids |= ticks["id"].null_count() < ticks.height
            self._remember(_with_keys(ticks))

    def _remember(self, keyed: pl.DataFrame) -> None:
        piece = keyed.filter(pl.col("key").is_not_null())
        self._pieces.append(piece.select(_KEPT_COLUMNS))
        newest = piece.select("instrument", newest_id="id", newest_ns="time_ns", last_id="id")
        self._newest = (
            pl.concat([self._newest, newest])
            .group_by("instrument")
            .agg(pl.max("newest_id"), pl.max("newest_ns"), pl.col("last_id").sort_by("newest_ns").last())
        )
        if len(self._pieces) > _MAX_PIECES:
            self._forget()

    def _find_repeats(self, keyed: pl.DataFrame) -> tuple[pl.Series, int]:
        """Return a mask of the duplicate rows, and how many of the other rows have an id that was seen before."""
        has_key = pl.col("key").is_not_null()
        is_seen = keyed.select(has_key & ~pl.struct("instrument", "key").is_first_distinct()).to_series()
        repeated = pl.repeat(False, keyed.height, dtype=pl.Boolean, eager=True)
        if is_seen.any():
            candidates = keyed.filter(pl.col("key").is_in(keyed.filter(is_seen)["key"].unique().implode()))
            repeats = candidates.filter(~pl.struct(_KEPT_COLUMNS).is_first_distinct())
            repeated = keyed["row"].is_in(repeats["row"].implode())
        suspects = self._suspects(keyed)
        if suspects.height:
            keys = suspects["key"].unique()
            earlier = self._remembered(keys)
            is_seen |= keyed["row"].is_in(suspects.join(earlier, on=["instrument", "key"], how="semi")["row"].implode())
            repeated |= keyed["row"].is_in(_matching(suspects, earlier).implode())
        texts = suspects.filter(pl.col("id").is_null())
        if self._has_numeric_ids and texts.height:
            # Versions before 0.2 stored a number for each text id; ticks in the window before an update still have
            # these.
            numbers = texts.with_columns(pl.col("key").map_elements(lambda text: str(id_of(text)), pl.String))
            repeated |= keyed["row"].is_in(_matching(numbers, self._remembered(numbers["key"].unique())).implode())
        return repeated, int((is_seen & ~repeated).sum())

    def _remembered(self, keys: pl.Series) -> pl.DataFrame:
        """Return the remembered ticks that have any of these ids."""
        return pl.concat(piece.filter(pl.col("key").is_in(keys.implode())) for piece in self._pieces)

    def _suspects(self, keyed: pl.DataFrame) -> pl.DataFrame:
        """Return the rows whose id may have been seen before this batch."""
        if not self._pieces:
            return keyed.clear()
        above = (pl.col("id") > pl.col("newest_id")).fill_null(False)
        return keyed.filter(pl.col("key").is_not_null() & ~above)

    def _forget(self) -> None:
        joined = pl.concat(self._pieces).join(self._newest.select("instrument", "newest_ns"), on="instrument")
        in_window = pl.col("time_ns") > pl.col("newest_ns") - self._window_ns
        self._pieces = [joined.filter(in_window).select(_KEPT_COLUMNS)]


def _with_keys(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return the columns to compare: `key` is the id as text; `id` is the number, if ids rise per instrument."""
    return ticks.select(
        "instrument",
        "price_open",
        "price_close",
        "time_ns",
        "id",
        pl.col("volume").fill_null(_NO_VOLUME),
        key=pl.coalesce("id_text", pl.col("id").cast(pl.String)),
    ).with_row_index("row")


def _matching(suspects: pl.DataFrame, earlier: pl.DataFrame) -> pl.Series:
    """Return the row numbers of ticks whose id and content were seen before at a matching time."""
    right = earlier.select(*_COMPARED_COLUMNS, "time_ns", past_ns="time_ns").sort("time_ns")
    nearest = suspects.sort("time_ns").join_asof(
        right, on="time_ns", by=_COMPARED_COLUMNS, strategy="nearest", check_sortedness=False
    )
    time, past = pl.col("time_ns"), pl.col("past_ns")
    difference_ns = (time - past).abs()
    is_close = [(difference_ns < step) & ((time % step == 0) | (past % step == 0)) for step in _PRECISIONS_NS]
    return nearest.filter(((time == past) | pl.any_horizontal(is_close)).fill_null(False))["row"]
