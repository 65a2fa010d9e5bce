"""Measurements of throughput, latency and memory, most of them run by `barmill bench`.

Each part of `barmill bench` measures separate processes. The parts, their modules, and what they measure:

- replay, instruments (`replay`): ticks per second of a replay, compared with a Polars query (`batch`).
- live, rest, picks (`live`): delay from tick to bar, CPU and memory, under load and at the usual rate; time until the
  feed follows a change of its instruments.
- queries, bulk (`queries`): time of the queries of all views in small and large bar stores; speed of reading all bars.
- moves (`moves`): that bars stay equal while they move into blocks.
- charts, first_chart (`charts`): delay from tick to picture in a browser; time until a chart is shown.
- kafka (`kafka`): rate and delay of a job from Kafka to Kafka.
- start, commands, up (`start`): CPU time of a small replay and of commands that only read; time to the first live bar.
- peers (`peers.compare`): Bytewax, DuckDB and Polars on the same ticks.
- test (`parts`): duration and CPU time of `./barmill test`.

`parts` contains the sizes and most of the parts, `report` prints the results, `goals` contains the figures with their
goals, and `runs` stores them. Run separately: `sessions` (many open browser sessions) and `state` (size of Flink
state). Shared by several: `ticks` (generated input), `private_home` (a Barmill, or a broker and a Flink cluster, to
measure), `browser`, `latency` (delays and percentiles), `usage` (CPU and memory).
"""
