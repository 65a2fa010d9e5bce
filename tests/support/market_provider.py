"""Helpers of test_market_provider.py that other tests use too."""

from collections.abc import Callable
from typing import Any

from barmill.ingest.connection.provider import Batch

TICK_FIELDS = ("time", "instrument", "price_open", "price_close", "volume", "id")


def rows_of(batches: list[Batch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.ticks.to_dicts()]


def fields_of(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: tick[name] for name in TICK_FIELDS} for tick in ticks]


def ticks(count: int) -> Callable[[list[Batch]], bool]:
    return lambda batches: sum(batch.ticks.height for batch in batches) >= count
