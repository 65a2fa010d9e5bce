"""Answers of REST feeds without a network: what becomes of each row, its order, and its identity over many polls."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from barmill.ingest.connection.http import HttpResponse
from barmill.ingest.connection.provider import Batch
from barmill.ingest.mapping.row_tables import InstrumentFilter, table
from barmill.ingest.providers.rest.request import RequestSubject, delivered_of, page_of, row_outcomes
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.model.tick import REASONS, check
from barmill.platform.clock import NS_PER_S
from barmill.platform.exact_json import text_of
from tests.hunt.result import Found, compared
from tests.support.malformed_answers import good_price, nasty_rows


def feed_of(**rows: object) -> RestFeed:
    """Return a feed with a mapping of the fields t, p and s."""
    mapping = {"rows": "d", "time": "t", "price": "p", "instrument": "s", **rows}
    return RestFeed.model_validate({"base_url": "https://feed.example", "rows": mapping})


def page_rows(feed: RestFeed, rows: Sequence[object]) -> Sequence[dict[str, object]]:
    """Return the rows of an answer as the feed reads them."""
    answer = HttpResponse("h", "application/json", json.dumps({"d": rows}).encode(), None, 0, 0.0)
    return [dict(row) for row in page_of(answer, feed, RequestSubject(())).rows]


@dataclass(frozen=True)
class Polls:
    """A provider that has read the answers of some polls. restarts: polls after which it begins again by its cursor."""

    feed: RestFeed
    answers: Sequence[Sequence[object]]
    restarts: frozenset[int] = frozenset()
    name: str = "polls"
    live: bool = False

    def catalogue(self) -> None:
        return

    def batches(self, cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        delivered, picked = delivered_of(self.feed, cursor), InstrumentFilter()
        for poll, rows in enumerate(self.answers):
            future_ns = time.time_ns() + 5 * NS_PER_S
            taken = row_outcomes(delivered, picked, page_rows(self.feed, rows), frozenset(), future_ns, None)
            rising = self.feed.rows.rising_ids
            yield Batch(table(taken.new), delivered.cursor(), broken=taken.rejects, rising_ids=rising)
            if poll in self.restarts:
                delivered = delivered_of(self.feed, delivered.cursor())


def accounts(rows: int, seed: int) -> Found:
    """Read answers with bad rows and rows of other instruments, each three times."""
    luck, found = random.Random(seed), Found()
    while found.rows < rows:
        picks = luck.choice(([], ["A"], ["A", "B"], ["A", "700"]))
        found += account_of(nasty_rows(luck, luck.randint(1, 40)), picks)
    return found


def account_of(rows: Sequence[dict[str, object]], picks: Sequence[str]) -> Found:
    """Say what is wrong with the account of an answer that comes three times."""
    feed = feed_of(id="id" if "id" in rows[0] else "")
    read, delivered, picked = page_rows(feed, rows), delivered_of(feed), InstrumentFilter()
    limit_ns = time.time_ns() + 5 * NS_PER_S
    seen, found, about = Counter[str](), Found(len(rows)), f"account of {rows} for {picks}"
    for poll in range(3):
        taken = row_outcomes(delivered, picked, read, frozenset(picks), limit_ns, None)
        checked = check(table(taken.new), limit_ns)
        settled = checked.ticks.height + checked.rejects.height + taken.duplicates + taken.held + taken.not_selected
        if settled != len(rows):
            found += Found(lost=(f"{about}: {settled} rows are accounted for",))
        if poll and (taken.new or taken.rejects.height):
            found += Found(differences=(f"{about}: the same answer brings {taken.new} again",))
        if unknown := set(checked.rejects["reason"]) - REASONS.keys():
            found += Found(differences=(f"{about}: unknown reasons {unknown}",))
        seen.update(str(Decimal(repr(price))) for price in checked.ticks["price_open"])
    wanted = [row for row in rows if not picks or text_of(row["s"]) is None or str(row["s"]) in picks]
    right = (price for row in wanted if (price := good_price(row)) is not None)
    return found + compared(0, about, right, seen.elements())
