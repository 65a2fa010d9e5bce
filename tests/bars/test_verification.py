"""What the comparison with a recomputation makes of bars that are newer than the progress beside them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bar.verification import Verdict, verify
from tests.bars.test_shard import Market


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """A market whose bars hold five ticks, while progress speaks of three, as it may be when both come from Kafka."""
    one = Market(tmp_path)
    one.arrive((100, "A", 1.0, 2.0), (300, "A", 3.0, 1.0), (1_200, "A", 2.0, 1.0))
    known = one.store.db.conn.execute("SELECT next_sequence, read FROM progress").fetchone()
    one.arrive((700, "A", 9.0, 1.0), (2_100, "A", 5.0, 1.0))
    with one.store.db.atomic():
        one.store.db.conn.execute("UPDATE progress SET next_sequence = ?, read = ?", known)
    yield one
    one.log.close()
    one.store.close()


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
