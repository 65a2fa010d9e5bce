"""Settings of the feed of a home: the provider it reads, and how long its ticks are kept."""

from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from barmill.platform.kafka_settings import KafkaConnection
from barmill.platform.settings_file import SettingsFile

DEFAULT_FUTURE_TOLERANCE_MS = 5_000
DEFAULT_DUPLICATE_WINDOW_MS = 300_000


class PricesTopic(KafkaConnection):
    """A Kafka topic with prices from another publisher, one JSON object per message, and its brokers.

    live: the time stamps follow the wall clock, so the data is complete up to now once everything is read.
    """

    topic: str = Field(min_length=1)
    live: bool = True


class FeedSettings(SettingsFile):
    """Settings of the feed, read from feed.json in the home. Without that file, the feed reads the demo market.

    files, speed: for the provider `replay`; speed is relative to real time, or null to read without pauses.
    kafka: for the provider `kafka`.
    columns: for these two providers, the source's column name to Barmill's, such as {"ts": "time"}.
    duplicate_window_ms: how long the ids of ticks are remembered, to reject duplicates.
    future_tolerance_ms: how far ahead of the clock the time of a tick may be.
    exchange_zone: the time zone of the exchange, an IANA name; only affects how times are displayed.
    keep_days, keep_gb: ticks beyond this age or size are removed from the log, whole blocks at a time, but not ticks
    that a running job has not read yet. keep_days also keeps those that a stopped job has not read.
    """

    file_name = "feed.json"

    provider: Literal["market", "replay", "kafka"] = "market"
    files: tuple[Path, ...] = ()
    columns: dict[str, str] = Field(default_factory=dict)
    speed: float | None = Field(default=1.0, gt=0)
    kafka: PricesTopic | None = None
    duplicate_window_ms: int = Field(default=DEFAULT_DUPLICATE_WINDOW_MS, ge=0)
    future_tolerance_ms: int = Field(default=DEFAULT_FUTURE_TOLERANCE_MS, ge=0)
    exchange_zone: str = "UTC"
    keep_days: float = Field(default=7, gt=0)
    keep_gb: float = Field(default=10, gt=0)

    @field_validator("exchange_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("must be a time zone such as America/New_York")
        return value

    @model_validator(mode="after")
    def _has_topic(self) -> Self:
        if self.provider == "kafka" and (self.kafka is None or not self.kafka.bootstrap):
            raise ValueError('the provider kafka requires {"kafka": {"bootstrap": "host:port", "topic": "prices"}}')
        return self
