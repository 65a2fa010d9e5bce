"""What the feed knows of picks and catalogue, look by look."""

import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest

from barmill.audit.roles import Actor
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.instruments import selection
from barmill.ingest.instruments.changes import change_selection, request_refresh
from barmill.ingest.instruments.selection import InstrumentSelection
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.support.instrument_selection import Offering

ADA = Actor("ada")


@pytest.fixture
def people(home: Home) -> Iterator[Instruments]:
    """The store as pages and commands open it, beside the feed's own connection."""
    with Instruments.open(home) as opened:
        yield opened


@pytest.fixture
def wanted(home: Home, people: Instruments) -> Iterator[InstrumentSelection]:
    people.save_catalogue("market", [CatalogueEntry("AAA"), CatalogueEntry("BBB")], None)
    with Instruments.open(home) as own:
        yield InstrumentSelection(own, "market")


def test_a_pick_is_seen_at_the_next_look(wanted: InstrumentSelection, people: Instruments) -> None:
    source = Offering()
    wanted.check_for_changes(source)
    assert wanted.names() is None
    change_selection(people, ADA, "market", [(1, "AAA")], enable=False)
    assert wanted.names() is None
    wanted.check_for_changes(source)
    assert wanted.names() == frozenset({"BBB"})
    assert source.asked == 1


def test_what_was_disabled_before_the_start_is_never_wanted(home: Home, people: Instruments) -> None:
    people.save_catalogue("market", [CatalogueEntry("AAA"), CatalogueEntry("BBB")], None)
    change_selection(people, ADA, "market", [(1, "AAA"), (2, "BBB")], enable=False)
    with Instruments.open(home) as own:
        assert InstrumentSelection(own, "market").names() == frozenset()


def test_a_look_without_any_change_reads_nothing(home: Home, people: Instruments) -> None:
    with Instruments.open(home) as own:
        wanted, source, read = InstrumentSelection(own, "market"), Offering(), list[str]()
        wanted.check_for_changes(source)
        own.db.conn.set_trace_callback(read.append)
        for _ in range(5):
            wanted.check_for_changes(source)
        assert read == ["PRAGMA data_version"] * 5
        change_selection(people, ADA, "market", [(1, "AAA")], enable=False)
        wanted.check_for_changes(source)
        assert len(read) > 6


def test_the_catalogue_is_fetched_at_the_start_and_when_somebody_asks(
    wanted: InstrumentSelection, people: Instruments
) -> None:
    source = Offering(["AAA", "BBB", "CCC"])
    for _ in range(3):
        wanted.check_for_changes(source)
    assert source.asked == 1
    assert [instrument.instrument for instrument in people.catalogue("market")] == ["AAA", "BBB", "CCC"]
    request_refresh(people, ADA, "market")
    source.offers.append("DDD")
    for _ in range(3):
        wanted.check_for_changes(source)
    assert source.asked == 2
    assert people.state("market").requested_ms is None
    assert len(people.catalogue("market")) == 4


def test_an_instrument_that_is_offered_no_more_is_asked_for_no_more(
    wanted: InstrumentSelection, people: Instruments
) -> None:
    change_selection(people, ADA, "market", [(1, "AAA")], enable=False)
    source = Offering()
    wanted.check_for_changes(source)
    assert wanted.names() == frozenset({"BBB"})
    source.offers = ["AAA", "CCC"]
    wanted.fetch_soon()
    wanted.check_for_changes(source)
    assert wanted.names() == frozenset({"CCC"})


def test_a_failed_fetch_is_noted_and_tried_again_after_a_while(
    wanted: InstrumentSelection, people: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    source = Offering(problem="The market cannot be reached.")
    wanted.check_for_changes(source)
    assert people.state("market").problem == "The market cannot be reached."
    assert len(people.catalogue("market")) == 2
    tried = []
    for _ in range(1_000):
        clock_s += 0.5
        before = source.asked
        wanted.check_for_changes(source)
        tried += [clock_s - 100] if source.asked > before else []
    assert tried[:7] == [1, 3, 7, 15, 31, 63, 123]
    assert tried[-1] - tried[-2] == 60
    source.problem = ""
    clock_s += 60
    wanted.check_for_changes(source)
    assert people.state("market").problem == ""


def test_picks_are_followed_in_the_background(wanted: InstrumentSelection, people: Instruments) -> None:
    stop = threading.Event()
    with wanted.follow(Offering(), stop):
        change_selection(people, ADA, "market", [(1, "AAA")], enable=False)
        assert wait_until(lambda: wanted.names() == frozenset({"BBB"}), 30)
    assert stop.is_set()


def test_a_control_database_that_cannot_be_read_changes_nothing(
    wanted: InstrumentSelection, people: Instruments, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change_selection(people, ADA, "market", [(1, "AAA")], enable=False)
    monkeypatch.setattr(selection, "CHECK_EVERY_S", 0.02)
    asked = threading.Event()

    def broken(_self: Instruments, _provider: str) -> frozenset[str]:
        asked.set()
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as trouble:
        trouble.setattr(Instruments, "enabled_names", broken)
        with wanted.follow(Offering(), threading.Event()):
            assert asked.wait(30)
            trouble.undo()
            assert wait_until(lambda: wanted.names() == frozenset({"BBB"}), 30)
    assert "cannot be read now (disk I/O error)" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_feed_that_can_no_longer_follow_ends(wanted: InstrumentSelection, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(_self: Instruments, _provider: str) -> frozenset[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(Instruments, "enabled_names", mistaken)
    stop = threading.Event()
    with wanted.follow(Offering(), stop):
        assert stop.wait(30)


def test_files_are_read_whole_and_nobody_looks(home: Home) -> None:
    source = Offering()
    with Instruments.open(home) as own:
        wanted = InstrumentSelection(own, "replay")
        with wanted.follow(source, threading.Event()):
            assert all(thread.name != "selection" for thread in threading.enumerate())
        assert wanted.names() is None
    assert source.asked == 0
