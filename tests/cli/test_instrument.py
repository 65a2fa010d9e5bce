"""`barmill instrument`: what it prints, what it changes, and what it refuses."""

import io
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from barmill.audit.roles import Actor
from barmill.audit.trail import Search, search
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.instruments.selection import InstrumentSelection
from barmill.ingest.instruments.store import Instruments
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from cli import main
from tests.support.instrument import Said
from tests.support.instrument_selection import Offering
from tests.support.stores import Stores

OFFERED = [
    CatalogueEntry("AAA/USD", "Alpha Works", 2, True),
    CatalogueEntry("BBB", "Beta", 4, False),
    CatalogueEntry("CCC", "Gamma Works"),
]


@pytest.fixture
def instruments(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instruments]:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    with Instruments.open(home) as opened:
        opened.save_catalogue("market", OFFERED, None)
        yield opened


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    code = main.main(["instrument", *arguments])
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_the_list_as_json_is_exactly_this(
    home: Home, instruments: Instruments, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = time.time_ns() // 1_000_000
    stores = Stores(home)
    stores.write([(now_ms - 2_000 + 10 * n, "AAA/USD", 10 + n / 4, 1.0) for n in range(100)], closed_to_ms=now_ms)
    stores.close()
    assert say(capsys, "disable", "BBB").code == 0
    listed = say(capsys, "list", "--json")
    assert (listed.code, listed.err) == (0, "")
    rate = listed.json[0].pop("ticks_per_s")
    assert 100 / 62 < rate < 100 / 59
    assert listed.json[0] == {
        "provider": "market",
        "instrument": "AAA/USD",
        "description": "Alpha Works",
        "enabled": True,
        "last_tick_ms": now_ms - 1_010,
        "last_price": 34.75,
        "ticks_per_s": rate,
        "stale": False,
    }
    assert [(listing["instrument"], listing["enabled"], listing["last_tick_ms"]) for listing in listed.json[1:]] == [
        ("BBB", False, None),
        ("CCC", True, None),
    ]
    assert instruments.enabled_names("market") == frozenset({"AAA/USD", "CCC"})


@pytest.mark.usefixtures("instruments")
def test_the_list_can_be_narrowed(capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "disable", "BBB")

    def names(*arguments: str) -> list[str]:
        return [listing["instrument"] for listing in say(capsys, "list", "--json", *arguments).json]

    assert names("--search", "works") == ["AAA/USD", "CCC"]
    assert names("--enabled") == ["AAA/USD", "CCC"]
    assert names("--disabled") == ["BBB"]
    assert names("--search", "usd works", "--enabled") == ["AAA/USD"]
    assert names("--search", "nothing like it") == []


@pytest.mark.usefixtures("instruments")
def test_the_list_as_text_says_how_old_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "disable", "BBB")
    listed = say(capsys, "list")
    first, second, _, empty, about = listed.out.splitlines()
    assert first.split() == ["AAA/USD", "enabled", "-", "-", "0.00/s", "Alpha", "Works"]
    assert second.split()[:2] == ["BBB", "disabled"]
    assert empty == ""
    assert about.startswith("2 of 3 instruments of market are enabled; the catalogue was fetched 0.")


def test_several_names_are_reported_one_by_one(instruments: Instruments, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "disable", "AAA/USD", "bbb").out == "AAA/USD: disabled\nBBB: disabled\n"
    again = say(capsys, "disable", "BBB", "CCC", "ccc")
    assert (again.code, again.out) == (0, "BBB: already disabled\nCCC: disabled\nCCC: duplicate\n")
    assert instruments.enabled_names("market") == frozenset()
    assert say(capsys, "enable", "CCC").out == "CCC: enabled\n"
    assert instruments.enabled_names("market") == frozenset({"CCC"})


def test_a_list_on_standard_input_is_reported_line_by_line(
    instruments: Instruments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "BBB\n\nCCC, AAA/USD\nbbb\n")
    said = say(capsys, "disable", "-")
    assert said.out.splitlines() == [
        "line 1: BBB: disabled",
        "line 3: CCC: disabled",
        "line 3: AAA/USD: disabled",
        "line 4: BBB: duplicate",
    ]
    assert instruments.enabled_names("market") == frozenset()


def test_one_unknown_name_stops_all_and_is_named(
    instruments: Instruments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "BBB\nNOPE\n" + "x" * 65 + "\n")
    said = say(capsys, "disable", "-")
    assert said.code == 1
    assert said.out == f"line 2: NOPE: unknown\nline 3: {'x' * 64!r}: not a name\n"
    assert said.err.startswith("barmill: 'NOPE', 'xxx")
    assert said.err.endswith("so nothing was changed; see ./barmill instrument list.\n")
    assert said.err.count("\n") == 1
    assert instruments.enabled_names("market") is None


