"""Where a Flink job finds Kafka, as its spec says it."""

from control.kafka.settings import KafkaSettings
from flink_jobs.spec import KafkaPlace

# As it is called inside Flink's Kafka connector, which brings a Kafka client of its own.
_FILE_PROVIDER = "org.apache.flink.kafka.shaded.org.apache.kafka.common.config.provider.FileConfigProvider"


def place_of(settings: KafkaSettings) -> KafkaPlace:
    """Return where jobs find Kafka. No password is in it: Kafka's client reads that from a file on Flink's machines."""
    client: dict[str, str] = {}
    if settings.protocol != "PLAINTEXT":
        client["security.protocol"] = settings.protocol
    if settings.ca_file is not None:
        client |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.ca_file)}
    if settings.signs_in:
        client |= {
            "sasl.mechanism": settings.mechanism,
            "config.providers": "file",
            "config.providers.file.class": _FILE_PROVIDER,
            "sasl.jaas.config": f"${{file:{settings.job_password_file}:sasl.jaas.config}}",
        }
    return KafkaPlace(bootstrap=settings.bootstrap, prefix=settings.prefix, client=client)
