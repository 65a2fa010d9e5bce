"""Catalogues and picks: what is wanted, who may change it, and what is on record of it."""

import json
import sqlite3
from collections.abc import Iterator

import pytest

from barmill.audit.roles import Actor
from barmill.audit.trail import Record, Search, search
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.instruments.changes import change_selection, request_refresh
from barmill.ingest.instruments.names import (
    NoCatalogueError,
    NotSelectableError,
    Outcome,
    UnknownInstrumentsError,
    parse_names,
)
from barmill.ingest.instruments.store import CatalogueState, Instruments
from barmill.platform.errors import AuditError, ControlError, NotAllowedError
from barmill.platform.home import Home

ADA = Actor("ada")
OFFERED = [CatalogueEntry("AAA/USD", "Alpha", 2, True), CatalogueEntry("BBB", "Beta", 4, False), CatalogueEntry("CCC")]
NAMES = frozenset(listed.instrument for listed in OFFERED)


@pytest.fixture
def instruments(home: Home) -> Iterator[Instruments]:
    with Instruments.open(home) as opened:
        opened.save_catalogue("market", OFFERED, None)
        yield opened


def change(instruments: Instruments, text: str, *, enable: bool, partial: bool = False) -> list[Outcome]:
    report = change_selection(instruments, ADA, "market", parse_names(text), enable=enable, partial=partial)
    return [line.outcome for line in report]


def enabled(instruments: Instruments) -> dict[str, bool]:
    return {instrument.instrument: instrument.enabled for instrument in instruments.catalogue("market")}


def trail(instruments: Instruments) -> list[Record]:
    return search(instruments.db, Search())[::-1]


def test_at_first_everything_of_the_market_is_wanted_whatever_it_is(home: Home, instruments: Instruments) -> None:
    assert instruments.enabled_names("market") is None
    assert enabled(instruments) == dict.fromkeys(NAMES, True)
    with Instruments.open(Home(home.root / "new")) as new:
        assert new.enabled_names("market") is None
        assert new.catalogue("market") == []
        assert new.state("market") == CatalogueState()


def test_what_is_disabled_is_not_wanted_until_it_is_enabled_again(instruments: Instruments) -> None:
    assert change(instruments, "BBB", enable=False) == [Outcome.DISABLED]
    assert instruments.enabled_names("market") == NAMES - {"BBB"}
    assert change(instruments, "BBB", enable=False) == [Outcome.ALREADY_DISABLED]
    assert change(instruments, "BBB", enable=True) == [Outcome.ENABLED]
    assert instruments.enabled_names("market") is None


def test_nothing_at_all_may_be_wanted(instruments: Instruments) -> None:
    change(instruments, "AAA/USD\nBBB\nCCC", enable=False)
    assert instruments.enabled_names("market") == frozenset()


def test_a_new_catalogue_keeps_picks_and_brings_new_instruments_enabled(instruments: Instruments) -> None:
    change(instruments, "BBB", enable=False)
    instruments.save_catalogue("market", [CatalogueEntry("AAA/USD"), CatalogueEntry("DDD")], None)
    assert instruments.enabled_names("market") is None  # what was dropped is not offered any more
    instruments.save_catalogue("market", [*OFFERED, CatalogueEntry("DDD")], None)
    assert instruments.enabled_names("market") == frozenset({"AAA/USD", "CCC", "DDD"})


def test_of_another_provider_only_what_was_picked_is_wanted(instruments: Instruments) -> None:
    instruments.save_catalogue("elsewhere", OFFERED, None)
    assert instruments.enabled_names("elsewhere") == frozenset()
    change_selection(instruments, ADA, "elsewhere", [(1, "CCC")], enable=True)
    assert instruments.enabled_names("elsewhere") == frozenset({"CCC"})
    assert instruments.enabled_names("market") is None


def test_one_unknown_name_stops_all_of_them(instruments: Instruments) -> None:
    with pytest.raises(UnknownInstrumentsError, match=r"'NOPE' is not an instrument of market, so nothing") as refused:
        change(instruments, "AAA/USD\nNOPE\nBBB", enable=False)
    assert [line.outcome for line in refused.value.report] == [Outcome.DISABLED, Outcome.UNKNOWN, Outcome.DISABLED]
    assert enabled(instruments) == dict.fromkeys(NAMES, True)
    (record,) = trail(instruments)
    assert (record.stage, record.action, record.before) == ("refused", "instrument.disable", None)


def test_unless_the_known_ones_are_enough(instruments: Instruments) -> None:
    outcomes = change(instruments, "AAA/USD\nNOPE\nBBB", enable=False, partial=True)
    assert outcomes == [Outcome.DISABLED, Outcome.UNKNOWN, Outcome.DISABLED]
    assert instruments.enabled_names("market") == frozenset({"CCC"})


