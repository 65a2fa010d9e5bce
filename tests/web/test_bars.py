"""Bars by plain HTTP: what the address asks for, and nothing else, for those who may see prices."""

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import polars as pl
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message

from barmill.audit import roles
from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Permission, Role
from barmill.auth.settings import SignInSettings
from barmill.charts.candles import candles
from barmill.charts.studies import parse_studies, study_lines
from barmill.model.bar import BAR_SCHEMA
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_for_writing
from barmill.storage.reader import BarQuery, BarReader
from tests.support.bars import AAA, MINUTE, NOON_MS, Ask, SignedInAs, asking
from tests.support.damage import damage_pages
from tests.support.signed_in import signed_in
from tests.support.stores import Stores
from tests.web.conftest import Visit
from web import bar_requests, bars
from web.app import Health
from web.bars import BarRoutes
from web.sign_in import SignInRoutes

MINUTES = 90


@pytest.fixture
def filled(home: Home) -> Home:
    """A home with a price every half minute for an hour and a half, and one late one for the third minute."""
    stores = Stores(home)
    past = [(NOON_MS + 30_000 * step, AAA, 100 + step % 7 / 4, 2.0) for step in range(2 * MINUTES)]
    stores.write(past, closed_to_ms=NOON_MS + 60_000 * MINUTES)
    written_ms = now_ms()
    assert wait_until(lambda: now_ms() > written_ms + 1, 10)
    stores.write([(NOON_MS + 2 * 60_000 + 5_000, AAA, 120.0, 1.0)], closed_to_ms=NOON_MS + 60_000 * MINUTES)
    stores.close()
    return home


@pytest.fixture
def ask(filled: Home) -> Ask:
    return asking(filled)


@pytest.fixture
def stored(filled: Home) -> Iterator[BarReader]:
    reader = BarReader.open(filled.bars_db)
    yield reader
    reader.close()


def read_csv(answer: httpx.Response) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(answer.content), schema_overrides=BAR_SCHEMA)


def test_the_newest_bars_before_a_time_are_the_candles_message(ask: Ask, stored: BarReader) -> None:
    to_ms = NOON_MS + 80 * 60_000
    found: Any = ask("/bars.json", instrument=AAA, frame="1m", to=to_ms, count=50).json()
    bars = stored.read(BarQuery(AAA, MINUTE, to_ms=to_ms, newest=50))
    assert bars["start_ms"].to_list() == [NOON_MS + minute * 60_000 for minute in range(30, 80)]
    status, cursor = found.pop("status"), found.pop("cursor")
    assert cursor == str(stored.cursor(AAA, MINUTE))
    assert found == json.loads(json.dumps(candles(bars, AAA, MINUTE, found["read_ms"])))
    assert (status["level"], status["color"], status["job"]) == ("stopped", "red", "silent")


def test_studies_come_with_what_they_need_from_before(ask: Ask, stored: BarReader) -> None:
    text = "sma:20,ema:5,vwap,volavg:20"
    found: Any = ask("/bars.json", instrument=AAA, frame="1m", count=10, studies=text).json()
    everything = study_lines(stored.read(BarQuery(AAA, MINUTE)), parse_studies(text))
    assert [line["values"] for line in found["studies"]] == [
        pytest.approx(line.values[-10:], rel=1e-7) for line in everything
    ]
    assert [line["label"] for line in found["studies"]] == ["SMA 20", "EMA 5", "VWAP", "Volume average 20"]


