"""Identity: polls that overlap and files that repeat rows bring each trade once, whatever its id is."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from barmill.ingest.files.layout import Layout
from tests.hunt.answers import Polls, feed_of
from tests.hunt.order import answer_row, file_of
from tests.hunt.result import Found, compared
from tests.hunt.trades import IDS, Made, trades
from tests.support.reading import Taken, take, taken_from

_ID = pl.coalesce(pl.col("id").cast(pl.String), "id_text")


def identity(rows: int, seed: int) -> Found:
    """Read trades by overlapping polls and by files with repeated rows; the rows of all polls count."""
    luck, found = random.Random(seed), Found()
    while found.rows < rows:
        ids = luck.choice(tuple(IDS))
        made = trades(luck, luck.randint(2, 300), ids, luck.choice(("A", "AB")))
        found += luck.choice((_by_polls, _by_file))(luck, made, ids)
    return found


def _by_polls(luck: random.Random, made: list[Made], ids: str) -> Found:
    if ids != "none" and luck.random() < 0.5:
        made = _some_late(luck, made)
    answers, end = list[list[dict[str, object]]](), 0
    newest_first = luck.random() < 0.5
    while end < len(made):
        start = max(0, end - luck.randrange(1, 60))
        if ids == "none":  # without ids, an answer must go back to before the newest tick of each instrument
            start = min([start, *(_before_newest(made[:end], name) for name in "AB")])
        end = min(len(made), end + luck.randrange(40))
        shown = sorted(made[start:end], key=lambda made_trade: made_trade.time_ns)
        rows = [answer_row(_rewritten(luck, made_trade)) for made_trade in shown]
        answers.append(rows[::-1] if newest_first else rows)
    feed = feed_of(
        order="newest_first" if newest_first else "oldest_first",
        volume="v",
        id=[f"i{part}" for part in range(max(len(frame.ids) for frame in made))],
    )
    restarts = frozenset(poll for poll in range(len(answers)) if luck.random() < 0.2)
    taken = taken_from(Polls(feed, answers, restarts))
    return _judged(made, taken, sum(map(len, answers)), f"identity of polls ({ids}, {answers})")


def _by_file(luck: random.Random, made: list[Made], ids: str) -> Found:
    in_file = [*made, *luck.choices(made, k=len(made) // 4)]
    luck.shuffle(in_file)
    layout = Layout(sources={"id": ("id", "id2") if ids == "joined" else ("id",)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(file_of([_rewritten(luck, made_trade) for made_trade in in_file]))
        taken = take(path, layout)
    right = in_file if ids == "none" else made
    return _judged(right, taken, len(in_file), f"identity in a file ({ids})")


def _judged(right: Sequence[Made], taken: Taken, rows: int, about: str) -> Found:
    wanted = (
        (made_trade.time_ns, made_trade.instrument, float(made_trade.price), made_trade.id_text) for made_trade in right
    )
    found = compared(rows, about, wanted, taken.ticks.select("time_ns", "instrument", "price_open", _ID).rows())
    kept = taken.ticks.height + taken.rejects.height
    return found + Found(lost=() if taken.read == kept else (f"{about}: {taken.read} read, {kept} kept",))


def _some_late(luck: random.Random, made: list[Made]) -> list[Made]:
    """Let some trades be reported late, within the two seconds that a feed looks back."""
    return [
        replace(frame, time_ns=frame.time_ns - luck.randrange(1_500) * 10**6) if luck.random() < 0.2 else frame
        for frame in made
    ]


def _before_newest(made: Sequence[Made], name: str) -> int:
    """Return the place of a trade that is older than the newest of this instrument, len(made) where there is none."""
    newest_ns = max((frame.time_ns for frame in made if frame.instrument == name), default=None)
    if newest_ns is None:
        return len(made)
    return max(0, next(at for at, made_trade in enumerate(made) if made_trade.time_ns == newest_ns) - 1)


def _rewritten(luck: random.Random, made_trade: Made) -> Made:
    """Write a whole number as text or the other way round, which is the same id."""
    if len(made_trade.ids) == 1 and luck.random() < 0.3 and str(made_trade.ids[0]).isdigit():
        text = str(made_trade.ids[0])
        return replace(
            made_trade, ids=(int(text) if str(int(text)) == text and isinstance(made_trade.ids[0], str) else text,)
        )
    return made_trade
