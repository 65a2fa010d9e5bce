"""The bars job: ticks from the tick log into bars of every frame, published to the bar store.

1. Source: messages of the tick log on Kafka; or wake-ups, one row a second sent to every shard, which then reads the
   log on SQLite itself.
2. Fold: each shard takes the log on from its cursor, checks lateness, folds and keeps what can still change.
3. Publish: bars that changed, closed or settled go to the store, to Kafka or to both, with late ticks and progress.

Run by the JobManager as `flink_jobs/bars.py --spec SPEC.json`.
"""

import argparse
from pathlib import Path

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from flink_jobs.kafka_sink import INSERT_SQL, messages_sql
from flink_jobs.kafka_source import ticks_sql
from flink_jobs.operators import BYTES, EveryShard, GatherAndFold, PollAndFold, Publish, ToTexts
from flink_jobs.spec import MAX_SHARDS, BarsJobSpec

WAKE_UPS_SQL = "CREATE TEMPORARY TABLE wake_ups (n TINYINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')"
TEXTS = Types.ROW_NAMED(["topic", "lines"], [Types.STRING(), Types.OBJECT_ARRAY(Types.STRING())])


def build(env: StreamExecutionEnvironment, spec: BarsJobSpec, spec_path: Path) -> None:
    """Add the whole job to the environment."""
    # What wakes the shards and what writes is one, whatever the job is rescaled to; only the shards are spread. With
    # Kafka at its beginning all is spread but what writes to SQLite.
    spread = spec.source == "kafka"
    env.set_max_parallelism(MAX_SHARDS if spread else 1)
    env.set_parallelism(spec.parallelism if spread else 1)
    tables = StreamTableEnvironment.create(env)

    # 1. Source, 2. Fold
    publications = (from_kafka if spread else from_sqlite)(tables, spec, spec_path)

    # 3. Publish
    if spec.to_sqlite:
        written = publications.map(Publish(spec_path), Types.INT()).name("publish").uid("publish").disable_chaining()
        written.set_max_parallelism(1).set_parallelism(1)
    if spec.to_kafka:
        # A transaction lasts from one checkpoint to the next.
        env.enable_checkpointing(spec.commit_ms)
        # Those that fell due while Kafka was away would else come all at once.
        env.get_checkpoint_config().set_min_pause_between_checkpoints(spec.commit_ms // 2)
        # Else each message taken out of a publication drags a copy of all the others along.
        env.get_config().enable_object_reuse()
        to_kafka(tables, publications, spec, spec_path)


def from_sqlite(tables: StreamTableEnvironment, spec: BarsJobSpec, spec_path: Path) -> DataStream:
    """Return the publications of shards that poll the tick log on SQLite."""
    tables.execute_sql(WAKE_UPS_SQL)
    wake_ups = tables.to_data_stream(tables.from_path("wake_ups"))
    shards = wake_ups.flat_map(EveryShard(spec.shards), Types.INT()).name("wake every shard")
    publications = shards.key_by(lambda shard: shard, Types.INT()).process(PollAndFold(spec_path), BYTES)
    publications.name("poll and fold").uid("poll-and-fold")
    return publications.set_max_parallelism(MAX_SHARDS).set_parallelism(spec.parallelism)


def from_kafka(tables: StreamTableEnvironment, spec: BarsJobSpec, spec_path: Path) -> DataStream:
    """Return the publications of shards that are given the messages of their partitions."""
    tables.execute_sql(ticks_sql(spec))
    ticks = tables.to_data_stream(tables.from_path("ticks"))
    publications = ticks.key_by(lambda row: row[1], Types.INT()).process(GatherAndFold(spec_path), BYTES)
    return publications.name("gather and fold").uid("gather-and-fold")


def to_kafka(tables: StreamTableEnvironment, publications: DataStream, spec: BarsJobSpec, spec_path: Path) -> None:
    """Publish to Kafka; what comes from one shard keeps its order."""
    texts = publications.flat_map(ToTexts(spec_path), TEXTS).name("to texts").uid("to-texts")
    tables.create_temporary_view("texts", texts)
    tables.execute_sql(messages_sql(spec))
    statements = tables.create_statement_set()
    statements.add_insert_sql(INSERT_SQL)
    statements.attach_as_datastream()


def main() -> None:
    """Read the spec named on the command line and run the job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    spec_path = parser.parse_args().spec
    spec = BarsJobSpec.read(spec_path)
    env = StreamExecutionEnvironment.get_execution_environment()
    build(env, spec, spec_path)
    env.execute(spec.name)


if __name__ == "__main__":
    main()
