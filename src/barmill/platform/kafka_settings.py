"""The Kafka settings of a home: whether it uses Kafka, and how to connect to the brokers."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from barmill.platform.file_replacement import replace_file
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsFile


class KafkaConnection(BaseModel):
    """The settings of a connection to brokers.

    bootstrap: the bootstrap brokers, "host:port,host:port".
    username, password_key, ca_file: credentials, if `protocol` requires them; password_key is a name in the key store.
    certificate_file: PEM file with a certificate and its private key, for brokers that require client certificates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str = ""
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password_key: str = ""
    ca_file: Path | None = None
    certificate_file: Path | None = None

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if self.signs_in and not (self.username and self.password_key):
            raise ValueError(
                f"{self.protocol} requires a username and a password_key, the name of a key in the key store"
            )
        return self

    @property
    def signs_in(self) -> bool:
        """Return whether the brokers require a user name and password."""
        return self.protocol.startswith("SASL_")

    def client(self, password: str | None = None) -> dict[str, str | int | float | bool]:
        """Return the connection settings for a librdkafka client. `password` is required if `signs_in`."""
        options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.max.ms": 2_000,  # reconnect soon after an outage of the brokers
            "security.protocol": self.protocol,
        }
        if self.ca_file is not None:
            options["ssl.ca.location"] = str(self.ca_file)
        if self.certificate_file is not None:
            options |= dict.fromkeys(("ssl.certificate.location", "ssl.key.location"), str(self.certificate_file))
        if self.signs_in:
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": password or "",
            }
        return options


class KafkaSettings(SettingsFile, KafkaConnection):
    """Settings of Kafka, read from kafka.json in the home. Without that file, Kafka is not used.

    prefix: put before the name of every topic.
    replication: the number of copies of each topic that Barmill creates.
    partitions: the number of partitions of the topic of ticks, and so of shards; fixed once the topic exists.
    job_password_file: where a Flink job, which has no access to the key store, finds its credentials on its own
    machine.
    own_broker: the broker belongs to this home; ./barmill up --kafka creates it and writes its address at each start.
    """

    file_name = "kafka.json"

    prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    partitions: int = Field(default=8, ge=1, le=128)
    replication: int = Field(default=1, ge=1)
    own_broker: bool = False
    job_password_file: Path | None = None

    @property
    def is_used(self) -> bool:
        """Return whether this home uses Kafka."""
        return self.own_broker or bool(self.bootstrap)

    def topic(self, name: str) -> str:
        """Return the full name of a Barmill topic such as "ticks"."""
        return self.prefix + name

    @classmethod
    def write(cls, home: Home, settings: Self) -> None:
        """Write the settings of a home."""
        replace_file(home.root / cls.file_name, settings.model_dump_json(indent=2, exclude_defaults=True) + "\n")


NO_KAFKA = KafkaSettings()
