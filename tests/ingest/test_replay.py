"""The replay provider: every format, damaged files, other column names, pace and cursor."""

import gzip
import json
import threading
from pathlib import Path

import polars as pl
import pytest
import zstandard

from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.intake import Intake
from barmill.ingest.providers.replay import ReplayProvider
from barmill.storage.tick_log import TickLog
from tests.support.bad_lines import BAD_LINES, HEADER
from tests.support.ticks import START_MS

ROWS = [(START_MS + n * 10, "A/USD" if n % 3 else "Ä/USD", 1.5 + n, 1.25 + n, 0.1 * n) for n in range(1_000)]
TABLE = pl.DataFrame(ROWS, HEADER.split(","), orient="row")


def take(path: Path | list[Path], tmp_path: Path, columns: dict[str, str] | None = None) -> TickLog:
    files = path if isinstance(path, list) else [path]
    log = TickLog.open(tmp_path / "ticks.sqlite")
    for _ in Intake(log, ReplayProvider(files, columns or {})).run(threading.Event()):
        pass
    return log


def read(log: TickLog) -> pl.DataFrame:
    return pl.concat(block for _, block in log.blocks())


def rejects(log: TickLog) -> list[tuple[int, str]]:
    return log.rejects().sort("line").select("line", "reason").rows()


def write(folder: Path, name: str, table: pl.DataFrame = TABLE) -> Path:
    path = folder / name
    kind = name.split(".")[1]
    if kind == "parquet":
        table.write_parquet(path, row_group_size=300)
        return path
    text = (table.write_csv() if kind == "csv" else table.write_ndjson()).encode()
    packers = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
    path.write_bytes(packers[name.split(".")[2]](text) if name.count(".") == 2 else text)
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.csv.zst", "t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.parquet", "t.ndjson"]
)
def test_every_format_gives_the_same_ticks(tmp_path: Path, name: str) -> None:
    log = take(write(tmp_path, name), tmp_path)
    got = read(log)
    assert got.select("instrument", "price_open", "price_close", "volume").equals(TABLE.drop("time"))
    assert (got["time_ns"] // 1_000_000).to_list() == TABLE["time"].to_list()
    first_line = 2 if ".csv" in name else 1
    assert got["line"].to_list() == list(range(first_line, first_line + TABLE.height))
    source = log.sources()[0]
    assert (source.read, source.accepted, source.rejected, source.ended) == (1_000, 1_000, 0, True)


def test_lines_that_need_a_second_look_read_the_same(tmp_path: Path) -> None:
    # Quotes, carriage returns, blank lines and a missing last newline send a chunk the slow way.
    lines = TABLE.write_csv().replace("A/USD", '"A/USD"').replace("\n", "\r\n").rstrip("\r\n").split("\r\n")
    path = tmp_path / "t.csv"
    path.write_bytes("\r\n".join([lines[0], "", *lines[1:]]).encode())
    got = read(take(path, tmp_path))
    assert got.select("instrument", "price_open", "price_close", "volume").equals(TABLE.drop("time"))
    assert got["line"].to_list() == list(range(3, 1_003))


@pytest.mark.parametrize("packed", [False, True])
def test_every_bad_line_is_kept_with_its_number_and_every_good_one_is_a_tick(tmp_path: Path, packed: bool) -> None:
    lines, expected = [HEADER.encode()], []
    for number, (bad, reason) in enumerate(BAD_LINES):
        lines += [b"%d,A,1,%d,3" % (START_MS + number, number + 1), bad]
        expected.append((len(lines), reason))
    data = b"\n".join(lines) + b"\n"
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    log = take(path, tmp_path)
    assert rejects(log) == expected
    assert read(log)["price_close"].to_list() == [n + 1.0 for n in range(len(BAD_LINES))]
    source = log.sources()[0]
    assert source.read == source.accepted + source.rejected == 2 * len(BAD_LINES)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)])
