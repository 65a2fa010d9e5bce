"""Whether a home uses Kafka, and how its brokers are reached."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from control.home import Home
from control.settings_file import SettingsFile


class KafkaConnection(BaseModel):
    """How brokers are reached.

    bootstrap: brokers to ask first, "host:port,host:port".
    username, password_key, ca_file: how to sign in, where `protocol` says so; password_key is a name in the key store.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str = ""
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password_key: str = ""
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _can_sign_in(self) -> Self:
        if self.signs_in and not (self.username and self.password_key):
            raise ValueError(f"{self.protocol} needs a username and a password_key, the name of a key in the key store")
        return self

    @property
    def signs_in(self) -> bool:
        """Tell whether the brokers want to know who one is."""
        return self.protocol.startswith("SASL_")

    def client(self, password: str | None = None) -> dict[str, str | int | float | bool]:
        """Return what any client of librdkafka is told to reach the brokers; `password` where `signs_in`."""
        found: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.max.ms": 2_000,  # brokers that were away are found again soon
            "security.protocol": self.protocol,
        }
        if self.ca_file is not None:
            found["ssl.ca.location"] = str(self.ca_file)
        if self.signs_in:
            found |= {"sasl.mechanism": self.mechanism, "sasl.username": self.username, "sasl.password": password or ""}
        return found


class KafkaSettings(SettingsFile, KafkaConnection):
    """Settings of Kafka, read from kafka.json in the home; without that file, Kafka is not used.

    prefix: put before the name of every topic. replication: of topics that are made.
    partitions: of the topic of ticks, which is also the number of shards; fixed as soon as the topic is there.
    job_password_file: where a Flink job, which may not see the key store, finds how to sign in, on its own machine.
    own_broker: the broker is this home's, made by ./barmill up --kafka, which then writes `bootstrap` at each start.
    """

    file_name = "kafka.json"

    prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    partitions: int = Field(default=8, ge=1, le=128)
    replication: int = Field(default=1, ge=1)
    own_broker: bool = False
    job_password_file: Path | None = None

    @property
    def used(self) -> bool:
        """Tell whether this home uses Kafka at all."""
        return self.own_broker or bool(self.bootstrap)

    def topic(self, name: str) -> str:
        """Return the full name of one of our topics, such as "ticks"."""
        return self.prefix + name

    @classmethod
    def write(cls, home: Home, settings: Self) -> None:
        """Write the settings of a home."""
        path = home.root / cls.file_name
        beside = path.with_suffix(".new")
        beside.write_text(settings.model_dump_json(indent=2, exclude_defaults=True) + "\n")
        beside.replace(path)


NO_KAFKA = KafkaSettings()
