"""The results as a text to read."""

from collections.abc import Iterator, Sequence
from typing import Any

Part = dict[str, Any]


def as_text(result: dict[str, Any]) -> str:
    """Return all figures as tables."""
    writers = {
        "replay": _replay,
        "instruments": _instruments,
        "live": _live,
        "picks": _picks,
        "queries": _queries,
        "charts": _charts,
        "first_chart": _first_chart,
        "kafka": _kafka,
        "peers": _peers,
    }
    lines = [_machine(result["machine"])]
    for name, write in writers.items():
        part = result.get(name)
        if part is not None:
            lines += ["", *([part["not_measured"]] if "not_measured" in part else write(part))]
    return "\n".join(lines)


def _machine(machine: Part) -> str:
    return (
        f"{machine['cores']} cores of {machine['cpu_model']}, {machine['memory_gb']} GB, {machine['system']},"
        f" Python {machine['python']}; load average at the start {machine['load_average_1min_at_start']}"
    )


def _replay(part: Part) -> Iterator[str]:
    yield f"Replay of {part['instruments']} instruments into {part['frames']}"
    heads = ("ticks", "total", "start-up", "ticks/s after it", "CPU s/M", "of it TaskManager", "others' CPU")
    yield from _table(heads, [(*_rate_cells(one), *_cpu_cells(one), _others(one)) for one in part["sizes"]])
    between, floor = part["between_sizes"], part["polars_batch"][-1]
    yield (
        f"  between the sizes: {_number(between['ticks_per_s'])} ticks/s, {between['cpu_s_per_million_ticks']} CPU s/M"
        f" (TaskManager {between['taskmanager_cpu_s_per_million_ticks']})"
    )
    if between["disturbed"]:
        yield "  Other programs were at work meanwhile, so that difference says little; measure on a quiet machine."
    large = part["sizes"][1]
    yield (
        f"  The larger one was read into the log at {_number(large['intake_ticks_per_s'])} ticks/s;"
        f" {large['ticks_in_log_when_folding_began']:,} ticks were there when folding began."
    )
    yield (
        f"  Polars batch: {_number(floor['ticks_per_s'])} ticks/s, {floor['cpu_s_per_million_ticks']} CPU s/M,"
        f" {floor['peak_memory_mb']:,} MB; Barmill has {_number(part['share_of_polars_batch_speed'])} of its speed;"
        f" {_compared(floor)}"
    )


def _instruments(part: Part) -> Iterator[str]:
    yield "Replay by number of instruments, CPU without start-up"
    heads = ("instruments", "bars", "ticks", "total", "start-up", "ticks/s after it", "CPU s/M", "others' CPU")
    cpu = "cpu_s_per_million_ticks_without_startup"
    rows = [
        (f"{one['instruments']:,}", f"{one['bars']:,}", *_rate_cells(one), str(one[cpu]), _others(one))
        for one in part["runs"]
        if "not_measured" not in one
    ]
    yield from _table(heads, rows)
    for one in part["runs"]:
        if "not_measured" in one:
            yield f"  {one['instruments']:,} instruments could not be measured: {one['not_measured']}"


