"""What the feed knows of picks and catalogue, look by look."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from control.home import Home
from control.instruments.picks import pick, request_refresh
from control.instruments.store import Instruments
from control.people.roles import Actor
from control.waiting import wait_until
from feed import wanted as wanted_module
from feed.provider import Batch, Listed, ProviderError
from feed.wanted import Wanted

ADA = Actor("ada")


@dataclass
class Offering:
    """A provider that only has a catalogue, or a reason why not."""

    offers: list[str] = field(default_factory=lambda: ["AAA", "BBB"])
    problem: str = ""
    asked: int = 0
    name: str = "market"
    live: bool = True

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        return iter(())

    def catalogue(self) -> Sequence[Listed]:
        self.asked += 1
        if self.problem:
            raise ProviderError(self.problem)
        return [Listed(name) for name in self.offers]


@pytest.fixture
def people(home: Home) -> Iterator[Instruments]:
    """The store as pages and commands open it, beside the feed's own connection."""
    with Instruments.open(home) as opened:
        yield opened


@pytest.fixture
def wanted(home: Home, people: Instruments) -> Iterator[Wanted]:
    people.keep_catalogue("market", [Listed("AAA"), Listed("BBB")], None)
    with Instruments.open(home) as own:
        yield Wanted(own, "market")


def test_a_pick_is_seen_at_the_next_look(wanted: Wanted, people: Instruments) -> None:
    source = Offering()
    wanted.look(source)
    assert wanted.names() is None
    pick(people, ADA, "market", [(1, "AAA")], enable=False)
    assert wanted.names() is None
    wanted.look(source)
    assert wanted.names() == frozenset({"BBB"})
    assert source.asked == 1


def test_what_was_disabled_before_the_start_is_never_wanted(home: Home, people: Instruments) -> None:
    people.keep_catalogue("market", [Listed("AAA"), Listed("BBB")], None)
    pick(people, ADA, "market", [(1, "AAA"), (2, "BBB")], enable=False)
    with Instruments.open(home) as own:
        assert Wanted(own, "market").names() == frozenset()


def test_a_look_without_any_change_reads_nothing(home: Home, people: Instruments) -> None:
    with Instruments.open(home) as own:
        wanted, source, read = Wanted(own, "market"), Offering(), list[str]()
        wanted.look(source)
        own.db.conn.set_trace_callback(read.append)
        for _ in range(5):
            wanted.look(source)
        assert read == ["PRAGMA data_version"] * 5
        pick(people, ADA, "market", [(1, "AAA")], enable=False)
        wanted.look(source)
        assert len(read) > 6


def test_the_catalogue_is_fetched_at_the_start_and_when_somebody_asks(wanted: Wanted, people: Instruments) -> None:
    source = Offering(["AAA", "BBB", "CCC"])
    for _ in range(3):
        wanted.look(source)
    assert source.asked == 1
    assert [one.instrument for one in people.catalogue("market")] == ["AAA", "BBB", "CCC"]
    request_refresh(people, ADA, "market")
    source.offers.append("DDD")
    for _ in range(3):
        wanted.look(source)
    assert source.asked == 2
    assert people.state("market").requested_ms is None
    assert len(people.catalogue("market")) == 4


def test_an_instrument_that_is_offered_no_more_is_asked_for_no_more(wanted: Wanted, people: Instruments) -> None:
    pick(people, ADA, "market", [(1, "AAA")], enable=False)
    source = Offering()
    wanted.look(source)
    assert wanted.names() == frozenset({"BBB"})
    source.offers = ["AAA", "CCC"]
    wanted.fetch_soon()
    wanted.look(source)
    assert wanted.names() == frozenset({"CCC"})


def test_a_failed_fetch_is_noted_and_tried_again_after_a_while(
    wanted: Wanted, people: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    source = Offering(problem="The market cannot be reached.")
    wanted.look(source)
    assert people.state("market").problem == "The market cannot be reached."
    assert len(people.catalogue("market")) == 2
    tried = []
    for _ in range(1_000):
        clock_s += 0.5
        before = source.asked
        wanted.look(source)
        tried += [clock_s - 100] if source.asked > before else []
    assert tried[:7] == [1, 3, 7, 15, 31, 63, 123]
    assert tried[-1] - tried[-2] == 60
    source.problem = ""
    clock_s += 60
    wanted.look(source)
    assert people.state("market").problem == ""


def test_picks_are_followed_in_the_background(wanted: Wanted, people: Instruments) -> None:
    stop = threading.Event()
    with wanted.followed(Offering(), stop):
        pick(people, ADA, "market", [(1, "AAA")], enable=False)
        assert wait_until(lambda: wanted.names() == frozenset({"BBB"}), 30)
    assert stop.is_set()


def test_a_control_database_that_cannot_be_read_changes_nothing(
    wanted: Wanted, people: Instruments, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pick(people, ADA, "market", [(1, "AAA")], enable=False)
    monkeypatch.setattr(wanted_module, "LOOK_EVERY_S", 0.02)
    asked = threading.Event()

    def broken(_self: Instruments, _provider: str) -> frozenset[str]:
        asked.set()
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as trouble:
        trouble.setattr(Instruments, "wanted", broken)
        with wanted.followed(Offering(), threading.Event()):
            assert asked.wait(30)
            trouble.undo()
            assert wait_until(lambda: wanted.names() == frozenset({"BBB"}), 30)
    assert "cannot be read now (disk I/O error)" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_feed_that_can_no_longer_follow_ends(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(_self: Instruments, _provider: str) -> frozenset[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(Instruments, "wanted", mistaken)
    stop = threading.Event()
    with wanted.followed(Offering(), stop):
        assert stop.wait(30)


def test_files_are_read_whole_and_nobody_looks(home: Home) -> None:
    source = Offering()
    with Instruments.open(home) as own:
        wanted = Wanted(own, "replay")
        with wanted.followed(source, threading.Event()):
            assert all(thread.name != "wanted" for thread in threading.enumerate())
        assert wanted.names() is None
    assert source.asked == 0
