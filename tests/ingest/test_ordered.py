"""Files are turned round or sorted by time as asked, with ties in the order that the source means."""

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.ingest.providers import ordered
from tests.support.reading import take
from tests.support.ticks import START_MS

HEADER = "time,instrument,price\n"
# Times of a file's rows in ms after the start; None: a row that cannot be read.
FILES = st.lists(st.lists(st.none() | st.integers(0, 6), max_size=12), min_size=1, max_size=4)


def write(folder: Path, files: list[list[int | None]]) -> tuple[list[Path], list[tuple[int, int, int | None]]]:
    """Write files whose prices count all rows from 1; return the files, and each row's file, price and time."""
    paths, rows, price = list[Path](), list[tuple[int, int, int | None]](), 0
    for number, times in enumerate(files):
        text = HEADER
        for time in times:
            price += 1
            text += f"{START_MS + time if time is not None else 'soon'},A,{price}\n"
            rows.append((number, price, time))
        paths.append(folder / f"{number}.csv")
        paths[-1].write_text(text)
    return paths, rows


@given(FILES, st.booleans(), st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_sorted_rows_are_those_of_a_stable_sort(files: list[list[int | None]], newest_first: bool, block: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "_SAMPLE_EVERY", 1)
        paths, rows = write(Path(folder), files)
        taken = take(paths, by_time=True, newest_first=newest_first, block_rows=block)
    good = [(time, file, -price if newest_first else price, price) for file, price, time in rows if time is not None]
    assert taken.closes == [price for *_, price in sorted(good)]
    assert len(taken.refused) == len(rows) - len(good)
    assert taken.read == len(rows)


@given(FILES)
@settings(max_examples=12, deadline=None)
def test_files_that_are_newest_first_are_turned_round_each(files: list[list[int | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths, rows = write(Path(folder), files)
        taken = take(paths, newest_first=True)
    by_file = [
        [(price, time) for file, price, time in rows if file == number and time is not None] for number in range(4)
    ]
    oldest_first = sorted((part for part in by_file if part), key=lambda part: min(time for _, time in part))
    assert taken.closes == [price for part in oldest_first for price, _ in reversed(part)]
    assert taken.read == len(rows)


def test_rejects_of_sorted_files_keep_their_file_and_line(tmp_path: Path) -> None:
    paths, _ = write(tmp_path, [[3, None, 1], [None, 2]])
    (tmp_path / "2.csv").write_text(HEADER + "broken\n")
    rejects = take([*paths, tmp_path / "2.csv"], by_time=True).rejects
    assert sorted(rejects.select("source", "line", "reason").rows()) == [
        ("0.csv", 3, "bad_time"),
        ("1.csv", 2, "bad_time"),
        ("2.csv", 2, "broken_line"),
    ]


def test_a_recording_of_the_future_is_sorted_and_believed(tmp_path: Path) -> None:
    ahead = 10**12
    paths, _ = write(tmp_path, [[ahead + 2, None, ahead + 1, ahead]])
    assert take(paths, by_time=True).closes == [4.0, 3.0, 1.0]


def test_columns_of_several_types_are_sorted_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}{START_MS + 1},A,1\n")
    (tmp_path / "b.csv").write_text(f"{HEADER}2025-01-01T00:00:00Z,A,2\n")
    pl.DataFrame({"time": [START_MS], "instrument": ["A"], "price": [3.5]}).write_parquet(tmp_path / "c.parquet")
    taken = take([tmp_path / name for name in ("a.csv", "b.csv", "c.parquet")], by_time=True)
    assert sorted(taken.closes) == [1.0, 2.0, 3.5]
    assert taken.ticks["time_ns"].is_sorted()
