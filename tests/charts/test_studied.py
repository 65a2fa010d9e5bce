"""Studies do not depend on where a chart begins, and reading for them is bounded."""

from math import nan

import polars as pl
import pytest

from barmill.charts.candles import bars_with_studies
from barmill.charts.studies import parse_studies, study_lines
from barmill.model.frames import Frame, parse_frame
from barmill.platform.home import Home
from barmill.storage.reader import BarQuery, BarReader
from tests.support.chart_bars import DAY_MS, MIDNIGHT_MS
from tests.support.stores import Stores

AAA = "AAA/USD"
STUDIES = parse_studies("sma:5,bb:5:2,vwap,volavg:5,atr:5,ema:5,macd:3:5:3,rsi:5")
SECONDS = 3 * 3600


class Counting:
    """A reader that remembers what it was asked for and how much it gave."""

    def __init__(self, reader: BarReader) -> None:
        self._reader = reader
        self.queries: list[BarQuery] = []
        self.rows = 0

    def read(self, query: BarQuery) -> pl.DataFrame:
        bars = self._reader.read(query)
        self.queries.append(query)
        self.rows += bars.height
        return bars


@pytest.fixture
def reader(home: Home) -> Counting:
    """Three hours of trades every seven seconds, from an hour before midnight."""
    stores, from_ms = Stores(home), MIDNIGHT_MS + DAY_MS - 3_600_000
    trades = [(from_ms + 1_000 * s, AAA, 100 + s * 37 % 101 / 10, 1 + s % 3) for s in range(0, SECONDS, 7)]
    stores.write([(ms, name, price, float(volume)) for ms, name, price, volume in trades], closed_to_ms=2**45)
    stores.close()
    return Counting(BarReader.open(home.bars_db))


@pytest.mark.parametrize("frame", ["1s", "7s", "1m", "5m", "1h"])
@pytest.mark.parametrize("begin_s", [4_000, 3_600, 3_599, 7_777])
def test_the_lines_are_those_over_all_bars(reader: Counting, frame: str, begin_s: int) -> None:
    of_frame = parse_frame(frame)
    from_ms = MIDNIGHT_MS + DAY_MS - 3_600_000 + 1_000 * begin_s
    query = BarQuery(AAA, of_frame, from_ms, from_ms + 1_800_000)
    bars, lines = bars_with_studies(reader.read, query, STUDIES)
    everything = reader.read(BarQuery(AAA, of_frame))
    shown = everything["start_ms"].is_in(bars["start_ms"].to_list())
    expected = study_lines(everything, STUDIES)
    assert bars.equals(reader.read(query))
    for line, whole in zip(lines, expected, strict=True):
        found, wanted = (pl.Series(study_line.values, dtype=pl.Float64).fill_null(nan) for study_line in (line, whole))
        assert line.label == whole.label
        assert found.to_list() == pytest.approx(wanted.filter(shown).to_list(), rel=1e-7, abs=1e-7, nan_ok=True)


def test_the_day_before_a_second_is_read_as_hours_minutes_and_seconds(reader: Counting) -> None:
    from_ms = MIDNIGHT_MS + DAY_MS + 5_000_000
    bars, _ = bars_with_studies(
        reader.read, BarQuery(AAA, Frame(1_000), from_ms, from_ms + 60_000), parse_studies("vwap")
    )
    assert [query.frame.text for query in reader.queries[1:]] == ["1h", "1m", "1s"]
    assert reader.rows - bars.height <= 23 + 59 + 59


def test_without_studies_nothing_more_is_read(reader: Counting) -> None:
    query = BarQuery(AAA, Frame(60_000), newest=10)
    bars, lines = bars_with_studies(reader.read, query, ())
    assert (bars.height, lines, reader.queries) == (10, [], [query])


def test_of_no_bars_the_lines_are_empty(reader: Counting) -> None:
    bars, lines = bars_with_studies(reader.read, BarQuery("ZZZ", Frame(60_000)), STUDIES)
    assert bars.height == 0
    assert {len(line.values) for line in lines} == {0}
