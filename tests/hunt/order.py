"""Order: ties fall to rising ids, or else to the source's own order, whichever end of an answer or file comes first."""

import csv
import io
import random
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from operator import itemgetter
from pathlib import Path

from barmill.ingest.files.layout import Layout
from tests.hunt.answers import Polls, feed_of
from tests.hunt.bars import Trade, bar_differences
from tests.hunt.result import Found, in_order
from tests.hunt.trades import IDS, Made, trades
from tests.support.reading import Taken, take, taken_from

_FIELDS = ("time", "instrument", "price", "volume", "id", "id2")


def order(rows: int, seed: int) -> Found:
    """Read trades by answers and by files, in several orders, and fold them into bars."""
    luck, found = random.Random(seed), Found()
    while found.rows < rows:
        ids = luck.choice((*IDS, "rising", "rising"))
        made = trades(luck, luck.randint(2, 400), ids)
        found += luck.choice((_by_answer, _by_file))(luck, made, ids)
    return found


def _by_answer(luck: random.Random, made: Sequence[Made], ids: str) -> Found:
    newest_first = luck.random() < 0.5
    is_known = len({(frame.instrument, frame.time_ns) for frame in made}) > len({frame.instrument for frame in made})
    order = "auto" if is_known and luck.random() < 0.7 else "newest_first" if newest_first else "oldest_first"
    parts = max(len(frame.ids) for frame in made)
    feed = feed_of(order=order, volume="v", id=[f"i{part}" for part in range(parts)], rising_ids=ids == "rising")
    rows = [answer_row(frame) for frame in made]
    taken = taken_from(Polls(feed, [rows[::-1] if newest_first else rows]))
    return _judged(made, taken, ids, f"order of an answer ({ids}, {order}, newest first: {newest_first})")


def _by_file(luck: random.Random, made: Sequence[Made], ids: str) -> Found:
    """Write a file in the source's order, turned round, or shuffled to be sorted."""
    way = luck.choice(("as it is", "turned round", "shuffled", "sorted", "turned round and sorted"))
    in_file = list(made)
    if way in ("shuffled", "sorted"):
        luck.shuffle(in_file)
    turned = way.startswith("turned round")
    id_columns = ("id", "id2") if ids == "joined" else ("id",)
    layout = Layout(sources={"id": id_columns}, newest_first=turned, rising_ids=ids == "rising")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(file_of(in_file[::-1] if turned else in_file))
        taken = take(path, layout, by_time="sorted" in way, newest_first=turned)
    return _judged(in_file, taken, ids, f"order of a file ({ids}, {way})", sorts="sorted" in way)


def answer_row(made: Made) -> dict[str, object]:
    """Return a trade as it is in an answer."""
    ids = {f"i{part}": value for part, value in enumerate(made.ids)}
    return {"t": made.time_ns, "p": str(made.price), "s": made.instrument, "v": made.volume, **ids}


def file_of(made: Sequence[Made]) -> str:
    """Return trades as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_FIELDS)
    for frame in made:
        blanks = [""] * (2 - len(frame.ids))
        writer.writerow((frame.time_ns, frame.instrument, frame.price, frame.volume, *frame.ids, *blanks))
    return text.getvalue()


def _judged(made: Sequence[Made], taken: Taken, ids: str, about: str, *, sorts: bool = True) -> Found:
    numbered = [
        Trade(
            made_trade.time_ns,
            made_trade.instrument,
            made_trade.price,
            Decimal(made_trade.volume),
            place,
            made_trade.number if ids == "rising" else 0,
        )
        for place, made_trade in enumerate(made)
    ]
    arrived = sorted(numbered, key=lambda trade: trade.time_ns) if sorts else numbered
    # Only the order within an instrument means anything.
    right = sorted(((trade.instrument, trade.time_ns, float(trade.price)) for trade in arrived), key=itemgetter(0))
    found = sorted(taken.ticks.select("instrument", "time_ns", "price_open").rows(), key=itemgetter(0))
    problems = tuple(f"{about}: {difference}" for difference in bar_differences(numbered, taken.ticks))
    return in_order(len(made), about, right, found) + Found(differences=problems)