def test_a_truncated_file_gives_all_it_has_and_says_where_it_ends(tmp_path: Path, suffix: str, pack) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"t.csv.{suffix}"
    big = pl.concat([TABLE.with_columns(volume=pl.int_range(pl.len()) * 0.37 + n * 1.7) for n in range(300)])
    packed = pack(big.write_csv().encode())
    path.write_bytes(packed[: len(packed) * 2 // 3])
    log = take(path, tmp_path)
    got = read(log)
    assert got.height > 0
    assert rejects(log) == [(got.height + 2, "truncated_file")]
    assert got["volume"].to_list() == big["volume"].head(got.height).to_list()


def test_a_line_without_end_is_cut_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    good = b"%d,A,1,2,3\n" % START_MS
    path.write_bytes(HEADER.encode() + b"\n" + good + b"x" * (40 << 20) + b"\n" + good)
    log = take(path, tmp_path)
    assert rejects(log) == [(3, "broken_line")]
    assert read(log)["line"].to_list() == [2, 4]


def test_broken_json_lines_are_kept(tmp_path: Path) -> None:
    row = {"time": START_MS, "instrument": "A", "price": "1.5", "volume": None, "more": {"a": 1}}
    good = json.dumps(row)
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join([good, "{", "[1]", good, '{"time": 1}', ""]))
    log = take(path, tmp_path)
    assert rejects(log) == [(2, "broken_line"), (3, "broken_line"), (5, "bad_time")]
    assert read(log).select("price_open", "price_close", "volume").rows() == [(1.5, 1.5, None)] * 2


def test_columns_can_be_called_anything(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE.rename({"time": "ts", "instrument": "symbol", "volume": "qty"}))
    log = take(path, tmp_path, {"ts": "time", "symbol": "instrument", "qty": "volume"})
    assert read(log)["volume"].to_list() == TABLE["volume"].to_list()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE.rename({"time": "ts"}))
    with pytest.raises(ReplayFileError, match=r"has no column time; its columns: ts, instrument.*--map time=COLUMN"):
        take(path, tmp_path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(ReplayFileError, match="is not a complete Parquet file"):
        take(tmp_path / "t.parquet", tmp_path)


def test_a_recording_of_the_future_is_believed_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE.with_columns(time=pl.col("time") + 10**12))
    assert read(take(path, tmp_path)).height == TABLE.height


def test_several_files_follow_each_other_and_name_their_rejects(tmp_path: Path) -> None:
    files = [write(tmp_path, "a.csv"), tmp_path / "b.csv"]
    files[1].write_text(f"{HEADER}\n{START_MS + 20_000},B,1,2,3\nbroken\n")
    log = take(files, tmp_path)
    assert read(log)["instrument"][-1] == "B"
    assert log.rejects().select("source", "line").rows() == [("b.csv", 3)]


@pytest.mark.parametrize("speed", [None, 1e6])
def test_a_stopped_replay_goes_on_where_it_was(tmp_path: Path, speed: float | None) -> None:
    path = write(tmp_path, "t.csv", pl.concat([TABLE] * 300))
    whole = take(path, tmp_path / "straight")
    stop, log, batches = threading.Event(), TickLog.open(tmp_path / "ticks.sqlite"), 0
    while not log.sources() or not log.sources()[0].ended:
        stop.clear()
        for _ in Intake(log, ReplayProvider([path], {}, speed)).run(stop):
            batches += 1
            stop.set()
    assert batches > 1
    assert read(log).equals(read(whole))


def test_pace_follows_the_time_stamps(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TABLE.head(100))  # 990 ms of market
    batches = list(ReplayProvider([path], {}, speed=2.0).batches(None, threading.Event()))
    complete = [batch.complete_to_ms for batch in batches if batch.complete_to_ms is not None]
    assert len(complete) > 2
    assert complete == sorted(complete)
    assert complete[-1] == TABLE["time"][99]
    assert sum(batch.ticks.height for batch in batches) == 100


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_digits_that_a_float_does_not_hold_are_not_cut_on_the_way(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    numbers = ["1.5", "93500.123456789012345", "0.30000000000000004"]
    if suffix == "csv":
        path.write_text("time,instrument,price\n" + "".join(f"{START_MS},A,{number}\n" for number in numbers))
    else:
        row = '{"time": %d, "instrument": "A", "price": %s}\n'
        path.write_text("".join(row % (START_MS, number) for number in numbers))
    log = take(path, tmp_path)
    assert [reason for _, reason in rejects(log)] == ["too_precise"]
    assert read(log)["price_open"].to_list() == [1.5, 0.30000000000000004]