def test_the_known_ones_are_done_when_that_is_enough(
    instruments: Instruments, capsys: pytest.CaptureFixture[str]
) -> None:
    said = say(capsys, "disable", "BBB", "NOPE", "--partial")
    assert (said.code, said.out) == (1, "BBB: disabled\nNOPE: unknown\n")
    assert said.err == (
        "barmill: Some names are not instruments of market, so only the other names were applied (1 disabled, 1"
        " unknown); correct them, or see ./barmill instrument list.\n"
    )
    assert instruments.enabled_names("market") == frozenset({"AAA/USD", "CCC"})


@pytest.mark.parametrize(("more", "done"), [((), False), (("--partial",), True)])
@pytest.mark.usefixtures("instruments")
def test_the_report_as_json_says_what_was_done(
    capsys: pytest.CaptureFixture[str], more: tuple[str, ...], done: bool
) -> None:
    said = say(capsys, "disable", "BBB", "NOPE", "--json", *more)
    assert said.code == 1
    assert said.json == [
        {"line": 1, "name": "BBB", "instrument": "BBB", "outcome": "disabled", "done": done},
        {"line": 2, "name": "NOPE", "instrument": None, "outcome": "unknown", "done": False},
    ]


def test_the_system_user_is_on_record(instruments: Instruments, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "disable", "BBB")
    (record,) = search(instruments.db, Search())
    assert (record.actor, record.action) == (Actor.at_command_line().name, "instrument.disable")


def test_a_refresh_waits_for_the_feed(home: Home, instruments: Instruments, capsys: pytest.CaptureFixture[str]) -> None:
    source, stop = Offering(["DDD"]), threading.Event()
    with Instruments.open(home) as own, InstrumentSelection(own, "market").follow(source, stop):
        listed = say(capsys, "list", "--refresh", "--json")
        assert [listing["instrument"] for listing in listed.json] == ["DDD"]
        source.problem = "The market cannot be reached."
        failed = say(capsys, "list", "--refresh", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == (
        "barmill: The catalogue could not be fetched, so the old one is kept: The market cannot be reached.\n"
    )
    assert [instrument.instrument for instrument in instruments.catalogue("market")] == ["DDD"]


@pytest.mark.usefixtures("instruments")
def test_a_refresh_that_nobody_answers_says_where_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.instrument._REFRESH_TIMEOUT_S", 0.2)
    said = say(capsys, "list", "--refresh")
    assert said.code == 1
    assert "./barmill status shows whether it runs" in said.err


@pytest.mark.usefixtures("instruments")
def test_of_files_there_is_nothing_to_pick(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (home.root / FeedSettings.file_name).write_text('{"provider": "replay", "files": ["prices.csv"]}')
    stores = Stores(home, "replay")
    stores.write([(1_764_072_000_000, "FROM FILE", 5.0, None)], closed_to_ms=1_764_072_001_000)
    stores.close()
    listed = say(capsys, "list")
    assert listed.out.startswith("FROM FILE  enabled  5  ")
    assert listed.out.splitlines()[-1].startswith("The feed replay delivers everything its files hold;")
    refused = say(capsys, "disable", "FROM FILE")
    assert refused.code == 1
    assert "so instruments cannot be enabled or disabled" in refused.err
    assert say(capsys, "list", "--refresh").code == 1
    assert [listing["instrument"] for listing in say(capsys, "list", "--provider", "market", "--json").json][:1] == [
        "AAA/USD"
    ]


def test_an_empty_home_says_what_to_do(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    assert say(capsys, "list", "--json").json == []
    listed = say(capsys, "list")
    assert (listed.code, listed.out) == (
        0,
        "The catalogue of market has not been fetched yet: start Barmill with ./barmill up, which fetches it.\n",
    )
    refused = say(capsys, "enable", "AAA/USD")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("barmill: The catalogue of market has not been fetched yet; start Barmill")


@pytest.mark.usefixtures("instruments")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--provider", "elsewhere"), "There is no feed 'elsewhere'; this home"),
        (("enable", "-", "BBB"), "do not give other names"),
        (("enable", "-"), "Standard input holds no names"),
        (("enable", " "), "No instruments are named; name at least one."),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "\n")
    refused = say(capsys, *arguments)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert said in refused.err


@pytest.mark.parametrize("arguments", [[], ["list", "--enabled", "--disabled"], ["enable"], ["drop", "X"]])
def test_a_command_line_nobody_understands_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["instrument", *arguments])
    assert ended.value.code == 2