def test_many_unknown_names_are_counted(instruments: Instruments) -> None:
    with pytest.raises(UnknownInstrumentsError, match=r"'p', 'q', 'r' and 2 more are not instruments of market"):
        change(instruments, "p,q,r,s,t", enable=True)


def test_what_changed_is_on_record_from_what_to_what(instruments: Instruments) -> None:
    change(instruments, "BBB", enable=False)
    change(instruments, "bbb, CCC", enable=False)
    record, two = trail(instruments)
    assert (record.actor, record.action, record.subject, record.stage) == (
        "ada",
        "instrument.disable",
        "BBB",
        "executed",
    )
    assert json.loads(str(record.before)) == {"provider": "market", "enabled": ["BBB"]}
    assert json.loads(str(record.after)) == {"provider": "market", "disabled": ["BBB"]}
    assert (two.subject, two.result) == ("2 names", "1 disabled, 1 already disabled")
    assert json.loads(str(two.after)) == {"provider": "market", "disabled": ["CCC"]}


def test_without_a_record_nothing_is_picked(instruments: Instruments) -> None:
    instruments.db.conn.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(AuditError, match="nothing was done"):
        change(instruments, "BBB", enable=False)
    assert instruments.enabled_names("market") is None


@pytest.mark.parametrize(("role", "may"), [("admin", True), ("operator", False), ("trader", False)])
def test_who_may_pick(instruments: Instruments, role: str, may: bool) -> None:
    columns = "name, role, password_hash, disabled, created_ms"
    instruments.db.conn.execute(f"INSERT INTO accounts ({columns}) VALUES ('eve', ?, '', 0, 1)", (role,))
    instruments.db.conn.commit()
    eve = Actor.of_account("eve")
    if may:
        change_selection(instruments, eve, "market", [(1, "BBB")], enable=False)
        request_refresh(instruments, eve, "market")
        assert instruments.state("market").requested_ms is not None
        return
    with pytest.raises(NotAllowedError, match="may not enable and disable instruments"):
        change_selection(instruments, eve, "market", [(1, "BBB")], enable=False)
    with pytest.raises(NotAllowedError):
        request_refresh(instruments, eve, "market")
    assert instruments.enabled_names("market") is None
    assert instruments.state("market").requested_ms is None


def test_files_are_not_picked_from(instruments: Instruments) -> None:
    assert instruments.enabled_names("replay") is None
    for act in (
        lambda: change_selection(instruments, ADA, "replay", [(1, "AAA/USD")], enable=False),
        lambda: request_refresh(instruments, ADA, "replay"),
    ):
        with pytest.raises(NotSelectableError, match="everything its files hold"):
            act()


def test_without_a_catalogue_there_is_nothing_to_pick_from(instruments: Instruments) -> None:
    with pytest.raises(NoCatalogueError, match="has not been fetched yet"):
        change_selection(instruments, ADA, "elsewhere", [(1, "AAA/USD")], enable=True)
    with pytest.raises(ControlError, match="No instruments are named"):
        change_selection(instruments, ADA, "market", [], enable=True)


def test_a_request_is_issued_once_and_answered_under_its_trace(instruments: Instruments) -> None:
    asked = request_refresh(instruments, ADA, "market")
    assert request_refresh(instruments, ADA, "market") == asked
    instruments.save_catalogue("market", OFFERED[:1], asked.trace_id)
    state = instruments.state("market")
    assert (state.requested_ms, state.trace_id, state.problem) == (None, None, "")
    issued, again, done = trail(instruments)
    assert [(record.stage, record.actor) for record in (issued, again, done)] == [
        ("issued", "ada"),
        ("executed", "ada"),
        ("executed", "feed"),
    ]
    assert issued.trace_id == done.trace_id == asked.trace_id
    assert done.result == "instruments in the catalogue: 1"


def test_a_fetch_that_failed_keeps_the_old_catalogue_and_says_why(instruments: Instruments) -> None:
    fetched_ms = instruments.state("market").fetched_ms
    asked = request_refresh(instruments, ADA, "market")
    instruments.save_problem("market", "The market cannot be reached.", asked.trace_id)
    state = instruments.state("market")
    assert (state.fetched_ms, state.problem, state.requested_ms) == (fetched_ms, "The market cannot be reached.", None)
    assert [instrument.instrument for instrument in instruments.catalogue("market")] == sorted(NAMES)
    assert [(record.stage, record.result) for record in trail(instruments)][1:] == [
        ("failed", "The market cannot be reached.")
    ]


def test_a_request_that_came_in_during_a_fetch_stays(instruments: Instruments) -> None:
    asked = request_refresh(instruments, ADA, "market")
    instruments.save_catalogue("market", OFFERED, None)
    assert instruments.state("market").trace_id == asked.trace_id


@pytest.mark.usefixtures("instruments")
def test_a_reader_can_change_nothing(home: Home) -> None:
    with Instruments.read_only(home) as reader:
        assert len(reader.catalogue("market")) == len(NAMES)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.save_problem("market", "x", None)
