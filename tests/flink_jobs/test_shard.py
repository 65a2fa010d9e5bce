"""A shard over a real tick log and store, with the market's clock in the test's hand."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from barmill.model.tick import REJECT_SCHEMA
from barmill.storage.reader import BarReader
from barmill.storage.verification import verify
from flink_jobs.shard import Delivery, Shard
from tests.support.shard import LATENESS_MS, Market
from tests.support.ticks import START_MS, ticks


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market(tmp_path)
    yield market
    market.assert_true_to_the_log()


def test_a_quiet_instrument_closes_when_the_source_says_it_is_complete(market: Market) -> None:
    market.arrive((100, "A", 1.0), complete_to=200)
    assert market.bars() == [(0, "forming", 1, 0)]
    market.arrive((1_900, "B", 1.0), complete_to=1_999)
    assert market.bars() == [(0, "forming", 1, 0)]
    market.arrive(complete_to=2_000)  # the end of the bar and the allowance of a second
    assert market.bars() == [(0, "closed", 1, 0)]
    assert market.bars("1m") == [(-20, "forming", 1, 0)]


def test_nothing_closes_by_the_clock_while_the_feed_says_nothing(market: Market) -> None:
    market.arrive((100, "A", 1.0), complete_to=200)
    for _ in range(5):
        market.poll()
    assert market.bars() == [(0, "forming", 1, 0)]


def test_nothing_closes_by_the_clock_while_the_job_is_behind(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flink_jobs.sources.MAX_ROWS_PER_POLL", 1)
    market.arrive((100, "A", 1.0))
    no_rejects = pl.DataFrame(schema=REJECT_SCHEMA)
    for at in (200, 300):
        batch = ticks((at, "A", 1.0)).drop("sequence")
        market.log.append("market", batch, no_rejects, read=1, cursor="", complete_to_ms=START_MS + 9_000)
    market.poll()
    assert market.bars() == [(0, "forming", 2, 0)]
    market.poll()
    assert market.bars() == [(0, "closed", 3, 0)]


def test_a_late_tick_revises_and_the_old_version_stays_readable(market: Market) -> None:
    market.arrive((100, "A", 1.0), (5_000, "A", 2.0), complete_to=5_000)
    assert market.bars()[0] == (0, "closed", 1, 0)
    market.arrive((200, "A", 3.0))
    assert market.bars()[0] == (0, "revised", 2, 1)
    market.arrive((300, "A", 4.0))
    assert market.bars()[0] == (0, "revised", 3, 2)
    old = BarReader.open(market.spec.bars_db).revisions("A", "1s", START_MS)
    assert old.select("ticks", "close", "state").rows() == [(1, 1.0, "closed"), (2, 3.0, "revised")]


def test_a_tick_beyond_the_lateness_is_kept_as_a_reject(market: Market) -> None:
    market.arrive((LATENESS_MS + 500, "A", 1.0))
    market.arrive((499, "A", 9.0), (500, "A", 2.0))
    assert market.bars() == [(0, "closed", 1, 0), (60, "forming", 1, 0)]
    rejects = BarReader.open(market.spec.bars_db).rejects()
    assert rejects.select("source", "sequence", "reason", "late_ms", "price_open").rows() == [
        ("market", 2, "too_late", LATENESS_MS + 1, "9.0")
    ]


def test_a_restart_publishes_nothing_wrong_and_nothing_new(market: Market) -> None:
    market.arrive((100, "A", 1.0), (1_100, "B", 1.0), complete_to=1_500)
    market.arrive((900, "A", 2.0), (2_500, "A", 1.0), complete_to=2_500)
    before = market.bars(), market.bars("1m")
    market.restart()
    market.poll()
    assert (market.bars(), market.bars("1m")) == before
    market.arrive((950, "A", 5.0), (3_000, "A", 1.0), complete_to=9_000)
    assert market.bars() == [(0, "revised", 3, 1), (2, "closed", 1, 0), (3, "closed", 1, 0)]


def test_a_restart_from_an_old_checkpoint_repeats_what_was_published(market: Market) -> None:
    market.arrive((100, "A", 1.0), complete_to=200)
    cursor, kept = market.taken.cursor, list(market.kept)
    market.arrive((300, "A", 2.0), (5_000, "A", 2.0), complete_to=5_000)
    market.arrive((400, "A", 3.0), complete_to=5_100)
    before = market.bars(), market.bars("1m")
    market.shard, market.source = market.begin()
    market.shard.restore(cursor, kept)
    market.poll()
    assert (market.bars(), market.bars("1m")) == before


def test_a_checkpoint_of_an_earlier_version_continues(market: Market) -> None:
    market.arrive((100, "A", 10.0, 2.0), complete_to=150)
    market.kept = [rows.drop("volume_high", "turnover_high", "turnover_dust") for rows in market.kept]
    market.restart()
    market.arrive((200, "A", 20.0, 2.0), complete_to=5_000)
    market.restart()
    market.arrive((300, "A", 30.0, 2.0), complete_to=9_000)
    assert market.bars() == [(0, "revised", 3, 1)]
    market.assert_true_to_the_log()


def test_when_the_source_has_ended_its_last_bars_close(market: Market) -> None:
    market.arrive((100, "A", 1.0), complete_to=150)
    market.log.end_source("market")
    market.poll()
    assert [state for _, state, _, _ in market.bars() + market.bars("1m")] == ["closed", "closed"]


def test_a_long_run_settles_and_stays_small(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flink_jobs.shard._MAX_DELTAS", 10)
    for second in range(0, 300, 3):
        market.arrive(*((second * 1_000 + n * 7, "AB"[n % 2], 1.0 + n) for n in range(20)), complete_to=second * 1_000)
    held = sum(piece.height for piece in market.kept)
    # Two instruments, one bar of a second every three seconds of the lateness, the minutes, and ten deltas.
    assert held < 2 * (20 + 3) + 10 * 8
    market.restart()
    market.arrive((299_000, "A", 1.0), (300_500, "A", 1.0))


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_share_the_instruments_and_make_the_same_bars(tmp_path: Path, shards: int) -> None:
    names = [f"I{n}" for n in range(12)]
    market = Market(tmp_path, shards=shards)
    others = [market.begin(n) for n in range(1, shards)]
    market.arrive(*((n * 130, names[n % 12], 1.0 + n) for n in range(200)), complete_to=9_000)
    for shard, source in others:
        for publication in shard.fold(source.read_from(1)).publications:
            market.store.publish(publication.progress, publication.bars, publication.late)
    market.assert_true_to_the_log()
    progress = BarReader.open(market.spec.bars_db).progress()
    assert sum(row.read for row in progress) == 200
    assert all(row.read < 200 for row in progress)


def test_publishing_is_what_verify_checks(tmp_path: Path) -> None:
    market = Market(tmp_path)
    market.arrive((100, "A", 1.0), complete_to=150)
    with market.store.db.atomic():
        market.store.db.execute("UPDATE bars SET high = 7 WHERE frame = '1s'")
    verdict = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert verdict.different == 1
    assert "high is 7.0, should be 1.0" in verdict.examples[0]


def test_another_version_of_the_job_makes_its_new_frames_whole(market: Market) -> None:
    market.arrive(*((at * 10_000, "A", 1.0 + at) for at in range(30)))
    market.restart(frames="1m,2m")
    market.arrive((301_000, "A", 9.0), complete_to=302_000)
    whole = [(-80, "closed", 4, 0), (40, "closed", 12, 0), (160, "closed", 12, 0)]
    assert market.bars("2m") == [*whole, (280, "forming", 3, 0)]
    market.arrive((302_500, "A", 9.0))
    assert market.bars("1s")[-1] == (290, "forming", 1, 0)  # no job makes this frame any more
    market.assert_true_to_the_log()


def test_another_version_of_the_job_goes_on_where_it_was_if_it_needs_no_more(market: Market) -> None:
    market.arrive((0, "A", 1.0), (500, "A", 2.0))
    market.restart(lateness_ms=LATENESS_MS // 2)
    market.poll()
    assert market.taken.cursor.next_sequence == 3
    assert market.taken.cursor.read == 2
    market.arrive((700, "A", 3.0))
    assert market.bars()[0][2] == 3


def test_a_longer_lateness_takes_back_what_was_refused(market: Market) -> None:
    late = (0, "A", 1.0)
    market.arrive((0, "A", 5.0), (LATENESS_MS + 5_000, "A", 2.0), late)
    assert BarReader.open(market.spec.bars_db).reject_count() == 1
    market.restart(lateness_ms=2 * LATENESS_MS)
    market.poll()
    assert BarReader.open(market.spec.bars_db).reject_count() == 0
    assert market.bars()[0] == (0, "revised", 2, 1)
    market.assert_true_to_the_log()


def test_of_two_jobs_on_one_frame_the_more_patient_one_has_the_last_word(tmp_path: Path) -> None:
    market = Market(tmp_path)
    market.arrive((0, "A", 5.0), (LATENESS_MS + 5_000, "A", 2.0), (0, "A", 1.0))
    patient = market.spec.model_copy(update={"name": "patient", "frames": "1s", "lateness_ms": 2 * LATENESS_MS})
    for publication in Shard(patient, 0).fold(market.source.read_from(1)).publications:
        market.store.publish(
            publication.progress, publication.bars, publication.late, publication.read_again_from, publication.reason
        )
    assert market.bars("1s")[0] == (0, "revised", 2, 1)
    assert market.bars("1m")[0] == (-20, "closed", 1, 0)
    verdict = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert (verdict.different, verdict.examples) == (0, [])


def test_what_is_missing_reaches_to_the_newest_of_all_gaps(tmp_path: Path) -> None:
    shard = Market(tmp_path).shard
    for first, missing_to_ms in ((5, 9_000), (8, 4_000)):  # nothing was published between them
        cursor = shard.fold(Delivery(None, first, first, True, None, (), missing_to_ms)).cursor
    assert (cursor.begun_sequence, cursor.missing_to_ms) == (8, 9_000)
