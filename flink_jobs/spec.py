"""The job spec: everything that makes one bars job, validated, stored as JSON and handed to the job as a file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bar.frames import Frame, parse_frames

MAX_SHARDS = 128


def _check_frames(frames: object) -> str:
    """Take frames as one text or as a list of texts, and return them in their usual form."""
    parts = frames if isinstance(frames, list) else [frames]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise ValueError('frames are written like "1s,1m,1h"')
    return ",".join(frame.text for frame in parse_frames(",".join(texts)))


class KafkaPlace(BaseModel):
    """Where Kafka is: brokers to ask first, what topics begin with, and further settings of Kafka's own client.

    Nothing here is secret: what is, the client reads from a file that it is told of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str
    prefix: str = ""
    client: dict[str, str] = {}


class BarsJobSpec(BaseModel):
    """One bars job.

    name: what people call the job. source, sink: the kind of tick log and of bar store, or both of these; ticks_db,
    bars_db, kafka: where they are.
    frames: comma-separated, such as "1s,1m,1h". lateness_ms: how much older than its instrument's newest tick a tick
    may be. allowance_ms: how long after its end a bar stays open for ticks out of order.
    shards: into how many parts the instruments are split, the most the job can ever scale to; fixed for its life, and
    on Kafka the number of partitions. commit_ms: how often bars on Kafka are committed, which is when others see them.
    final_only: publish each bar once, when nothing can change it any more (replay), instead of live as it forms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] = "bars"
    source: Literal["sqlite", "kafka"] = "sqlite"
    sink: Literal["sqlite", "kafka", "both"] = "sqlite"
    ticks_db: Path
    bars_db: Path
    kafka: KafkaPlace | None = None
    frames: Annotated[str, BeforeValidator(_check_frames)] = "1s,1m,1h"
    lateness_ms: Annotated[int, Field(ge=0)] = 300_000
    allowance_ms: Annotated[int, Field(ge=0)] = 1_000
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1
    parallelism: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1
    poll_ms: Annotated[int, Field(ge=10, le=10_000)] = 50
    commit_ms: Annotated[int, Field(ge=100, le=60_000)] = 1_000
    final_only: bool = False

    @model_validator(mode="after")
    def _knows_its_brokers(self) -> Self:
        if self.uses_kafka and self.kafka is None:
            raise ValueError("a job that reads from or writes to Kafka must be told where it is")
        return self

    @property
    def frame_list(self) -> tuple[Frame, ...]:
        """Return the frames, shortest first."""
        return parse_frames(self.frames)

    @property
    def fold_every_ms(self) -> int:
        """Return how often a shard folds what has come; bars for Kafka hardly more often than they are committed."""
        return max(self.poll_ms, self.commit_ms // 2 if self.to_kafka else 0)

    @property
    def uses_kafka(self) -> bool:
        """Tell whether ticks come from Kafka or bars go there."""
        return self.source == "kafka" or self.to_kafka

    @property
    def to_kafka(self) -> bool:
        """Tell whether bars go to Kafka."""
        return self.sink != "sqlite"

    @property
    def to_sqlite(self) -> bool:
        """Tell whether the job itself writes bars to SQLite."""
        return self.sink != "kafka"

    def topic(self, name: str) -> str:
        """Return the full name of one of our topics, such as "bars"."""
        return self._place.prefix + name

    def client_options(self) -> dict[str, str]:
        """Return what a table of Flink's Kafka connector is told to reach the brokers."""
        settings = {"bootstrap.servers": self._place.bootstrap, **self._place.client}
        return {f"properties.{name}": value for name, value in settings.items()}

    @property
    def _place(self) -> KafkaPlace:
        assert self.kafka is not None
        return self.kafka

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec file; raise pydantic.ValidationError or OSError if it is not one."""
        return cls.model_validate_json(path.read_text("utf-8"))
