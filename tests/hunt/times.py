"""Times of every form, with and without a zone, and texts that are nearly times."""

import random

import polars as pl

from barmill.model.tick import check
from barmill.model.tick_time import read_times
from barmill.model.time_text import read_time
from tests.hunt.result import Found
from tests.support.time_formats import (
    BEFORE_S,
    FROM_S,
    NS,
    ZONES,
    could_be_something_else,
    independent,
    local_text,
    written,
)

_CHARACTERS = "0123456789-+:.,TtDZzWUC/ []eE_\u2212"
_ROWS_AT_ONCE = 100


def times(rows: int, seed: int) -> Found:
    """Read times as a column, one by one, and where ticks are checked."""
    luck, found = random.Random(seed), Found()
    for _ in range(max(1, rows // _ROWS_AT_ONCE)):
        count = min(rows, _ROWS_AT_ONCE)
        found += luck.choice((_with_zone, _local, _nearly))(luck, count)
    return found


def _with_zone(luck: random.Random, count: int) -> Found:
    made = [(written(luck, time_ns), time_ns) for time_ns in (_time_ns(luck) for _ in range(count))]
    right = [None if could_be_something_else(text, time_ns) else time_ns for text, time_ns in made]
    texts = [text for text, _ in made]
    checked = check(pl.DataFrame({"time": texts, "instrument": "A", "price": 1.0}), None)
    lost = count - checked.ticks.height - checked.rejects.height
    door = _different(
        [text for text, time_ns in zip(texts, right, strict=True) if time_ns is not None],
        [time_ns for time_ns in right if time_ns is not None],
        checked.ticks["time_ns"].to_list(),
    )
    return (
        Found(lost=(f"times: {lost} of {texts} are neither tick nor reject",) if lost else ())
        + door
        + _read(texts, right, "")
    )


def _local(luck: random.Random, count: int) -> Found:
    zone = luck.choice(ZONES)
    made = [local_text(_time_ns(luck), zone) for _ in range(count)]
    return _read([text for text, _ in made], [time_ns for _, time_ns in made], zone)


def _nearly(luck: random.Random, count: int) -> Found:
    texts = [_mistyped(luck) for _ in range(count)]
    one_by_one = [read_time(text) for text in texts]
    as_column = _different(texts, one_by_one, read_times(pl.Series("time", texts), "auto", "").to_list())
    wrong = []
    for text, time_ns in zip(texts, one_by_one, strict=True):
        if time_ns is None:
            continue
        right = independent(text.strip(), "auto")
        if right not in (time_ns, None) or not FROM_S <= time_ns // NS < BEFORE_S:
            wrong.append(f"time {text!r} is {time_ns}, not {right}")
    return Found(count) + as_column + Found(differences=tuple(wrong))


def _read(texts: list[str], right: list[int | None], zone: str) -> Found:
    as_column = _different(texts, right, read_times(pl.Series("time", texts), "auto", zone).to_list())
    return Found(len(texts)) + as_column + _different(texts, right, [read_time(text, "auto", zone) for text in texts])


def _different(texts: list[str], right: list[int | None] | list[int], found: list[int | None] | list[int]) -> Found:
    if len(right) != len(found):
        return Found(differences=(f"times: {len(found)} of {texts}, not {len(right)}",))
    return Found(
        differences=tuple(
            f"time {text!r} is {time_ns}, not {wanted}"
            for text, wanted, time_ns in zip(texts, right, found, strict=True)
            if wanted != time_ns
        )
    )


def _time_ns(luck: random.Random) -> int:
    second = luck.randrange(FROM_S, BEFORE_S) if luck.random() < 0.5 else luck.randrange(1_500_000_000, 1_900_000_000)
    return second * NS + luck.choice((0, luck.randrange(1_000) * 10**6, luck.randrange(NS)))


def _mistyped(luck: random.Random) -> str:
    text = written(luck, _time_ns(luck)) if luck.random() < 0.8 else ""
    for _ in range(luck.randrange(1, 4)):
        at = luck.randrange(len(text) + 1)
        text = text[:at] + "".join(luck.choices(_CHARACTERS, k=luck.randrange(3))) + text[at + luck.randrange(2) :]
    return text
