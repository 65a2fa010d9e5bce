"""What is measured from real stores: a tick log, and the bars made of it."""

from dataclasses import replace

import polars as pl
import pytest

from barmill.platform.home import Home
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.tick_log import TickLog
from control.freshness.reading import jobs_not_running
from control.monitoring.measurements import LogState, measure_flow, read_log
from control.monitoring.metrics import Kind, Metric, Subject
from tests.support.readings import BARS, MARKET
from tests.support.stopped_jobs import seconds_stopped
from tests.support.stores import Stores

# The stores are written with the wall clock of the moment; the ticks in them are from here on.
T_MS = 1_764_072_000_000


def measured(home: Home, at_ms: int, since_ms: int = 0) -> dict[tuple[Subject, Metric], float]:
    found = measure_flow(home, read_log(home.ticks_db), at_ms, since_ms)
    assert len({(reading.subject, reading.metric) for reading in found}) == len(found)
    return {(reading.subject, reading.metric): reading.value for reading in found}


def written_ms(home: Home) -> int:
    """Return when the stores were written."""
    arrived_ms = read_log(home.ticks_db).sources[0].arrived_ms
    assert arrived_ms
    return arrived_ms


def test_a_home_without_stores_has_nothing_to_measure(home: Home) -> None:
    assert measured(home, T_MS) == {}
    home.ticks_db.touch()
    home.bars_db.touch()
    assert measured(home, T_MS) == {}


def test_the_flow_from_source_to_bars(home: Home) -> None:
    stores = Stores(home)
    stores.write([(T_MS + i, "AAA", 5.0 + i, 1.0) for i in range(4)], closed_to_ms=T_MS)
    stores.close()
    at_ms = written_ms(home) + 2_000
    found = measured(home, at_ms)
    assert found[MARKET, Metric.TICKS_ACCEPTED] == 4
    assert found[MARKET, Metric.TICKS_REJECTED] == 0
    assert found[MARKET, Metric.IDLE_S] == 2
    assert (BARS, Metric.TICKS_READ) not in found, "the job's last word is years old"


@pytest.mark.parametrize("monitoring_began_ms", [T_MS - 900, T_MS - 899])
def test_a_tick_from_before_monitoring_began_has_no_arrival_delay(home: Home, monitoring_began_ms: int) -> None:
    live(home, SHARD)
    log = replace(at_rest(complete_to_ms=None, ticks=10), monitoring_began_ms=monitoring_began_ms)
    readings = {reading.metric: reading.value for reading in measure_flow(home, log, T_MS, 0)}
    assert (Metric.ARRIVAL_DELAY_S in readings) == (monitoring_began_ms == T_MS - 900)


def test_ticks_that_are_always_late_have_an_arrival_delay(home: Home) -> None:
    stores = Stores(home)
    stores.write([(T_MS + i, "AAA", 5.0 + i, 1.0) for i in range(4)], closed_to_ms=T_MS)
    stores.close()
    arrived_ms = written_ms(home)
    log = read_log(home.ticks_db, monitoring_began_ms=T_MS - 1)
    delay_s = {reading.metric: reading.value for reading in measure_flow(home, log, arrived_ms, 0)}
    assert delay_s[Metric.ARRIVAL_DELAY_S] == pytest.approx((arrived_ms - T_MS - 3) / 1_000)


def test_history_of_a_feed_that_was_added_later_has_no_arrival_delay(home: Home) -> None:
    live(home, SHARD)
    log = at_rest(complete_to_ms=None, ticks=10)
    metrics = []
    for made_ms in (T_MS - 900, T_MS - 899):
        made = replace(log, sources=(replace(log.sources[0], made_ms=made_ms),))
        metrics.append({reading.metric for reading in measure_flow(home, made, T_MS, 0)})
    assert [Metric.ARRIVAL_DELAY_S in found for found in metrics] == [True, False]


def live(home: Home, *shards: Progress, bars: pl.DataFrame | None = None) -> None:
    """Write where the shards of a job stand."""
    store = BarStore.open(home.bars_db)
    for shard in shards:
        store.publish(shard, bars)
    store.close()


SHARD = Progress("bars", 0, "1s,1m", 300_000, 2, 11, 10, 1, 0, 0, T_MS - 700, False, T_MS)


def at_rest(*, complete_to_ms: int | None, ticks: int) -> LogState:
    source = read_log_source(complete_to_ms)
    return LogState((replace(source, arrived_ms=T_MS - 400, newest_ns=(T_MS - 900) * 1_000_000),), ticks + 1)


def read_log_source(complete_to_ms: int | None):  # type: ignore[no-untyped-def]
    from tests.support.flows import source

    return replace(source("market"), complete_to_ms=complete_to_ms)


def test_shards_count_together_and_the_furthest_behind_sets_the_pace(home: Home) -> None:
    behind = replace(SHARD, shard=1, next_sequence=6, read=5, late=0, newest_tick_ms=T_MS - 9_000)
    live(home, SHARD, behind)
    log = at_rest(complete_to_ms=T_MS - 100, ticks=10)
    found = {(reading.subject, reading.metric): reading.value for reading in measure_flow(home, log, T_MS, 0)}
    assert found[BARS, Metric.TICKS_READ] == 15
    assert found[BARS, Metric.TICKS_LATE] == 1
    assert found[BARS, Metric.BACKLOG_TICKS] == 5
    assert found[BARS, Metric.NEWEST_TICK_AGE_S] == 0.7
    assert found[BARS, Metric.WATERMARK_LAG_S] == 9  # the source's word counts only once everything is read
    assert found[MARKET, Metric.ARRIVAL_DELAY_S] == 0.5


