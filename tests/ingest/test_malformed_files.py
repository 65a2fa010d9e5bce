"""Nasty files of every format and container become exactly what an independent reader makes of them.

`python -m tests.hunt` tries as many as wanted.
"""

import random
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from barmill.ingest.files.layout import Layout
from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.mapping.row_tables import table
from tests.hunt.files import damaged
from tests.support.malformed_files import independent, nasty_file
from tests.support.reading import take

ID = pl.coalesce(pl.col("id").cast(pl.String), "id_text").alias("id")
FILES, ROWS_A_FILE, DAMAGED = 40, 50, 80


def test_nasty_files_are_read_as_an_independent_reader_reads_them(tmp_path: Path) -> None:
    for seed in range(FILES):
        data, layout, plan = nasty_file(ROWS_A_FILE, seed)
        path = tmp_path / "t"
        path.write_bytes(data)
        taken, right = take(path, layout), independent(data, plan)
        ticks = taken.ticks.select("line", "time_ns", "instrument", "price_open", "price_close", "volume", ID).rows()
        assert ticks == right.ticks, (seed, plan)
        assert sorted(taken.rejects["line"]) == right.rejects, (seed, plan)
        assert taken.read == len(right.ticks) + len(right.rejects), (seed, plan)


def test_damaged_files_are_read_or_refused_and_never_fail(tmp_path: Path) -> None:
    read = 0
    for seed in range(DAMAGED):
        data, layout, _ = nasty_file(30, seed)
        path = tmp_path / "t"
        path.write_bytes(damaged(data, random.Random(seed)))
        with suppress(ReplayFileError):  # the one error that is a sentence for people
            taken = take(path, layout)
            assert taken.read == taken.ticks.height + taken.rejects.height, seed
            read += 1
    assert read > DAMAGED // 4


@pytest.mark.parametrize("data", [b"{}\n", b"{}\n{}\n", b'{}\n{"a"\n', b"[]\n{}\n"])
def test_empty_objects_are_rejects(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    taken = take(path, Layout(constants={"instrument": "A"}))
    assert taken.ticks.height == 0
    assert sorted(taken.rejects["line"]) == [*range(1, data.count(b"\n") + 1)]


@pytest.mark.parametrize("rows", [[], [{}], [{}, {}], [{}, {"id": 7}], [{"price": 1}, {}]])
def test_rows_without_fields_are_rows_of_a_table(rows: list[dict[str, object]]) -> None:
    assert table(rows).height == len(rows)
    assert "id" in table(rows).columns
