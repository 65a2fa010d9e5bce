"""What the feed of one home does: which provider it reads, and how long its ticks are kept."""

from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from control.kafka.settings import KafkaConnection
from control.settings_file import SettingsFile
from feed.intake import DEFAULT_DUPLICATE_WINDOW_MS, DEFAULT_FUTURE_TOLERANCE_MS


class PricesTopic(KafkaConnection):
    """A topic on which others publish prices, one JSON object a message, and the brokers that have it.

    live: their time stamps are those of the wall clock, so what comes is complete up to now as soon as all is read.
    """

    topic: str = Field(min_length=1)
    live: bool = True


class FeedSettings(SettingsFile):
    """Settings of the feed, read from feed.json in the home; without that file, the demo market.

    files, speed: for the provider `replay`. kafka: for the provider `kafka`. columns: for both, our name by theirs.
    exchange_zone: whose clocks the exchange goes by, an IANA name; it only decides how times are shown.
    keep_days, keep_gb: ticks older than that, or beyond that size, leave the log, whole blocks at a time.
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
            raise ValueError("is no time zone such as America/New_York")
        return value

    @model_validator(mode="after")
    def _knows_its_topic(self) -> Self:
        if self.provider == "kafka" and (self.kafka is None or not self.kafka.bootstrap):
            raise ValueError('the provider kafka needs {"kafka": {"bootstrap": "host:port", "topic": "prices"}}')
        return self