def _live(part: Part) -> Iterator[str]:
    yield (
        f"Live: {part['ticks_per_s']:,} ticks/s for {part['window_s']} s"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    delays = part["delay_ms"].items()
    heads = ("delay in ms", "p50", "p95", "p99", "max")
    yield from _table(heads, [(_words(name), *map(str, found.values())) for name, found in delays])
    rows = [*part["processes"].items(), ("all", part["all_processes"])]
    columns = ("process", "resident MB", "proportional MB", "share of a core")
    yield from _table(columns, [(name, *(f"{value:,.2f}" for value in one.values())) for name, one in rows])


def _picks(part: Part) -> Iterator[str]:
    yield (
        f"Picks: {part['changes']} times an instrument off and on again"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    heads = ("time in ms", "p50", "p95", "p99", "max")
    yield from _table(heads, [(_words(name), *map(str, found.values())) for name, found in part["delay_ms"].items()])


def _queries(part: Part) -> Iterator[str]:
    sizes = [one for one in part["sizes"] if "query_ms" in one]
    yield f"Questions of every view, {part['repeats']} times each, in ms"
    stores = [f"{one['bars'] / 1e6:g} M bars" for one in sizes]
    heads = [f"{name}, {store}" for store in stores for name in ("p50", "p95", "p95 of CPU")]
    rows = []
    for question in sizes[0]["query_ms"] if sizes else ():
        found = [(one["query_ms"][question], one["query_cpu_ms"][question]) for one in sizes]
        cells = [str(value) for wall, cpu in found for value in (wall["p50"], wall["p95"], cpu["p95"])]
        rows.append((question, *cells, str(part["p95_times"].get(question, "-"))))
    yield from _table(("", *heads, "p95, times"), rows)
    for one, store in zip(sizes, stores, strict=True):
        yield f"  {store} of {one['instruments']} instruments: {one['size_mb']:,} MB (others' CPU {_others(one)})"
    yield from (f"  {one['not_measured']}" for one in part["sizes"] if "not_measured" in one)


def _charts(part: Part) -> Iterator[str]:
    yield (
        f"Chart in a browser: {part['ticks_per_s']:,} ticks/s for {part['window_s']} s,"
        f" {part['candles_in_view']:,} candles in view (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    heads = ("", "p50", "p95", "p99", "max")
    measured = [
        *((f"{_words(name)}, ms", found) for name, found in part["delay_ms"].items()),
        *((f"{_words(name)}, ms of main thread", found) for name, found in part["main_thread_ms"].items()),
        *((f"{_words(name)}, bytes", found) for name, found in part["bytes"].items()),
    ]
    yield from _table(heads, [(name, *map(str, found.values())) for name, found in measured])
    yield (
        f"  {part['updates']} updates, all of the page included: {part['main_thread_ms_per_update']} ms of its main"
        f" thread and {part['received_bytes_per_update']:,} bytes each."
    )
    yield (
        f"  {part['long_tasks']} tasks above 50 ms, the longest {part['longest_task_ms']} ms; the first update came"
        f" {part['first_update_after_opening_s']} s after opening."
    )
    yield f"  Of {part['pictures']} pictures taken afterwards {part['blank_pictures']} were blank."
    if part["ticks_never_on_the_chart"]:
        yield f"  {part['ticks_never_on_the_chart']:,} ticks were not on the chart by the end."


def _first_chart(part: Part) -> Iterator[str]:
    yield (
        f"Candles after navigation, over {part['bars']:,} bars, {part['visits']} times"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    heads = ("time in ms", "p50", "p95", "p99", "max")
    yield from _table(
        heads, [(_words(name), *map(str, found.values())) for name, found in part["candles_after_ms"].items()]
    )


def _kafka(part: Part) -> Iterator[str]:
    yield f"Bars of {part['instruments']} instruments from Kafka to Kafka"
    heads = ("parallelism, cores", "ticks", "ticks/s", "CPU s/M TaskManager", "broker", "others' CPU")
    cpu = [f"{name}_cpu_s_per_million_ticks" for name in ("taskmanager", "broker")]
    rows = [
        (
            f"{one['parallelism']}, {one['cores']}",
            f"{one['ticks']:,}",
            _number(one["ticks_per_s"]),
            *(_number(one.get(name)) for name in cpu),
            _others(one),
        )
        for one in part["rates"]
    ]
    yield from _table(heads, rows)
    yield f"  On two cores it is {_number(part['times_one_core'])} times as fast as on one."
    measured = [one for one in part["delays"] if "not_measured" not in one]
    columns = ("sent to committed, ms", "ticks/s", "p50", "p95", "p99", "max", "busy cores")
    delays = [
        (
            f"at {one['share_of_highest_rate']:.0%}",
            f"{one['ticks_per_s']:,}",
            *map(str, one["delay_ms"]["sent_to_committed_ms"].values()),
            str(one["busy_cores"]),
        )
        for one in measured
    ]
    yield from _table(columns, delays)
    for one in part["delays"]:
        if "not_measured" in one:
            yield f"  {one['ticks_per_s']:,} ticks/s could not be measured: {one['not_measured']}"


def _peers(part: Part) -> Iterator[str]:
    yield "Beside Bytewax on the same file"
    heads = ("", "total", "start-up", "ticks/s after it", "CPU s/M", "others' CPU")
    named = [("Barmill", part["barmill"]), *((f"Bytewax, workers: {one['workers']}", one) for one in part["bytewax"])]
    rows = [(name, *_rate_cells(one)[-3:], str(one["cpu_s_per_million_ticks"]), _others(one)) for name, one in named]
    yield from _table(heads, rows)
    yield (
        f"  Barmill is {_number(part['times_bytewax_after_startup'])} times as fast after start-up,"
        f" {part['times_bytewax_with_startup']} times with it; {_compared(part['bytewax'][0])}"
    )


def _rate_cells(one: Part) -> list[str]:
    cells = [f"{one['total_s']:.1f} s", f"{one['startup_s']:.1f} s", _number(one["ticks_per_s_after_startup"])]
    return [f"{one['ticks']:,}", *cells] if "ticks" in one else cells


def _cpu_cells(one: Part) -> list[str]:
    return [str(one["cpu_s_per_million_ticks"]), str(one["taskmanager_cpu_s_per_million_ticks"])]


def _others(one: Part) -> str:
    return f"{one['other_programs_share_of_all_cores']:.0%}"


def _compared(one: Part) -> str:
    found = one["bars_compared"]
    lacking = found["only_in_barmill"] + found["only_in_the_other"]
    return f"of {found['bars']:,} bars {found['unequal']:,} are not equal and {lacking:,} only in one of the two"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _words(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        first, *others = zip(row, widths, strict=True)
        yield "  ".join(["", first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
