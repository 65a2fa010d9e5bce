"""Completeness: a REST feed asks a server that shows pages; what it cannot have seen must be a gap, never complete."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from barmill.ingest.providers.rest.settings import RestFeed
from tests.hunt.result import Found, compared
from tests.support.exchanges.rest_reading import Reading, reading
from tests.support.exchanges.rest_server import Asked, Reply, standing_in

_NS = 1_000_000_000
_POLLS = 5
_STEPS_NS = ((0, 1, 1_000_000, 10_000_000), (0, 0, 0, 1_000_000))
# A page since a time cannot continue behind more rows of one time than it holds.
_FEW_TIES_NS = ((0, 1, 1),)


@dataclass(frozen=True)
class Trade:
    """A trade as the server has it."""

    number: int
    instrument: str
    time_ns: int

    def row(self, with_ids: bool) -> dict[str, object]:
        ids = {"id": f"t-{self.number}"} if with_ids else {}
        return {"time": self.time_ns, "price": self.number + 1, "instrument": self.instrument, **ids}


@dataclass
class Server:
    """Has more trades at each question, of which an answer shows a page.

    way: `newest` shows the newest rows of all; `since` the oldest that are not older than asked for. lossy: how many
    polls were shown a page that leaves out trades never shown before. unclear: how many pages begin amid trades of one
    time, hold no others, or begin right after the trades shown before: what they leave out may be unknown, so gaps are
    counted.
    """

    luck: random.Random
    way: str
    page: int
    with_ids: bool
    newest_first: bool
    names: str
    steps_ns: Sequence[int]
    trades: list[Trade] = field(default_factory=list)
    shown: dict[int, Trade] = field(default_factory=dict)
    asked: int = 0
    rows: int = 0
    lossy: int = 0
    unclear: int = 0
    start_ns: int = field(default_factory=lambda: (int(time.time()) - 600) * _NS)

    def answer(self, question: Asked) -> Reply:
        """Show the page that is asked for."""
        self.asked += 1
        if self.asked <= _POLLS:
            self._trade()
        if self.way == "since":
            since_ns = int(question.query["since"])
            page = [trade for trade in self.trades if trade.time_ns >= since_ns][: self.page]
            self.unclear += len(page) == self.page and page[0].time_ns == page[-1].time_ns
        else:
            page = self.trades[-self.page :]
            before = self.trades[: -self.page]
            self.unclear += bool(before) and before[-1].time_ns == page[0].time_ns
            # A first answer has nothing to join; what is older was there before the feed.
            self.lossy += bool(self.shown) and page[0].number > max(self.shown) + 1
            self.unclear += bool(self.shown) and page[0].number == max(self.shown) + 1
        self.shown |= {trade.number: trade for trade in page}
        self.rows += len(page)
        rows = [trade.row(self.with_ids) for trade in page]
        return Reply({"d": rows[::-1] if self.newest_first else rows})

    def _trade(self) -> None:
        luck = self.luck
        for _ in range(luck.choice((1, luck.randint(1, self.page), luck.randint(1, 3 * self.page)))):
            before_ns = self.trades[-1].time_ns if self.trades else self.start_ns
            step_ns = luck.choice(self.steps_ns) if self.trades else 0
            self.trades.append(Trade(len(self.trades), luck.choice(self.names), before_ns + step_ns))


def completeness(rows: int, seed: int) -> Found:
    """Ask servers of several kinds; the rows of all answers count."""
    luck, found = random.Random(seed), Found()
    while found.rows < rows:
        found += _asked(luck)
    return found


def _asked(luck: random.Random) -> Found:
    way = luck.choice(("newest", "since"))
    server = Server(
        luck,
        way,
        page=luck.choice((5, 20, 100, 500)),
        with_ids=way == "since" or luck.random() < 0.5,
        newest_first=way == "newest" and luck.random() < 0.7,
        names=luck.choice(("A", "ABC")),
        steps_ns=luck.choice(_STEPS_NS if way == "newest" else _FEW_TIES_NS),
    )
    about = f"completeness ({server.way}, page {server.page}, ids {server.with_ids}, of {server.names})"
    with standing_in(server.answer) as there, reading(_settings(there.url, server)) as session:
        session.wait(lambda: server.asked > 2 * _POLLS and (server.way == "newest" or _has_settled(session, server)))
    return _judged(server, session, about)


def _settings(url: str, server: Server) -> RestFeed:
    query = {"since": "{since_ns}", "limit": f"{server.page}"} if server.way == "since" else {}
    rows = {"rows": "d", "time": "time", "price": "price", "instrument": "instrument", "id": "id" * server.with_ids}
    return RestFeed.model_validate(
        {"base_url": url, "rows": rows, "query": query, "period_s": 0.1, "start_back_s": 86_400}
    )


def _has_settled(reading: Reading, server: Server) -> bool:
    return sum(batch.ticks.height for batch in list(reading.batches)) >= len(server.trades) or bool(server.unclear)


def _judged(server: Server, reading: Reading, about: str) -> Found:
    wanted = server.trades if server.way == "since" else server.shown.values()
    right = [(each.time_ns, each.instrument, float(each.number + 1)) for each in wanted]
    found = compared(server.rows, about, right, [tick[:3] for tick in reading.ticks()])
    gaps = reading.states[-1].gaps if reading.states else 0
    if gaps and server.unclear and (server.way == "since" or not server.with_ids):
        found = replace(found, lost=())
    complete = sum(batch.complete_to_ms is not None for batch in reading.batches)
    if gaps < server.lossy:
        found += Found(lost=(f"{about}: {server.lossy} polls were cut off, but {gaps} gaps are counted",))
    if complete > server.asked - server.lossy:
        found += Found(lost=(f"{about}: {complete} of {server.asked} polls complete, though {server.lossy} were not",))
    if gaps and not (server.lossy or server.unclear):
        found += Found(differences=(f"{about}: {gaps} gaps are counted, but there are none",))
    return found
