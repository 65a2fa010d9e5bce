"""A job like the bars job, as small as can be: it counts rows in Flink state and writes the count into a file.

Run as `counter.py --spec SPEC.json`; the spec's `bars_db` names the file.
"""

import argparse
from pathlib import Path

from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.table import StreamTableEnvironment

from barmill.model.job_spec import BarsJobSpec

ROWS_SQL = "CREATE TEMPORARY TABLE numbers (n TINYINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10')"


class Count(KeyedProcessFunction):  # type: ignore[misc]
    def __init__(self, target: Path) -> None:
        self._target = str(target)

    def open(self, runtime_context: RuntimeContext) -> None:
        self._count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, _value: object, _ctx: object) -> None:
        count = (self._count.value() or 0) + 1
        self._count.update(count)
        with Path(self._target).open("a") as file:
            file.write(f"{count}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path, required=True)
    spec = BarsJobSpec.read(parser.parse_args().spec)
    env = StreamExecutionEnvironment.get_execution_environment()
    tables = StreamTableEnvironment.create(env)
    tables.execute_sql(ROWS_SQL)
    rows = tables.to_data_stream(tables.from_path("numbers")).map(lambda _: 0, Types.INT())
    rows.key_by(lambda key: key, Types.INT()).process(Count(spec.bars_db), Types.INT()).uid("count").print()
    env.execute(spec.name)


if __name__ == "__main__":
    main()
