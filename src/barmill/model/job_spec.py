"""The job spec: everything that defines one bars job. Validated, stored as JSON, and passed to the job as a file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from barmill.model.frames import Frame, parse_frames
from barmill.platform.kafka_settings import KafkaSettings

MAX_SHARDS = 128
# The class name inside Flink's Kafka connector, which bundles its own Kafka client.
_FILE_PROVIDER = "org.apache.flink.kafka.shaded.org.apache.kafka.common.config.provider.FileConfigProvider"


def _check_frames(frames: object) -> str:
    """Return frames, given as one text or a list of texts, in canonical form. Raise ValueError if they are invalid."""
    parts = frames if isinstance(frames, list) else [frames]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise ValueError('frames are written like "1s,1m,1h"')
    return ",".join(frame.text for frame in parse_frames(",".join(texts)))


class KafkaJobSettings(BaseModel):
    """The Kafka settings of a job: bootstrap brokers, the topic prefix, and further settings of the Kafka client.

    Contains no secrets. The client reads secrets from a file whose path is among its settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str
    prefix: str = ""
    client: dict[str, str] = {}

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """Return the settings without a password: the client reads that from a file on Flink's machines."""
        client: dict[str, str] = {}
        if settings.protocol != "PLAINTEXT":
            client["security.protocol"] = settings.protocol
        if settings.ca_file is not None:
            client |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.ca_file)}
        if settings.certificate_file is not None:
            client |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(settings.certificate_file)}
        if settings.signs_in:
            client |= {
                "sasl.mechanism": settings.mechanism,
                "config.providers": "file",
                "config.providers.file.class": _FILE_PROVIDER,
                "sasl.jaas.config": f"${{file:{settings.job_password_file}:sasl.jaas.config}}",
            }
        return cls(bootstrap=settings.bootstrap, prefix=settings.prefix, client=client)


class BarsJobSpec(BaseModel):
    """The specification of one bars job.

    name: the name of the job. source, sink: the kind of tick log and of bar store (`both` writes to both kinds).
    ticks_db, bars_db, kafka: their locations.
    frames: comma-separated, such as "1s,1m,1h". lateness_ms: how much older than its instrument's newest tick a tick
    may be. allowance_ms: how long after its end a bar stays open for out-of-order ticks.
    shards: the number of parts the instruments are split into, and so the highest parallelism the job can scale to;
    fixed for the life of the job, and on Kafka the number of partitions. parallelism: the number of parallel tasks.
    poll_ms: how often a shard looks for new ticks. commit_ms: how often bars on Kafka are committed and become visible
    to other readers.
    final_only: publish each bar once, when nothing can change it any more (replay), instead of live as it forms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] = "bars"
    source: Literal["sqlite", "kafka"] = "sqlite"
    sink: Literal["sqlite", "kafka", "both"] = "sqlite"
    ticks_db: Path
    bars_db: Path
    kafka: KafkaJobSettings | None = None
    frames: Annotated[str, BeforeValidator(_check_frames)] = "1s,1m,1h"
    lateness_ms: Annotated[int, Field(ge=0)] = 300_000
    allowance_ms: Annotated[int, Field(ge=0)] = 1_000
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1
    parallelism: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1
    poll_ms: Annotated[int, Field(ge=10, le=10_000)] = 50
    commit_ms: Annotated[int, Field(ge=100, le=60_000)] = 1_000
    final_only: bool = False

    @model_validator(mode="after")
    def _has_brokers(self) -> Self:
        if self.uses_kafka and self.kafka is None:
            raise ValueError("a job that reads from or writes to Kafka needs the address of its brokers")
        return self

    @property
    def frame_list(self) -> tuple[Frame, ...]:
        """Return the frames, shortest first."""
        return parse_frames(self.frames)

    @property
    def fold_every_ms(self) -> int:
        """Return how often a shard folds new ticks, in ms. Bars for Kafka are folded at most twice per commit."""
        return max(self.poll_ms, self.commit_ms // 2 if self.writes_to_kafka else 0)

    @property
    def uses_kafka(self) -> bool:
        """Return whether ticks come from Kafka or bars go to Kafka."""
        return self.source == "kafka" or self.writes_to_kafka

    @property
    def writes_to_kafka(self) -> bool:
        """Return whether bars go to Kafka."""
        return self.sink != "sqlite"

    @property
    def writes_to_sqlite(self) -> bool:
        """Return whether the job writes bars to SQLite itself."""
        return self.sink != "kafka"

    def topic(self, name: str) -> str:
        """Return the full name of a Barmill topic such as "bars"."""
        return self._kafka_settings.prefix + name

    def client_options(self) -> dict[str, str]:
        """Return the options with which a table of Flink's Kafka connector reaches the brokers."""
        settings = {"bootstrap.servers": self._kafka_settings.bootstrap, **self._kafka_settings.client}
        return {f"properties.{name}": value for name, value in settings.items()}

    @property
    def _kafka_settings(self) -> KafkaJobSettings:
        assert self.kafka is not None
        return self.kafka

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec file. Raise pydantic.ValidationError if it is invalid, or OSError if it cannot be read."""
        return cls.model_validate_json(path.read_text("utf-8"))
