"""Longer bars made of stored ones: what the fold makes of the ticks themselves, now and as of any time."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings

from barmill.model import recompute
from barmill.model.bar import BAR_VALUES
from barmill.model.frames import Frame, parse_frame
from barmill.model.pieces import END_MS, HeldFrame, pieces
from barmill.storage.changes import Cursor
from barmill.storage.query import bars_per_read
from barmill.storage.reader import BarQuery, BarReader, FrameNotStoredError
from tests.support.fold import TICKS
from tests.support.rollup import MINUTE_MS, NAME, progress, read, seconds, stored
from tests.support.ticks import START_MS, bars_of, ticks

# Each stored vwap is rounded to 15 digits, and so is the one made of them.
VWAP_IS_OFF_BY = 2e-14


@settings(max_examples=40, deadline=None)
@given(TICKS)
def test_seconds_rolled_up_to_minutes_and_hours_are_what_the_fold_makes(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    table = ticks(*rows)
    with TemporaryDirectory() as folder:
        for finest, frames in (("1s", ("1m", "1h", "7s")), ("1m", ("1h", "15m"))):
            with closing(stored(Path(folder) / f"{finest}.sqlite", bars_of(table, finest))) as reader:
                for frame in frames:
                    made = pl.concat(
                        reader.read(BarQuery(name, parse_frame(frame))).select(BAR_VALUES.keys())
                        for name in reader.instruments()
                    )
                    assert_same(made, bars_of(table, frame))


@pytest.mark.parametrize(
    ("price", "volume", "each"),
    [(1.0, 9.9e14, 10), (1.0, 9.9e14, 10_000), (9.1e14, 1.000000000001, 3), (1.5e-8, 2e-12, 3)],
)
def test_sums_of_any_size_roll_up(tmp_path: Path, price: float, volume: float, each: int) -> None:
    table = ticks(*((second * 1_000, NAME, price, volume) for second in range(60) for _ in range(each)))
    with closing(stored(tmp_path / "bars.sqlite", bars_of(table, "1s"))) as reader:
        assert_same(read(reader, "1m").select(BAR_VALUES.keys()), bars_of(table, "1m"))
        assert read(reader, "1m")["vwap"].unique().to_list() == [price]


def assert_same(made: pl.DataFrame, folded: pl.DataFrame) -> None:
    assert made.drop("vwap").equals(folded.drop("vwap"))
    off = (made["vwap"] - folded["vwap"]).abs() <= VWAP_IS_OFF_BY * folded["vwap"]
    assert off.fill_null(True).all()
    assert made["vwap"].is_null().equals(folded["vwap"].is_null())


def test_the_longest_stored_frame_that_divides_is_used(tmp_path: Path) -> None:
    table = seconds((0, 1.0), (61, 2.0), (130, 3.0))
    minutes = bars_of(ticks((MINUTE_MS - START_MS, NAME, 9.0)), "1m")
    with closing(stored(tmp_path / "bars.sqlite", pl.concat([table, minutes]))) as reader:
        assert read(reader, "5m")["open"].to_list() == [9.0]
        assert read(reader, "30s")["open"].to_list() == [1.0, 2.0, 3.0]
        assert [frame.text for frame in reader.offered_frames(NAME)][:4] == ["1s", "5s", "15s", "30s"]
        assert Frame(86_400_000) in reader.offered_frames(NAME)
        assert reader.offered_frames("unknown") == []


def test_a_frame_that_nothing_divides_is_refused_with_what_there_is(tmp_path: Path) -> None:
    table = bars_of(ticks((0, NAME, 1.0)), "1m")
    with closing(stored(tmp_path / "bars.sqlite", table)) as reader:
        with pytest.raises(
            FrameNotStoredError, match=r"no 90s bars of A/USD, and no bars to make them from; its frames are 1m\."
        ):
            read(reader, "90s")
        assert reader.read(BarQuery("unknown", parse_frame("90s"))).height == 0
        assert reader.history(NAME, "90s", MINUTE_MS).height == 0
        ninety = parse_frame("90s")
        changed = reader.changed_since(NAME, ninety, reader.cursor(NAME, ninety), 0)
        assert changed is not None
        assert changed.bars.height == 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 60, 180]),
        ({"newest": 2}, [60, 180]),
        ({"newest": 2, "to_ms": MINUTE_MS + 180_000}, [0, 60]),
        ({"from_ms": MINUTE_MS + 1}, [60, 180]),
        ({"from_ms": MINUTE_MS + 60_000, "to_ms": MINUTE_MS + 60_001}, [60]),
        ({"to_ms": MINUTE_MS}, []),
    ],
)
def test_a_range_is_of_whole_long_bars(tmp_path: Path, asked: dict[str, int], expected: Sequence[int]) -> None:
    table = seconds(*((at, 1.0 + at) for at in (*range(0, 60, 2), 60, 119, 180, 181)))
    with closing(stored(tmp_path / "bars.sqlite", table)) as reader:
        found = read(reader, "1m", **asked)
        assert [(at - MINUTE_MS) // 1_000 for at in found["start_ms"]] == expected
        whole = bars_of(
            ticks(*((at * 1_000 + MINUTE_MS - START_MS, NAME, 1.0 + at, 1.0) for at in range(0, 60, 2))), "1m"
        )
        if 0 in expected:
            assert found.head(1).select(BAR_VALUES.keys()).equals(whole)


def test_a_long_bar_forms_until_the_jobs_have_reached_its_end(tmp_path: Path) -> None:
    path, table = tmp_path / "bars.sqlite", seconds((0, 1.0), (61, 2.0))

    def states(newest_ms: int, state: str = "closed") -> list[str]:
        with closing(stored(path, table, state, progress(newest_ms))) as reader:
            return read(reader, "1m")["state"].to_list()

    assert states(MINUTE_MS + 61_000, "forming") == ["forming", "forming"]
    assert states(MINUTE_MS + 90_000) == ["closed", "forming"]
    assert states(MINUTE_MS + 120_000) == ["closed", "closed"]


def test_a_long_bar_is_revised_with_its_short_ones_and_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bars.sqlite"
    first = seconds((0, 1.0), (1, 2.0), (2, 3.0))
    later = bars_of(ticks(*((MINUTE_MS - START_MS + ms, NAME, price, 1.0) for ms, price in ((0, 1.0), (5, 8.0)))), "1s")
    last = bars_of(
        ticks(*((MINUTE_MS - START_MS + ms, NAME, p, 1.0) for ms, p in ((2_000, 3.0), (2_001, 0.5), (2_002, 4.0)))),
        "1s",
    )
    after_ms = MINUTE_MS + 100_000
    for number, bars in enumerate((first, later, last)):
        monkeypatch.setattr("time.time_ns", lambda at=after_ms + number: at * 1_000_000)
        stored(path, bars).close()
    with closing(BarReader.open(path)) as reader:
        known = [
            read(reader, "1m", as_of_ms=after_ms + at)
            .select("high", "low", "close", "ticks", "state", "revision")
            .rows()
            for at in (-1, 0, 1, 2)
        ]
        assert known == [
            [],
            [(3.0, 1.0, 3.0, 3, "closed", 0)],
            [(8.0, 1.0, 3.0, 4, "revised", 1)],
            [(8.0, 0.5, 4.0, 6, "revised", 2)],
        ]
        assert read(reader, "1m", as_of_ms=after_ms + 2).equals(read(reader, "1m"))
        versions = reader.history(NAME, "1m", MINUTE_MS)
        assert versions.select("high", "ticks", "revision").rows() == [(3.0, 3, 0), (8.0, 4, 1), (8.0, 6, 2)]
        assert versions.tail(1).equals(read(reader, "1m"))
        assert reader.history(NAME, "1m", MINUTE_MS + 60_000).height == 0
        assert reader.history("unknown", "1m", MINUTE_MS).height == 0


def test_what_changed_while_a_long_bar_formed_is_no_version_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bars.sqlite"
    twice = bars_of(ticks(*((MINUTE_MS - START_MS + ms, NAME, 2.0, 1.0) for ms in (0, 1))), "1s")
    for at_ms, bars in ((2_000, seconds((0, 1.0))), (3_000, twice), (62_000, seconds((59, 3.0)))):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: (MINUTE_MS + at_ms) * 1_000_000)
        stored(path, bars).close()
    with closing(BarReader.open(path)) as reader:
        assert reader.history(NAME, "1m", MINUTE_MS).equals(read(reader, "1m"))
        assert reader.history(NAME, "1s", MINUTE_MS).height == 2


def test_only_long_bars_with_changed_short_ones_are_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cursors = tmp_path / "bars.sqlite", list[Cursor]()
    for at_ms, bars in (
        (MINUTE_MS + 310_000, seconds((0, 1.0), (60, 2.0), (120, 3.0), (180, 4.0))),
        (
            MINUTE_MS + 300_000,  # the clock was set back
            bars_of(ticks(*((MINUTE_MS - START_MS + ms, NAME, 7.0) for ms in (60_000, 60_001))), "1s"),
        ),
    ):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        with closing(stored(path, bars)) as reader:
            cursors.append(reader.cursor(NAME, Frame(60_000)).after(read(reader, "1m")))
    first, last = cursors
    with closing(BarReader.open(path)) as reader:

        def changed(since: Cursor, from_ms: int = 0) -> list[int]:
            changes = reader.changed_since(NAME, Frame(60_000), since, from_ms)
            assert changes is not None
            assert changes.complete_from_ms is None
            found = changes.bars
            assert found.equals(read(reader, "1m").filter(pl.col("start_ms").is_in(found["start_ms"].to_list())))
            return [(start - MINUTE_MS) // 60_000 for start in found["start_ms"]]

        assert changed(first) == [1]
        assert changed(replace(first, change=0)) == [0, 1, 2, 3]
        assert changed(first, MINUTE_MS + 60_001) == []
        assert changed(last) == []


@pytest.mark.parametrize(
    ("frame", "stored_frames", "bars"),
    [
        ("1m", "1s,1m,1h", 15_000),
        ("5m", "1s,1m,1h", 3_000),
        ("30m", "1s,1m,1h", 500),
        ("1d", "1m", 100),
        ("1m", "", 15_000),
    ],
)
def test_the_more_stored_bars_one_is_made_of_the_fewer_are_read_at_once(
    frame: str, stored_frames: str, bars: int
) -> None:
    stored = [parse_frame(text) for text in stored_frames.split(",") if text]
    wanted = parse_frame(frame)
    assert bars_per_read(wanted, pieces(wanted, [HeldFrame(frame_name, 1, 0) for frame_name in stored]), END_MS) == bars


def test_weeks_are_rolled_up_from_mondays(tmp_path: Path) -> None:
    monday_ms, day_ms = 1_764_547_200_000, 86_400_000  # 2025-12-01
    days = (0, 6, 7, 13)
    table = ticks(*((monday_ms + day * day_ms - START_MS, NAME, 1.0 + day, 1.0) for day in days))
    with closing(stored(tmp_path / "bars.sqlite", bars_of(table, "1d"))) as reader:
        weeks = read(reader, "1w").select(BAR_VALUES.keys())
        assert weeks.equals(bars_of(table, "1w"))
        assert weeks.equals(recompute.bars(table.with_columns(sequence=pl.int_range(pl.len())), parse_frame("1w")))
        assert weeks["start_ms"].to_list() == [monday_ms, monday_ms + 7 * day_ms]
        assert Frame(7 * day_ms) in reader.offered_frames(NAME)
