"""The bench: its ticks, its arithmetic, and that every part measures the real thing."""

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from barmill.model.frames import parse_frame, parse_frames
from barmill.model.recompute import bars as recomputed
from barmill.model.tick import TICK_SCHEMA
from barmill.platform.home import REPO_ROOT
from barmill.storage.reader import BarQuery, BarReader
from benchmarks import batch, goals, parts, queries, start
from benchmarks.latency import delays, overtaken, percentiles
from benchmarks.parts import Scale
from benchmarks.peers.compare import PeerMissingError, peer_python
from benchmarks.replay import by_instruments, differences
from benchmarks.report import as_text
from benchmarks.runs import read_run, save
from benchmarks.ticks import JITTER_MS, tick_file
from benchmarks.usage import CommandFailedError, busy_seconds, machine, measure, others_share
from tests.support.bench import bench


def test_generated_ticks_are_the_same_every_time_and_a_longer_file_begins_like_a_shorter_one(tmp_path: Path) -> None:
    short, long, again = (
        pl.read_parquet(tick_file(tmp_path / name, ticks, 10))
        for name, ticks in (("a", 2_000), ("a", 5_000), ("b", 5_000))
    )
    assert long.equals(again)
    assert long.head(2_000).equals(short)


def test_generated_ticks_are_out_of_order_by_the_jitter_and_decimal_clean(tmp_path: Path) -> None:
    ticks = pl.read_parquet(tick_file(tmp_path, 20_000, 10))
    behind_ms = (ticks["time"].cum_max() - ticks["time"]).max()
    assert isinstance(behind_ms, int)
    assert JITTER_MS < behind_ms <= 2 * JITTER_MS
    span_ms = ticks["time"][-1] - ticks["time"][0]
    assert abs(span_ms - 4_000) <= 2 * JITTER_MS  # 20,000 ticks at 5,000 a second
    assert ticks["instrument"].n_unique() == 10
    assert ticks.select((pl.col("price") * 100 - (pl.col("price") * 100).round()).abs().max()).item() < 1e-6
    assert ticks.select((pl.col("volume") * 1e4 - (pl.col("volume") * 1e4).round()).abs().max()).item() < 1e-6


def test_a_cached_file_is_used_and_a_half_written_one_is_not(tmp_path: Path) -> None:
    path = tick_file(tmp_path, 100, 10)
    path.with_suffix(".part").write_bytes(b"half")
    before = path.stat().st_mtime_ns
    assert tick_file(tmp_path, 100, 10).stat().st_mtime_ns == before
    path.unlink()
    assert pl.read_parquet(tick_file(tmp_path, 100, 10)).height == 100


def test_the_batch_makes_the_bars_of_the_reference(tmp_path: Path) -> None:
    path = tick_file(tmp_path, 20_000, 10)
    raw = pl.read_parquet(path).with_row_index("sequence")
    ticks = raw.with_columns(
        time_ns=pl.col("time") * 1_000_000,
        price_open="price",
        price_close="price",
        id=pl.lit(None, pl.Int64),
        line=pl.lit(None, pl.Int64),
        id_text=pl.lit(None, pl.String),
        sequence=pl.col("sequence").cast(pl.Int64),
    ).select(*TICK_SCHEMA, "sequence")
    reference = pl.concat(recomputed(ticks, frame) for frame in parse_frames("1s,1m,1h"))
    found = differences(reference, batch.bars(path))
    assert found == {
        "bars": reference.height,
        "only_in_barmill": 0,
        "only_in_the_other": 0,
        "unequal": 0,
        "unequal_by_field": {},
    }
    assert reference.height > 40


def test_differences_are_counted_by_field_and_side() -> None:
    ours = pl.DataFrame(
        {
            "instrument": ["A", "A", "B"],
            "frame": ["1s", "1s", "1s"],
            "start_ms": [0, 1_000, 0],
            **{name: [1.0, 2.0, 3.0] for name in ("open", "high", "low", "close")},
            "volume": [1.0, None, 3.0],
            "vwap": [1.0, None, 3.0],
            "ticks": [1, 1, 1],
        }
    )
    theirs = ours.head(2).with_columns(
        close=pl.Series([1.5, 2.0]),
        volume=pl.Series([1.0 + 1e-12, None]),  # a sum in another order
        vwap=pl.Series([1.0, 2.0]),
    )
    assert differences(ours, theirs) == {
        "bars": 3,
        "only_in_barmill": 1,
        "only_in_the_other": 0,
        "unequal": 2,
        "unequal_by_field": {"close": 1, "vwap": 1},
    }


def test_a_tick_counts_from_its_stamp_and_from_the_log_to_the_first_sight_of_it() -> None:
    ms = 1_000_000
    ticks = pl.DataFrame({"sequence": [7, 8, 9], "time_ns": [0, 10 * ms, 20 * ms]})
    committed = [(5 * ms, 7), (30 * ms, 9), (50 * ms, 10)]  # 7 and 8 came with the second, 9 with the third
    visible = [(5 * ms, 7), (60 * ms, 8), (90 * ms, 12)]
    assert delays(ticks, committed, visible).rows() == [(60, 30, 30), (80, 20, 60), (70, 30, 40)]


