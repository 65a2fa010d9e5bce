"""Replays on a real Flink: golden bars, any order, any parallelism, and every row accounted for."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest

from barmill.ingest.files.layout import Layout
from barmill.model.bar import BAR_VALUES
from barmill.model.frames import parse_frames
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.jobs import replay_run
from control.jobs.replay_run import ReplayRequest, ReplayResult
from tests.support.bad_lines import BAD_LINES, HEADER
from tests.support.replay import GOLDEN, needs_golden
from tests.support.ticks import START_MS

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkRest]:
    home = Home(tmp_path_factory.mktemp("cluster"))
    with private_cluster(home, slots=4, single_process=True) as rest:
        yield rest
    # Flink unpacks its SQL planner when a program first needs it, which takes seconds.
    assert not list((home.flink / "tmp").glob("flink-table-planner*.jar"))


def replay(
    flink: FlinkRest, folder: Path, files: list[Path], frames: str, lateness_ms: int = 300_000, parallelism: int = 1
) -> tuple[ReplayResult, pl.DataFrame]:
    home = Home(folder)
    request = ReplayRequest(files, Layout(rising_ids=True), parse_frames(frames), lateness_ms, parallelism)
    outcome = replay_run.run(request, home, cluster=nullcontext(flink))
    return outcome, pl.concat(BarReader.open(home.bars_db).all_bars())


@needs_golden
@pytest.mark.parametrize(
    ("ticks", "bars", "frames", "count"),
    [("xrpeth_trades", "xrpeth_bars", "1m,5m", 3_175), ("eurusd_quotes", "eurusd_bars", "1s,1m", 52_939)],
)
def test_golden_bars_are_equal_in_every_field(
    flink: FlinkRest, tmp_path: Path, ticks: str, bars: str, frames: str, count: int
) -> None:
    _, made = replay(flink, tmp_path, [GOLDEN / f"{ticks}.csv.gz"], frames)
    key = ["instrument", "frame", "start_ms"]
    golden = pl.read_csv(GOLDEN / f"{bars}.csv.gz", schema_overrides={"volume": pl.Float64}).sort(key)
    assert golden.height == count
    assert made.select(golden.columns).sort(key).equals(golden)
    assert made["state"].unique().to_list() == ["closed"]
    assert made["revision"].sum() == 0


@pytest.fixture(scope="module")
def six_venues(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the six-venue trades, with their row number as id, in five orders."""
    ticks = pl.read_csv(GOLDEN / "binance_six_venues_by_arrival.csv.gz").with_row_index("id")
    orders = {"arrival": ticks, "time": ticks.sort("time", maintain_order=True)}
    orders |= {f"shuffle-{seed}": ticks.sample(fraction=1, shuffle=True, seed=seed) for seed in (1, 2, 3)}
    folder = tmp_path_factory.mktemp("venues")
    for name, table in orders.items():
        table.write_csv(folder / f"{name}.csv")
    return {name: folder / f"{name}.csv" for name in orders}


@needs_golden
def test_six_venues_in_any_order_and_at_any_parallelism_give_identical_rows(
    flink: FlinkRest, tmp_path: Path, six_venues: dict[str, Path]
) -> None:
    made = {}
    runs = [(name, path, 1) for name, path in six_venues.items()] + [("parallel", six_venues["shuffle-1"], 4)]
    for name, path, parallelism in runs:
        outcome, bars = replay(flink, tmp_path / name, [path], "1s,1m,1h", HOUR_MS, parallelism)
        assert (outcome.read, outcome.accepted, outcome.rejected) == (55_270, 55_270, {})
        made[name] = bars.drop("changed_ms")
    for name, bars in made.items():
        assert bars.equals(made["arrival"]), name


def test_every_row_of_a_bad_file_is_in_a_bar_or_in_the_rejects(flink: FlinkRest, tmp_path: Path) -> None:
    lines, bad = [HEADER.encode()], []
    for number, (line, reason) in enumerate(BAD_LINES):
        lines += [b"%d,A,1,%d,3" % (START_MS + number * 1_000, number + 1), line]
        bad.append((len(lines), reason))
    lines.append(b"%d,A,1,2,3" % (START_MS - 300_001))
    bad.append((len(lines), "too_late"))
    lines.append(b"946684800000,A,1,2,3")
    bad.append((len(lines), "too_late"))
    path = tmp_path / "bad.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    outcome, bars = replay(flink, tmp_path / "home", [path], "1s,1h")
    rejects = replay_run.rejects(Home(tmp_path / "home"))
    assert rejects.select("line", "reason").rows() == bad
    assert rejects.filter(pl.col("reason") == "too_late")["late_ms"].to_list() == [312_001, 753_315_212_000]
    assert outcome.read == 2 * len(BAD_LINES) + 2
    assert outcome.accepted == len(BAD_LINES) == outcome.read - sum(outcome.rejected.values())
    assert bars.filter(pl.col("frame") == "1s")["close"].to_list() == [n + 1.0 for n in range(len(BAD_LINES))]
    assert set(bars.columns) >= set(BAR_VALUES)


def test_an_empty_file_gives_no_bars_and_no_error(flink: FlinkRest, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(HEADER + "\n")
    outcome, bars = replay(flink, tmp_path / "home", [tmp_path / "empty.csv"], "1m")
    assert (outcome.read, outcome.accepted, outcome.bars, bars.height) == (0, 0, {}, 0)
