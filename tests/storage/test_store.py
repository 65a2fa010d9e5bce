"""The bar store: what readers have seen is never taken back, and publishing twice changes nothing."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from barmill.model.bar import BAR_VALUES
from barmill.model.frames import Frame
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarQuery, BarReader
from tests.support.store import PROGRESS


def bar(ticks: int, state: str, close: float = 1.0, start_ms: int = 0) -> pl.DataFrame:
    row = (
        "A",
        "1s",
        start_ms,
        start_ms + 1_000,
        1.0,
        2.0,
        0.5,
        close,
        None,
        None,
        ticks,
        start_ms,
        start_ms + 999,
        state,
    )
    return pl.DataFrame([row], {**BAR_VALUES, "state": pl.String()}, orient="row")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bars.sqlite"


def publish(path: Path, *bars: pl.DataFrame) -> list[tuple[int, str, int, float]]:
    """Publish one after the other and return (ticks, state, revision, close) of what is stored."""
    store = BarStore.open(path)
    for bar in bars:
        store.publish(PROGRESS, bar)
    store.close()
    return BarReader.open(path).bars("A", "1s").select("ticks", "state", "revision", "close").rows()


def test_a_forming_bar_grows_and_closes(path: Path) -> None:
    assert publish(path, bar(1, "forming"), bar(2, "forming", 3.0), bar(2, "closed", 3.0)) == [(2, "closed", 0, 3.0)]


def test_a_change_after_closing_is_a_revision_and_the_old_version_is_kept(path: Path) -> None:
    assert publish(path, bar(1, "closed", 1.0), bar(2, "closed", 2.0), bar(3, "closed", 3.0)) == [
        (3, "revised", 2, 3.0)
    ]
    kept = BarReader.open(path).revisions("A", "1s", 0)
    assert kept.select("ticks", "state", "revision", "close").rows() == [(1, "closed", 0, 1.0), (2, "revised", 1, 2.0)]


def test_publishing_again_after_a_restart_changes_nothing(path: Path) -> None:
    before = publish(path, bar(1, "forming"), bar(2, "closed"), bar(3, "closed"))
    changed_ms = BarReader.open(path).bars("A", "1s")["changed_ms"].to_list()
    # The job went back to its checkpoint and publishes all of it once more.
    assert publish(path, bar(1, "forming"), bar(2, "closed"), bar(3, "closed")) == before == [(3, "revised", 1, 1.0)]
    assert BarReader.open(path).bars("A", "1s")["changed_ms"].to_list() == changed_ms
    assert BarReader.open(path).revisions("A", "1s", 0).height == 1


def test_closed_does_not_go_back_to_forming(path: Path) -> None:
    assert publish(path, bar(2, "closed"), bar(3, "forming")) == [(3, "revised", 1, 1.0)]


def test_bars_can_be_read_as_they_were_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at_ms, rows in (
        (10_000, bar(1, "closed", 1.0)),
        (20_000, bar(2, "closed", 2.0)),
        (30_000, bar(3, "closed", 3.0)),
    ):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        publish(path, rows)
    reader = BarReader.open(path)
    known = {
        at: reader.read(BarQuery("A", Frame(1_000), as_of_ms=at))["close"].to_list()
        for at in (9_999, 10_000, 19_999, 20_000, 29_999, 30_000)
    }
    assert known == {9_999: [], 10_000: [1.0], 19_999: [1.0], 20_000: [2.0], 29_999: [2.0], 30_000: [3.0]}


def test_a_failed_publication_leaves_nothing_behind(path: Path) -> None:
    store = BarStore.open(path)
    broken = bar(1, "closed").with_columns(ticks=pl.lit(2**62, pl.Int64))
    with pytest.raises(OverflowError):
        store.publish(replace(PROGRESS, next_sequence=2**70), broken)
    assert BarReader.open(path).bars("A", "1s").height == 0


def test_instruments_frames_and_ranges_are_found(path: Path) -> None:
    publish(path, *(bar(1, "closed", start_ms=at) for at in (0, 1_000, 2_000, 3_000)))
    publish(path, bar(1, "closed").with_columns(instrument=pl.lit("B"), frame=pl.lit("1m")))
    reader = BarReader.open(path)
    assert reader.instruments() == ["A", "B"]
    assert reader.frames("B") == ["1m"]
    assert reader.bars("A", "1s", 1_000, 3_000)["start_ms"].to_list() == [1_000, 2_000]
    assert reader.newest("A", "1s", 2)["start_ms"].to_list() == [2_000, 3_000]
    assert reader.totals() == {"1s": (4, 4), "1m": (1, 1)}