def test_percentiles_are_delays_that_were_seen() -> None:
    table = pl.DataFrame({"x_ms": [float(value) for value in range(1, 101)]})
    assert percentiles(table) == {"x_ms": {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}}


def test_only_a_tick_behind_a_newer_one_of_its_instrument_counts_as_held_back() -> None:
    ticks = pl.DataFrame({"instrument": ["A", "B", "A", "A", "B"], "id": [5, 1, 7, 6, 2]})
    assert overtaken(ticks).to_list() == [False, False, False, True, False]


def test_a_command_is_measured_with_what_it_started() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; print('done'); subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    taken = measure([sys.executable, "-c", parent])
    assert taken.output == "done"
    assert taken.cpu_s >= 0.3
    assert taken.wall_s >= 0.3
    assert 0 <= taken.others_share <= 1


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(CommandFailedError, match=r"^no room$"):
        measure([sys.executable, "-c", "import sys; sys.exit('first\\nno room')"])


def test_others_share_is_what_is_left_of_the_busy_time() -> None:
    cores = os.cpu_count() or 1
    assert others_share(busy_s=3.0 * cores, own_s=1.0 * cores, wall_s=4.0) == pytest.approx(0.5)
    assert others_share(busy_s=1.0, own_s=2.0, wall_s=4.0) == 0
    assert busy_seconds() > 0


def test_a_peer_that_cannot_be_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    sentence = r"^Bytewax and DuckDB could not be installed for the comparison: .+ -m pip --python .+ install .+$"
    with pytest.raises(PeerMissingError, match=sentence):
        peer_python(tmp_path / "peers")


def test_the_program_of_the_peer_is_pinned_with_hashes() -> None:
    lock = (REPO_ROOT / "benchmarks" / "peers" / "requirements.lock").read_text()
    packages = [line for line in lock.splitlines() if "==" in line]
    assert any(line.startswith("bytewax==0.21.") for line in packages)
    assert any(line.startswith("duckdb==") for line in packages)
    assert lock.count("--hash=sha256:") >= len(packages)
    assert "://" not in lock


@pytest.mark.slow
def test_replay_figures_come_from_a_real_replay_and_its_bars_equal_the_batch(tmp_path: Path) -> None:
    earlier = save(tmp_path / "earlier", {"started_utc": "2026-11-30T20:00:00Z", "size": "full", "commit": "abc"})
    result = bench(tmp_path, "replay", compare=earlier)
    assert result["compared_with"]["commit"] == "abc"
    part = result["replay"]
    assert result["figures"]["replay.cpu_s_per_million"] == part["between_sizes"]["cpu_s_per_million_ticks"]
    assert [size["ticks"] for size in part["sizes"]] == [20_000, 40_000, 20_000]
    for figures in (*part["sizes"], part["between_sizes"]):
        assert {"cpu_s_per_million_ticks", "taskmanager_cpu_s_per_million_ticks"} <= figures.keys()
    for size in part["sizes"]:
        assert 0 < size["startup_s"] <= size["total_s"]
        assert 0 < size["taskmanager_cpu_s_per_million_ticks"] < size["cpu_s_per_million_ticks"]
        assert size["bars"] > 40
        assert size["intake_ticks_per_s"] > 0
        assert size["ticks_in_log_when_folding_began"] <= size["ticks"]
    assert isinstance(part["between_sizes"]["disturbed"], bool)
    for floor in part["polars_batch"]:
        assert floor["bars_compared"]["unequal"] == 0
        assert floor["bars_compared"]["only_in_barmill"] == floor["bars_compared"]["only_in_the_other"] == 0
        assert floor["ticks_per_s"] > 0
    assert result["size"] == "tiny"
    assert {"cores", "cpu_model", "memory_gb", "load_average_1min_at_start"} <= result["machine"].keys()
    assert "Polars batch" in as_text(result)
    assert not (tmp_path / "bench" / "replay").exists()


@pytest.mark.slow
def test_instrument_figures_leave_start_up_out(tmp_path: Path) -> None:
    scale = Scale(instruments=(20,), instruments_ticks=20_000)
    part = by_instruments(scale, tmp_path, lambda _: None)
    assert part["startup"]["cpu_s"] > part["startup"]["taskmanager_cpu_s"] > 0
    (row,) = part["runs"]
    assert (row["instruments"], row["ticks"]) == (20, 20_000)
    assert {"ticks_per_s_after_startup", "cpu_s_per_million_ticks_without_startup"} <= row.keys()


def test_commands_are_measured_against_their_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_RUNS", 1)
    part = start.commands(None, tmp_path, lambda _: None)
    assert {"status", "instrument list"} <= part["runs"].keys()
    assert all(run["cpu_s"] > 0 for run in part["runs"].values())
    result = {"machine": machine(), "commands": part, "start": {"ticks": 1, **part["runs"]["status"]}}
    printed = as_text(result)
    assert printed.count("status") == printed.count("replay") == 1
    figures = goals.figures_of(result)
    assert figures["commands.status"] == figures["start.replay_cpu_s"] == part["runs"]["status"]["cpu_s"]
    goals_by_key = {figure.key: figure.goal for figure in goals.FIGURES}
    assert goals_by_key["commands.status"] == 0.5
    assert goals_by_key["start.replay_cpu_s"] == 8


