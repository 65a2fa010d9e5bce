"""Helpers of test_verification.py that other tests use too."""

from barmill.storage.verification import Verdict, verify
from tests.support.histories import History


def beside(history: History, *, minutes: int) -> Verdict:
    """Let a job of 5s and 5m run for the first half of so many minutes, and another one of 1s and 1m all the time."""
    history.create("bars", "1s,1m")
    history.create("fives", "5s,5m")
    history.start("bars")
    history.start("fives")
    for minute in range(minutes):
        history.arrive([(minute * 60_000 + at, "A", 1.0 + minute, 1.0) for at in (0, 31_000)])
        history.poll("bars")
        if minute < minutes // 2:
            history.poll("fives")
    return verify(history.folder / "ticks.sqlite", history.folder / "bars.sqlite", lambda _: None)


def silent_for(history: History, job: str, ms: int) -> None:
    with history.store.db.atomic():
        history.store.db.conn.execute("UPDATE coverage SET updated_ms = updated_ms - ? WHERE job = ?", (ms, job))
