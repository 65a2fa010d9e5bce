"""Intake of a live source: stamps from the future, and what they must not do."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from barmill.ingest.connection.provider import Batch
from barmill.ingest.intake import Intake
from barmill.storage.tick_log import TickLog

NOW_MS = 1_750_000_000_000


@dataclass(frozen=True)
class Given:
    """A source that delivers these times of one instrument, one batch each."""

    times_ms: list[int]
    live: bool = True
    name: str = "given"

    def catalogue(self) -> None:
        return

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        for number, time_ms in enumerate(self.times_ms):
            yield Batch(pl.DataFrame({"time": [time_ms], "instrument": ["A"], "price": [1.0]}), str(number))


def take(tmp_path: Path, provider: Given) -> tuple[list[int], list[str]]:
    """Return (accepted times, reasons of the rejects)."""
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        for _ in Intake(log, provider).run(threading.Event()):
            pass
        times = [ns // 1_000_000 for _, block in log.blocks() for ns in block["time_ns"]]
        return times, log.rejects()["reason"].to_list()


def test_a_live_stamp_beyond_the_tolerance_is_refused_and_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW_MS * 1_000_000)
    times = [NOW_MS - 1_000, NOW_MS + 5_001, NOW_MS + 5_000, NOW_MS + 86_400_000, NOW_MS]
    assert take(tmp_path, Given(times)) == ([NOW_MS - 1_000, NOW_MS + 5_000, NOW_MS], ["future", "future"])


def test_the_limit_moves_with_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_ms = iter(range(NOW_MS, NOW_MS + 10**9, 1_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock_ms) * 1_000_000)
    accepted, refused = take(tmp_path, Given([NOW_MS + 10_000] * 12))
    assert refused
    assert accepted
    assert len(accepted) + len(refused) == 12


def test_a_recording_has_no_future_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW_MS * 1_000_000)
    year_ms = 365 * 86_400_000
    past, ahead = [NOW_MS - year_ms, NOW_MS + year_ms, NOW_MS - year_ms + 1], [NOW_MS + year_ms, NOW_MS + 2 * year_ms]
    assert take(tmp_path / "past", Given(past, live=False)) == ([past[0], past[2]], ["future"])
    assert take(tmp_path / "ahead", Given(ahead, live=False)) == (ahead, [])