@pytest.mark.slow
def test_live_figures_come_from_all_processes_of_a_running_barmill(tmp_path: Path) -> None:
    result = bench(tmp_path, "live")
    part = result["live"]
    assert part["ticks"] > 1_000
    assert 0 <= part["left_out_as_late_on_purpose"] < part["ticks"] / 10
    for column in part["delay_ms"].values():
        assert column["p50"] <= column["p95"] <= column["p99"] <= column["max"]
    assert part["delay_ms"]["stamp_to_visible_ms"]["p50"] > part["delay_ms"]["log_to_visible_ms"]["p50"] > 0
    names = {"jobmanager", "taskmanager", "market", "ingest", "controller", "app", "supervisor"}
    assert part["processes"].keys() == names
    assert all(0 < process["proportional_mb"] <= process["resident_mb"] for process in part["processes"].values())
    total = sum(process["resident_mb"] for process in part["processes"].values())
    assert part["all_processes"]["resident_mb"] == pytest.approx(total, abs=1)
    assert "stamp to visible" in as_text(result)
    assert not (tmp_path / "bench" / "live").exists()


def test_figures_at_rest_come_from_the_usual_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = {"resident_mb": 1.0, "proportional_mb": 0.5, "cpu_share_of_one_core": 0.25}
    calls = list[tuple[str, ...]]()

    def measured(_home: Path, *arguments: str, keep: bool) -> dict[str, Any]:
        assert keep
        calls.append(arguments)
        delays = {"stamp_to_visible_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}}
        shares = {"ticks_per_s": 120, "window_s": 5, "other_programs_share_of_all_cores": 0.1, "delay_ms": delays}
        return {**shares, "processes": {"app": process, "market": process}}

    monkeypatch.setattr(parts, "_in_process", measured)
    part = parts.rest(parts.tiny(1_000), tmp_path, lambda _: None)
    assert calls == [("live", "delay", "--warm-up", "3", "--window", "5", "--rate", "1.0")]
    assert part["all_processes"]["cpu_share_of_one_core"] == 0.5
    assert "At rest, no page open: 120 ticks/s for 5 s" in as_text({"machine": machine(), "rest": part})


@pytest.mark.slow
def test_pick_figures_come_from_a_feed_that_follows(tmp_path: Path) -> None:
    result = bench(tmp_path, "picks")
    for column in result["picks"]["delay_ms"].values():
        assert 0 <= column["p50"] <= column["max"]
    assert result["picks"]["delay_ms"]["enabled_to_first_tick_ms"]["p50"] > 0
    assert "enabled to first tick" in as_text(result)
    assert not (tmp_path / "bench" / "picks").exists()


def test_query_figures_come_from_stores_of_the_sizes_asked_for(tmp_path: Path) -> None:
    result = bench(tmp_path, "queries", "bulk", "moves")
    assert result["bulk"]["bulk_bars_per_cpu_s"] == result["figures"]["bulk.bars_per_cpu_s"] > 0
    assert result["moves"]["bars"] == 20_000
    assert result["moves"]["compare"]["in_blocks"] > 0
    assert result["figures"]["moves.bars"] == result["figures"]["moves.answers"] == 0
    for figure in goals.FIGURES:
        is_measured = figure.part in ("queries", "bulk", "moves")
        assert (result["figures"][figure.key] is not None) == is_measured, figure.key
    (stored,) = (tmp_path / "bench" / "runs").iterdir()
    assert json.loads(stored.read_text()) == result
    assert read_run(stored).figures == result["figures"]
    small, large = result["queries"]["sizes"]
    assert (small["bars"], large["bars"]) == (20_000, 40_000)
    assert large["size_mb"] > small["size_mb"] > 0
    for question, found in small["query_ms"].items():
        assert 0 < found["p50"] <= found["p95"]
        assert small["query_cpu_ms"][question]["p95"] > 0
        assert result["queries"]["p95_times"][question] > 0
    assert {"chart 1s", "update 1m", "as of 5m", "compare five"} <= small["query_ms"].keys()
    assert "chart 30m" in as_text(result)
    assert "Bulk read of 20,000 bars" in as_text(result)
    assert "1 kills during a move: 0 bars differ" in as_text(result)
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["runs"]


def test_the_store_that_is_asked_holds_what_views_show(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    queries.make_store(path, 20_000)
    with closing(BarReader.open(path)) as reader:
        names = reader.instruments()
        assert sum(bars for bars, _ in reader.totals().values()) == pytest.approx(20_000, rel=0.01)
        for frame in ("1s", "5m", "1d"):
            bars = reader.read(BarQuery(names[0], parse_frame(frame), newest=5))
            assert bars["end_ms"][-1] == reader.newest(names[0], "1s", 1)["end_ms"][0]
        assert reader.read(BarQuery(names[0], parse_frame("1s")))["revision"].sum() > 0
