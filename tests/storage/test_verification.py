"""What the comparison with a recomputation makes of bars ahead of progress, and of frames that have stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.model.frames import parse_frames
from barmill.storage.coverage import KnownJob
from barmill.storage.verification import Verdict, verify
from tests.support.histories import NO_REJECTS, opened
from tests.support.shard import Market
from tests.support.verification import beside, silent_for


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """A market whose bars hold five ticks, while progress speaks of three, as it may be when both come from Kafka."""
    market = Market(tmp_path)
    market.arrive((100, "A", 1.0, 2.0), (300, "A", 3.0, 1.0), (1_200, "A", 2.0, 1.0))
    known = market.store.db.conn.execute("SELECT next_sequence, read FROM progress").fetchone()
    market.arrive((700, "A", 9.0, 1.0), (2_100, "A", 5.0, 1.0))
    with market.store.db.atomic():
        market.store.db.conn.execute("UPDATE progress SET next_sequence = ?, read = ?", known)
        market.store.db.conn.execute("UPDATE coverage SET next_sequence = ?", known[:1])
    yield market
    market.log.close()
    market.store.close()


def verdict_of(market: Market) -> Verdict:
    return verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)


def keep_from_kafka(market: Market) -> None:
    market.store.db.table("kafka_offsets").create({"topic": str, "partition": int, "next_offset": int})


def test_a_store_that_jobs_write_themselves_is_never_ahead(market: Market) -> None:
    verdict = verdict_of(market)
    assert (verdict.different, verdict.ahead) == (3, 0)


def test_bars_from_kafka_that_are_ahead_hold_the_ticks_that_came_first(market: Market) -> None:
    keep_from_kafka(market)
    verdict = verdict_of(market)
    assert (verdict.different, verdict.ahead, verdict.bars) == (0, 3, 4)


@pytest.mark.parametrize("wrong", ["high = 8.0", "ticks = 2"])
def test_bars_from_kafka_that_are_wrong_are_found_all_the_same(market: Market, wrong: str) -> None:
    keep_from_kafka(market)
    with market.store.db.atomic():
        market.store.db.conn.execute(f"UPDATE bars SET {wrong} WHERE frame = '1s' AND high = 9.0")
    assert verdict_of(market).different == 1


def test_what_pages_make_of_stored_bars_is_compared_too(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        verdict = beside(history, minutes=40)
        assert (verdict.different, verdict.good) == (0, True)
        # 5s, 15s and 30s, then 5m, 15m and 30m, then 1h, 4h and 1d; only 1s and 1m are shown as they are stored.
        assert verdict.shown == 3 * 80 + (9 + 4 + 2) + 3
        with history.store.db.atomic():
            history.store.db.execute("UPDATE coverage SET next_sequence = 999 WHERE job = 'fives'")
        wrong = verify(tmp_path / "ticks.sqlite", tmp_path / "bars.sqlite", lambda _: None)
        assert wrong.shown_different > 0


def test_a_frame_that_stopped_while_others_go_on_is_a_failure(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        beside(history, minutes=4)
        silent_for(history, "fives", 61_000)
        history.delete("fives")
        verdict = verify(tmp_path / "ticks.sqlite", tmp_path / "bars.sqlite", lambda _: None)
        assert (verdict.different, verdict.good) == (0, False)
        assert [line.split(":")[0] for line in verdict.stopped] == ["5s", "5m"]
        assert verdict.stopped[0].endswith(", although other frames are up to date; start a job that makes them.")


@pytest.mark.parametrize("now_made", ["", "1s", "1s,5m"])
def test_a_frame_that_no_job_makes_any_more_is_a_note(tmp_path: Path, now_made: str) -> None:
    with opened(tmp_path) as history:
        beside(history, minutes=4)
        silent_for(history, "fives", 61_000)
        jobs = [
            KnownJob("bars", frozenset(parse_frames("1s,1m")), should_run=True),
            KnownJob("fives", frozenset(parse_frames(now_made) if now_made else ()), should_run=False),
        ]
        verdict = verify(tmp_path / "ticks.sqlite", tmp_path / "bars.sqlite", lambda _: None, jobs)
        made = {"5m"} if "5m" in now_made else set()
        assert {line.split(":")[0] for line in verdict.given_up} == {"5s", "5m"} - made
        assert {line.split(":")[0] for line in verdict.stopped} == made
        assert verdict.good == (not made)
        assert verdict.given_up[0].startswith("5s: no job makes these bars now; the job fives made the last ones")
        wrong = verify(tmp_path / "ticks.sqlite", tmp_path / "bars.sqlite", lambda _: None, jobs[:1])
        assert len(wrong.stopped) == 2  # nothing is known of who made them


@pytest.mark.parametrize("wanted", [False, True])
def test_a_frame_whose_job_should_run_but_does_not_read_is_a_failure(tmp_path: Path, wanted: bool) -> None:
    jobs = [KnownJob("bars", frozenset(parse_frames("1s,1m")), wanted)]
    with opened(tmp_path) as history:
        history.create("bars", "1s,1m")
        history.start("bars")
        history.arrive([(0, "A", 1.0, 1.0)])
        history.poll("bars")
        silent_for(history, "bars", 61_000)
        with history.log.db.atomic():
            history.log.db.execute("UPDATE blocks SET received_ms = (SELECT updated_ms FROM sources)")
        files = tmp_path / "ticks.sqlite", tmp_path / "bars.sqlite"
        assert verify(*files, lambda _: None, jobs).stopped == []  # all there is was read
        batch = history.ticks.drop("sequence")
        history.log.append("market", batch, NO_REJECTS, read=1, cursor="", complete_to_ms=None)
        assert [line.split(":")[0] for line in verify(*files, lambda _: None, jobs).stopped] == (
            ["1s", "1m"] if wanted else []
        )
