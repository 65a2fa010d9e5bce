"""The bars job, which folds the ticks of the tick log into bars of every frame and publishes them.

1. Source: messages of the tick log on Kafka; or one wake-up per second for every shard. A shard's first wake-up starts
   its polls of the log on SQLite.
2. Fold: each shard takes the ticks after its cursor, separates late ticks, folds the others, and keeps the bars that
   can still change.
3. Publish: bars that changed or closed go to the bar store, to Kafka or to both, with late ticks and progress. A replay
   publishes each bar once, when it cannot change any more.

Run by the JobManager as `flink_jobs/bars.py --spec SPEC.json`.
"""

import argparse
from pathlib import Path

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment

from barmill.model.job_spec import MAX_SHARDS, BarsJobSpec
from flink_jobs.kafka_sink import INSERT_SQL, messages_sql
from flink_jobs.operators import BYTES, GatherAndFold, PollAndFold, Publish, ToLines, WakeEveryShard
from flink_jobs.sources import ticks_sql

TOPIC_LINES = Types.ROW_NAMED(["topic", "lines"], [Types.STRING(), Types.OBJECT_ARRAY(Types.STRING())])


def build(env: StreamExecutionEnvironment, spec: BarsJobSpec, spec_path: Path) -> None:
    """Add the complete job to the environment."""
    # Without Kafka, a rescale changes only the shards; all else has one subtask. If Kafka is the source, everything is
    # parallel except the writer to SQLite.
    uses_kafka = spec.source == "kafka"
    env.set_max_parallelism(MAX_SHARDS if uses_kafka else 1)
    env.set_parallelism(spec.parallelism if uses_kafka else 1)
    # Only Kafka needs tables: their planner takes two to three seconds of CPU time to start.
    tables = StreamTableEnvironment.create(env) if uses_kafka or spec.writes_to_kafka else None

    # 1. Source, 2. Fold
    publications = from_kafka(tables, spec, spec_path) if uses_kafka else from_sqlite(env, spec, spec_path)

    # 3. Publish
    if spec.writes_to_sqlite:
        row_counts = publications.map(Publish(spec_path), Types.INT()).name("publish").uid("publish").disable_chaining()
        row_counts.set_max_parallelism(1).set_parallelism(1)
    if spec.writes_to_kafka:
        # A transaction lasts from one checkpoint to the next.
        env.enable_checkpointing(spec.commit_ms)
        # Otherwise all checkpoints that were due during a Kafka outage would follow without a pause.
        env.get_checkpoint_config().set_min_pause_between_checkpoints(spec.commit_ms // 2)
        # Otherwise Flink copies all messages of a publication for each message that it extracts.
        env.get_config().enable_object_reuse()
        to_kafka(tables, publications, spec, spec_path)


def wake_ups(env: StreamExecutionEnvironment) -> DataStream:
    """Return an endless stream of one number per second."""
    # PyFlink has no wrapper for this source; the `datagen` connector of tables uses it, too.
    datagen = get_gateway().jvm.org.apache.flink.streaming.api.functions.source.datagen
    source = datagen.DataGeneratorSource(datagen.RandomGenerator.intGenerator(0, 1), 1, None)
    type_info = Types.INT().get_java_type_info()
    return DataStream(env._j_stream_execution_environment.addSource(source, "wake_ups", type_info))


def from_sqlite(env: StreamExecutionEnvironment, spec: BarsJobSpec, spec_path: Path) -> DataStream:
    """Return the publications of shards that poll the tick log on SQLite."""
    shards = wake_ups(env).flat_map(WakeEveryShard(spec.shards), Types.INT()).name("wake every shard")
    publications = shards.key_by(lambda shard: shard, Types.INT()).process(PollAndFold(spec_path), BYTES)
    publications.name("poll and fold").uid("poll-and-fold")
    return publications.set_max_parallelism(MAX_SHARDS).set_parallelism(spec.parallelism)


def from_kafka(tables: StreamTableEnvironment, spec: BarsJobSpec, spec_path: Path) -> DataStream:
    """Return the publications of shards that receive the messages of their partitions."""
    tables.execute_sql(ticks_sql(spec))
    ticks = tables.to_data_stream(tables.from_path("ticks"))
    publications = ticks.key_by(lambda row: row[1], Types.INT()).process(GatherAndFold(spec_path), BYTES)
    return publications.name("gather and fold").uid("gather-and-fold")


def to_kafka(tables: StreamTableEnvironment, publications: DataStream, spec: BarsJobSpec, spec_path: Path) -> None:
    """Add the sink that publishes to Kafka; the messages of a shard keep their order."""
    texts = publications.flat_map(ToLines(spec_path), TOPIC_LINES).name("to texts").uid("to-texts")
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
