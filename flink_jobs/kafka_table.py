"""Tables of Flink's Kafka connector."""

from collections.abc import Mapping

from flink_jobs.spec import BarsJobSpec


def kafka_table_sql(name: str, columns: str, spec: BarsJobSpec, options: Mapping[str, str]) -> str:
    """Return the statement that makes a table of a topic, or of several."""
    every = {"connector": "kafka", **spec.client_options(), **options}
    listed = ", ".join("'{}' = '{}'".format(key, value.replace("'", "''")) for key, value in every.items())
    return f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({listed})"