def test_a_quiet_market_that_is_complete_does_not_lag(home: Home) -> None:
    live(home, SHARD, replace(SHARD, shard=1, newest_tick_ms=T_MS - 60_000))
    log = at_rest(complete_to_ms=T_MS - 250, ticks=10)
    found = {reading.metric: reading.value for reading in measure_flow(home, log, T_MS, 0)}
    assert found[Metric.WATERMARK_LAG_S] == 0.25
    assert found[Metric.BACKLOG_TICKS] == 0


def test_a_source_that_is_stuck_is_idle_and_makes_nobody_else_lag(home: Home) -> None:
    live(home, SHARD, replace(SHARD, shard=1, newest_tick_ms=T_MS - 60_000))
    log = at_rest(complete_to_ms=T_MS - 250, ticks=10)
    stuck = replace(log.sources[0], name="b", prefix="b:", complete_to_ms=None, arrived_ms=T_MS - 90_000)
    found = {
        (reading.subject, reading.metric): reading.value
        for reading in measure_flow(home, LogState((*log.sources, stuck), 11), T_MS, 0)
    }
    assert found[BARS, Metric.WATERMARK_LAG_S] == 0.25
    assert found[MARKET, Metric.IDLE_S] == 0.4
    assert found[Subject(Kind.SOURCE, "b"), Metric.IDLE_S] == 90


def test_the_latency_is_what_the_newest_ticks_took_to_their_bars(home: Home) -> None:
    stores = Stores(home)
    stores.write([(T_MS, "AAA", 5.0, 1.0)], closed_to_ms=T_MS)
    stores.close()
    store = BarStore.open(home.bars_db)
    with store.db.atomic():
        for name, took_ms in (("AAA", 300), ("BBB", 500), ("CCC", 900), ("DDD", 60_000)):
            state = "closed" if name == "DDD" else "forming"  # a bar that closed may have waited long for that
            values = (name, "1h", T_MS, T_MS + 3_600_000, 1, 1, 1, 1, 1, 1, 1, T_MS, T_MS, state, 0, T_MS + took_ms)
            store.db.conn.execute(f"INSERT OR REPLACE INTO bars VALUES ({', '.join('?' * 16)}, 1)", values)
    store.publish(replace(SHARD, frames="1s,1h"))
    store.close()
    log = at_rest(complete_to_ms=T_MS, ticks=10)
    found = {reading.metric: reading.value for reading in measure_flow(home, log, T_MS + 1_000, T_MS)}
    assert (found[Metric.LATENCY_P50_S], found[Metric.LATENCY_P95_S]) == (0.5, 0.9)
    lately = {reading.metric: reading.value for reading in measure_flow(home, log, T_MS + 1_000, T_MS + 600)}
    assert (lately[Metric.LATENCY_P50_S], lately[Metric.LATENCY_P95_S]) == (0.9, 0.9)
    assert Metric.LATENCY_P50_S not in {reading.metric for reading in measure_flow(home, log, T_MS + 1_000, T_MS + 901)}


def test_what_a_job_writes_is_counted_and_never_taken_back(home: Home) -> None:
    bars = pl.DataFrame(
        [("A", "1s", T_MS, T_MS + 1_000, 1.0, 2.0, 0.5, 1.0, None, None, 1, T_MS, T_MS, "forming")],
        {
            **{name: pl.String() for name in ("instrument", "frame")},
            **{name: pl.Int64() for name in ("start_ms", "end_ms")},
            **{name: pl.Float64() for name in ("open", "high", "low", "close", "volume", "vwap")},
            **{name: pl.Int64() for name in ("ticks", "first_tick_ms", "last_tick_ms")},
            "state": pl.String(),
        },
        orient="row",
    )
    for again in range(2):  # a job that goes back to a checkpoint publishes the same once more
        live(home, SHARD, bars=bars)
        found = measured(home, T_MS)
        assert found[BARS, Metric.BARS_WRITTEN] == 1, again
    live(home, SHARD, bars=bars.with_columns(ticks=pl.lit(2, pl.Int64)))
    assert measured(home, T_MS)[BARS, Metric.BARS_WRITTEN] == 2


def test_a_source_that_ended_and_a_recording_have_no_lag(home: Home) -> None:
    with TickLog.open(home.ticks_db) as log:
        log.start_source("replay", live=False)
        log.start_source("market", live=True)
        log.end_source("market")
    live(home, SHARD)
    found = measured(home, T_MS)
    assert {subject for subject, _ in found} == {Subject(Kind.SOURCE, "replay"), BARS}
    assert not {Metric.WATERMARK_LAG_S, Metric.ARRIVAL_DELAY_S} & {metric for _, metric in found}


def test_a_job_that_is_not_meant_to_run_has_no_backlog_and_no_lag(home: Home) -> None:
    """It wrote a moment ago, and the log grows on."""
    live(home, replace(SHARD, shards=1), replace(SHARD, job="other", shards=1, next_sequence=9))
    log = at_rest(complete_to_ms=T_MS - 100, ticks=10)
    found = {reading.subject for reading in measure_flow(home, log, T_MS, 0, {"bars": "The job bars was stopped."})}
    assert found == {MARKET, Subject(Kind.JOB, "other")}


@pytest.mark.parametrize("delete", [False, True])
def test_a_home_knows_which_jobs_rest_and_why(home: Home, *, delete: bool) -> None:
    seconds_stopped(home, delete=delete).close()
    ((name, why),) = jobs_not_running(home).items()
    assert name == "bars"
    assert why.startswith(f"The job bars was {'deleted' if delete else 'stopped'} by os:ada at ")