def test_gaps_are_told_with_their_reason_or_filled_by_choice(ask: Ask) -> None:
    # There is a price every half minute, and no measurement says why there was none in between.
    asked = {"instrument": AAA, "frame": "1s", "to": NOON_MS + 60_001}
    gap, after = (second + NOON_MS // 1_000 for second in (1, 31))
    found: Any = ask("/bars.json", **asked).json()
    assert (found["slot"], found["state"]) == ([0, 30, 60], "ccc")
    assert found["gaps"] == [[gap, gap + 29, "unknown"], [after, after + 29, "unknown"]]
    full: Any = ask("/bars.json", **asked, fill=1).json()
    assert full["slot"] == list(range(61))
    assert full["state"] == "c" + "s" * 29 + "c" + "s" * 29 + "c"
    table = read_csv(ask("/bars.csv", **asked, fill=1))
    assert table["state"].to_list()[:3] == ["closed", "synthetic", "synthetic"]


def test_a_gap_up_to_the_oldest_bar_that_a_chart_holds_is_told(ask: Ask) -> None:
    held_ms = NOON_MS + MINUTES * 60_000 + 600_000  # ten minutes after the last bar
    found: Any = ask("/bars.json", instrument=AAA, frame="1m", to=held_ms).json()
    assert found["gaps"] == [[NOON_MS // 60_000 + MINUTES, held_ms // 60_000, "unknown"]]
    later: Any = ask("/bars.json", instrument=AAA, frame="1m", to=now_ms() + 86_400_000).json()
    assert later["gaps"] == []  # nothing is missing in what has not been yet


def test_a_time_before_every_bar_gives_none(ask: Ask) -> None:
    found: Any = ask("/bars.json", instrument=AAA, frame="1m", to=NOON_MS, studies="sma:20,vwap").json()
    assert (found["slot"], found["state"]) == ([], "")
    assert [line["values"] for line in found["studies"]] == [[], []]


def test_bars_are_given_as_they_were_known(ask: Ask, stored: BarReader) -> None:
    revised = stored.history(AAA, "1m", NOON_MS + 2 * 60_000)
    assert revised["revision"].to_list() == [0, 1]
    before_ms = revised["changed_ms"][1] - 1
    query = {"instrument": AAA, "frame": "1m", "from_": NOON_MS + 2 * 60_000, "to": NOON_MS + 3 * 60_000}
    assert read_csv(ask("/bars.csv", **query))["high"].to_list() == [120.0]
    assert read_csv(ask("/bars.csv", **query, as_of=before_ms))["high"].to_list() == [revised["high"][0]]
    assert revised["high"][0] < 120
    assert read_csv(ask("/bars.csv", **query, as_of=1)).height == 0


def test_every_version_of_a_bar_is_told_oldest_first(ask: Ask, stored: BarReader) -> None:
    found: Any = ask("/bar-history.json", instrument=AAA, frame="1m", start=NOON_MS + 2 * 60_000).json()
    assert found == stored.history(AAA, "1m", NOON_MS + 2 * 60_000).to_dicts()
    assert [version["state"] for version in found] == ["closed", "revised"]
    assert ask("/bar-history.json", instrument=AAA, frame="1m", start=5).json() == []


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_holds_the_range_exactly_and_says_so_in_its_name(ask: Ask, stored: BarReader, ending: str) -> None:
    from_ms, to_ms = NOON_MS + 600_000, NOON_MS + 1_200_000
    asked = {"instrument": AAA, "frame": "1m", "from_": from_ms, "to": to_ms}
    answer = ask(f"/bars.{ending}", **asked)
    read = pl.read_parquet if ending == "parquet" else pl.read_csv
    kept = read(io.BytesIO(answer.content))
    assert kept.rows() == stored.read(BarQuery(AAA, MINUTE, from_ms, to_ms)).rows()
    assert kept.columns == list(BAR_SCHEMA)
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="AAA-USD_1m_20251125T121000Z_20251125T122000Z.{ending}"'
    )


def test_no_instrument_is_a_formula_in_a_file() -> None:
    table = pl.DataFrame({"instrument": ['=HYPERLINK("http://evil.example")', "+1", "A-B"], "close": [-1.0, 0.1, 2.0]})
    content = bar_requests.csv_file(table.with_columns(start_ms=0, end_ms=1), BarQuery(AAA, MINUTE)).content
    rows = list(csv.reader(io.StringIO(content.decode())))
    assert [row[:2] for row in rows[1:]] == [
        ['\'=HYPERLINK("http://evil.example")', "-1.0"],
        ["'+1", "0.1"],
        ["A-B", "2.0"],
    ]


def test_each_line_of_a_study_is_a_column_of_the_file(ask: Ask) -> None:
    table = read_csv(
        ask("/bars.csv", instrument=AAA, frame="1m", studies="bb:20:2,rsi:14", from_=NOON_MS + 30 * 60_000)
    )
    assert table.columns[len(BAR_SCHEMA) :] == ["BB 20 2 upper", "BB 20 2 middle", "BB 20 2 lower", "RSI 14"]
    assert table["RSI 14"].null_count() == 0


def test_a_file_name_holds_nothing_that_a_disk_or_a_header_could_stumble_over() -> None:
    query = BarQuery('../ö"\r\nX: y', MINUTE, as_of_ms=NOON_MS)
    table = pl.DataFrame(schema=BAR_SCHEMA)
    assert bar_requests.download_name(table, query, "csv") == "..-X-y_1m_none_as-of-20251125T120000Z.csv"


def test_too_large_a_file_is_not_made(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "MAX_EXPORTED_BARS", MINUTES)
    assert ask("/bars.csv", instrument=AAA, frame="1m").status_code == 200
    monkeypatch.setattr(bars, "MAX_EXPORTED_BARS", MINUTES - 1)
    answer = ask("/bars.csv", instrument=AAA, frame="1m")
    assert (answer.status_code, answer.text) == (
        400,
        "There are more than 89 bars in this range; choose a shorter range or a longer frame, or export all of it with"
        " ./barmill bars.",
    )


@pytest.mark.parametrize(
    ("path", "changes", "sentence"),
    [
        (
            "/bars.json",
            {"instrument": ""},
            "The parameter instrument is missing; add, for example, instrument=BTC/USDT.",
        ),
        ("/bars.json", {"instrument": "ZZZ"}, "There are no bars of ZZZ."),
        (
            "/bars.json",
            {"frame": "x"},
            "'x' is not a time frame: write a whole number and one of s, m, h, d, w, such as 15m.",
        ),
        ("/bars.json", {"count": "0"}, "count=0 is not possible; request 1 to 5,000 bars."),
        ("/bars.json", {"count": "5001"}, "count=5001 is not possible; request 1 to 5,000 bars."),
        ("/bars.json", {"count": "many"}, "count=many is not a whole number."),
        ("/bars.json", {"to": "noon"}, "to=noon is not a time; write milliseconds since 1970, such as 1764072000000."),
        ("/bars.json", {"fill": "yes"}, "fill must be 1, for synthetic bars in gaps, or 0."),
        ("/bars.json", {"studies": "sma:0"}, "'0' is not valid for the length: write a whole number from 2 to 500."),
        ("/bars.csv", {"from_": 5, "to": 5}, "The range is empty; from must be earlier than to."),
        (
            "/bars.parquet",
            {"as_of": 10**15 - 1},
            "as_of=999999999999999 is not a time; write milliseconds since 1970, such as 1764072000000.",
        ),
        (
            "/bar-history.json",
            {},
            "The parameter start is missing; add start= with the start of the bar in milliseconds since 1970.",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_one_sentence(
    ask: Ask, path: str, changes: dict[str, object], sentence: str
) -> None:
    answer = ask(path, **({"instrument": AAA, "frame": "1m"} | changes))
    assert (answer.status_code, answer.text) == (400, sentence)


def test_a_frame_that_is_not_offered_is_refused(ask: Ask, filled: Home) -> None:
    db = open_for_writing(filled.bars_db)
    db.conn.execute("DELETE FROM bars WHERE frame = '1s'")
    db.conn.commit()
    db.conn.close()
    answer = ask("/bars.json", instrument=AAA, frame="90s")
    assert (answer.status_code, answer.text) == (
        400,
        "There are no 90s bars of AAA/USD; choose one of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w.",
    )


def test_a_damaged_store_is_told_of_here_and_by_health(filled: Home, ask: Ask) -> None:
    damage_pages(filled.bars_db, 0.6, 1)
    answer = ask("/bars.json", instrument=AAA, frame="1m")
    assert (answer.status_code, "run ./barmill repair" in answer.text) == (503, True)
    health = asyncio.run(Health(filled).answer(Request({"type": "http"})))
    assert (health.status_code, json.loads(bytes(health.body))["stores"]["bars"]) == (503, "damaged")


@pytest.mark.parametrize("made", [False, True])
def test_without_a_store_it_says_how_to_start(home: Home, made: bool) -> None:
    if made:
        home.bars_db.touch()
    answer = asking(home)("/bars.json", instrument=AAA, frame="1m")
    assert (answer.status_code, "./barmill up" in answer.text) == (404, True)


def test_whoever_may_not_see_prices_gets_none(ask: Ask, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roles.GRANTS, Role.TRADER, frozenset({Permission.VIEW_OPERATIONS}))
    for path in ("/bars.json", "/bar-changes.json", "/bars.csv", "/bars.parquet", "/bar-history.json"):
        asked = {"instrument": AAA, "frame": "1m", "start": NOON_MS, "after": "a.1."}
        answer = ask(path, **asked)
        assert (answer.status_code, answer.text) == (
            403,
            "This requires permission to view bars and charts; ask an admin.",
        )
        assert asking(home, Role.OPERATOR)(path, **asked).status_code == 200


def test_a_trader_with_many_requests_is_asked_to_wait_and_keeps_nobody_else_waiting(
    filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store, released = BarReader.open, Event()

    def slow(path: Path) -> BarReader:
        released.wait(60)
        return open_store(path)

    monkeypatch.setattr(BarReader, "open", slow)
    routes = [*BarRoutes(filled).routes(), Route("/healthz", Health(filled).answer)]
    app = Starlette(routes=[*routes, Route("/sign-in", SignInRoutes(filled, SignInSettings()).show_welcome)])

    async def ask(path: str, name: str = "bob") -> httpx.Response:
        transport = httpx.ASGITransport(SignedInAs(app, Role.TRADER, name))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, params={"instrument": AAA, "frame": "1m", "after": "a.1.", "token": "x"})

    async def many() -> tuple[list[httpx.Response], list[httpx.Response]]:
        with open_audited_db(filled):
            pass
        paths = ("/bars.json", "/bar-changes.json")
        asked = [asyncio.create_task(ask(paths[number % 2])) for number in range(100)]
        try:
            async with asyncio.timeout(30):
                refused = [await future for future in asyncio.as_completed(asked[32:])]
                others = [await ask("/healthz"), await ask("/sign-in")]
                eve = asyncio.create_task(ask("/bars.json", "eve"))
        finally:
            released.set()
        assert not [response.status_code for response in refused if response.status_code != 429]
        return refused, [*others, await eve, *[await task for task in asked[:32]]]

    refused, answered = asyncio.run(many())
    assert {(response.text, response.headers["retry-after"]) for response in refused} == {
        ("Too many requests for bars at once; wait a second and try again.", "1")
    }
    assert [response.status_code for response in answered] == [
        503,
        404,
        *[200] * 33,
    ]  # without Streamlit, health is not well


def test_files_that_nobody_takes_are_few_and_keep_no_chart_waiting(filled: Home) -> None:
    app = SignedInAs(Starlette(routes=BarRoutes(filled).routes()), Role.TRADER)
    query = f"instrument={AAA}&frame=1m&after=a.1.".encode()
    scope = {"type": "http", "method": "GET", "query_string": query, "headers": [], "path_params": {}}

    async def never() -> Message:
        return await asyncio.Future[Message]()

    async def many() -> tuple[list[int], int]:
        statuses, taking = list[int](), asyncio.Event()

        async def ask(path: str) -> int:
            found: list[int] = []

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    found.append(message["status"])
                    statuses.append(message["status"])
                elif path == "/bars.csv" and found != [429]:
                    await taking.wait()

            await app({**scope, "path": path, "raw_path": path.encode()}, never, send)
            return found[0]

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            asked = [group.create_task(ask("/bars.csv")) for _ in range(20)]
            while len(statuses) < 16:
                await asyncio.sleep(0)
            while_sent, chart = list(statuses), await ask("/bars.json")
            taking.set()
        assert [task.result() for task in asked] == [200] * 6 + [429] * 14
        return while_sent, chart

    sent, chart = asyncio.run(many())
    assert (sorted(sent), chart) == ([200] * 2 + [429] * 14, 200)


@pytest.mark.parametrize("role", Role)
def test_the_real_server_gives_bars_only_to_those_who_are_signed_in(
    visit: Visit, served_home: Home, role: Role
) -> None:
    path = "/bars.json?instrument=AAA/USD&frame=1m"
    assert visit(Accept="*/*", Sec_Fetch_Mode="cors").get(path).status_code == 401
    answer = visit(signed_in(served_home, role), Accept="*/*").get(path)
    assert (answer.status_code, answer.text[:21]) == (404, "There are no bars yet")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_frame_of_a_stopped_job_goes_on_with_finer_bars(home: Home) -> None:
    stores = Stores(home)
    prices = [(NOON_MS + 10_000 * n, AAA, 100.0 + n, 1.0) for n in range(200)]
    stores.write(prices[:100], closed_to_ms=NOON_MS + 1_000_000)
    stores.make_once("fives", "5s,5m", closed_to_ms=NOON_MS + 1_000_000)
    stores.write(prices[100:], closed_to_ms=NOON_MS + 2_000_000)
    stores.close()
    ask = asking(home)
    for frame in ("5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h"):
        found: Any = ask("/bars.json", instrument=AAA, frame=frame).json()
        assert (frame, found["close"][-1]) == (frame, 299.0)
        assert (frame, sum(found["volume"])) == (frame, 200.0)
    file = pl.read_csv(ask("/bars.csv", instrument=AAA, frame="5m").content)
    assert file["ticks"].to_list() == [30] * 6 + [20]
