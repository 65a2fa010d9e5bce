"""The results of the benchmarks as tables for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

Part = dict[str, Any]


def as_text(result: dict[str, Any]) -> str:
    """Return all figures as tables."""
    writers = {
        "replay": _replay,
        "instruments": _instruments,
        "live": _live,
        "rest": _rest,
        "picks": _picks,
        "queries": _queries,
        "charts": _charts,
        "first_chart": _first_chart,
        "kafka": _kafka,
        "start": _start,
        "up": _up,
        "commands": _commands,
        "bulk": _bulk,
        "moves": _moves,
        "peers": _peers,
        "test": _test,
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
    headers = ("ticks", "total", "start-up", "ticks/s after", "CPU s/M", "TaskManager", "others' CPU")
    yield from table(headers, [(*_rate_cells(run), *_cpu_cells(run), _others_cpu(run)) for run in part["sizes"]])
    difference, batch = part["between_sizes"], part["polars_batch"][-1]
    yield (
        f"  between the sizes: {_number(difference['ticks_per_s'])} ticks/s,"
        f" {difference['cpu_s_per_million_ticks']} CPU s/M"
        f" (TaskManager {difference['taskmanager_cpu_s_per_million_ticks']})"
    )
    if difference["disturbed"]:
        yield "  Other programs disturbed these runs, so the difference is not reliable; measure on a quiet machine."
    large = part["sizes"][1]
    yield (
        f"  The larger file was read into the log at {_number(large['intake_ticks_per_s'])} ticks/s;"
        f" {large['ticks_in_log_when_folding_began']:,} ticks were in it when folding began."
    )
    yield (
        f"  Polars batch: {_number(batch['ticks_per_s'])} ticks/s, {batch['cpu_s_per_million_ticks']} CPU s/M,"
        f" {batch['peak_memory_mb']:,} MB; Barmill reaches {_number(part['share_of_polars_batch_speed'])} of its rate;"
        f" {_comparison_text(batch)}"
    )


def _start(part: Part) -> Iterator[str]:
    yield f"Replay of {part['ticks']:,} ticks"
    yield from _commands({"runs": {"replay": part}})


def _commands(part: Part) -> Iterator[str]:
    headers = ("command", "CPU s", "wall s", "others' CPU")
    yield from table(
        headers,
        [(name, str(run["cpu_s"]), str(run["wall_s"]), _others_cpu(run)) for name, run in part["runs"].items()],
    )


def _up(part: Part) -> Iterator[str]:
    yield f"./barmill up, with the history of the demo market (others' CPU {_others_cpu(part)})"
    headers = ("", "to the first live bar", "CPU s", "until it returns")
    homes = ("new_home", "existing_home")
    yield from table(
        headers,
        [
            (_label(home), f"{part[home]['live_s']} s", str(part[home]["cpu_s"]), f"{part[home]['returned_s']} s")
            for home in homes
        ],
    )


def _bulk(part: Part) -> Iterator[str]:
    yield (
        f"Bulk read of {part['bars']:,} bars of {part['instruments']} instruments to Arrow:"
        f" {part['bulk_bars_per_cpu_s']:,} bars per CPU second (others' CPU {_others_cpu(part)})"
    )
    yield f"  A stored bar takes {part['bytes_per_bar']} bytes of the {part['size_mb']:,} MB on disk."


def _moves(part: Part) -> Iterator[str]:
    kills, compared = part["kills"], part["compare"]
    yield f"Moves of {part['bars']:,} bars into blocks (others' CPU {_others_cpu(part)})"
    yield (
        f"  {kills['killed_while_moving']} kills during a move: {kills['different_bars']:,} bars differ,"
        f" {kills['different_bars_after_the_move']:,} after the complete move."
    )
    yield (
        f"  {compared['answers']:,} answers compared during a move of {compared['moved_s']} s:"
        f" {compared['different_answers']:,} differ, and {compared['different_bars']:,} bars after it."
    )


def _instruments(part: Part) -> Iterator[str]:
    yield "Replay by number of instruments, CPU without start-up"
    headers = ("instruments", "bars", "ticks", "total", "start-up", "ticks/s after", "CPU s/M", "others' CPU")
    cpu = "cpu_s_per_million_ticks_without_startup"
    rows = [
        (f"{run['instruments']:,}", f"{run['bars']:,}", *_rate_cells(run), str(run[cpu]), _others_cpu(run))
        for run in part["runs"]
        if "not_measured" not in run
    ]
    yield from table(headers, rows)
    for run in part["runs"]:
        if "not_measured" in run:
            yield f"  {run['instruments']:,} instruments could not be measured: {run['not_measured']}"


def _live(part: Part) -> Iterator[str]:
    yield (
        f"Live: {part['ticks_per_s']:,} ticks/s for {part['window_s']} s"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    delays = part["delay_ms"].items()
    headers = ("delay in ms", "p50", "p95", "p99", "max")
    yield from table(headers, [(_label(name), *map(str, quantiles.values())) for name, quantiles in delays])
    rows = [*part["processes"].items(), ("all", part["all_processes"])]
    columns = ("process", "resident MB", "proportional MB", "share of a core")
    yield from table(columns, [(name, *(f"{value:,.2f}" for value in figures.values())) for name, figures in rows])


def _rest(part: Part) -> Iterator[str]:
    first, *others = _live(part)
    yield first.replace("Live:", "At rest, no page open:")
    yield from others


def _picks(part: Part) -> Iterator[str]:
    yield (
        f"Picks: an instrument disabled and enabled {part['changes']} times"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    headers = ("time in ms", "p50", "p95", "p99", "max")
    yield from table(
        headers, [(_label(name), *map(str, quantiles.values())) for name, quantiles in part["delay_ms"].items()]
    )


def _queries(part: Part) -> Iterator[str]:
    sizes = [size for size in part["sizes"] if "query_ms" in size]
    yield f"Queries of all pages, {part['repeats']} times each, in ms"
    stores = [f"{size['bars'] / 1e6:g} M bars" for size in sizes]
    headers = [f"{name}, {store}" for store in stores for name in ("p50", "p95", "p95 of CPU")]
    rows = []
    for query in sizes[0]["query_ms"] if sizes else ():
        measured = [(size["query_ms"][query], size["query_cpu_ms"][query]) for size in sizes]
        cells = [str(value) for wall, cpu in measured for value in (wall["p50"], wall["p95"], cpu["p95"])]
        rows.append((query, *cells, str(part["p95_times"].get(query, "-"))))
    yield from table(("", *headers, "p95, largest / smallest"), rows)
    for size, store in zip(sizes, stores, strict=True):
        yield (
            f"  {store} of {size['instruments']} instruments: {size['size_mb']:,} MB (others' CPU {_others_cpu(size)})"
        )
    yield from (f"  {size['not_measured']}" for size in part["sizes"] if "not_measured" in size)


def _charts(part: Part) -> Iterator[str]:
    yield (
        f"Chart in a browser: {part['ticks_per_s']:,} ticks/s for {part['window_s']} s,"
        f" {part['candles_in_view']:,} candles in view (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    headers = ("", "p50", "p95", "p99", "max")
    measured = [
        *((f"{_label(name)}, ms", quantiles) for name, quantiles in part["delay_ms"].items()),
        *((f"{_label(name)}, ms of main thread", quantiles) for name, quantiles in part["main_thread_ms"].items()),
        *((f"{_label(name)}, bytes", quantiles) for name, quantiles in part["bytes"].items()),
    ]
    yield from table(headers, [(name, *map(str, quantiles.values())) for name, quantiles in measured])
    yield (
        f"  {part['updates']} updates of the chart; for each, the whole page takes"
        f" {part['main_thread_ms_per_update']} ms of its main thread and {part['received_bytes_per_update']:,} bytes."
    )
    yield (
        f"  {part['long_tasks']} tasks above 50 ms, the longest {part['longest_task_ms']} ms; the first update came"
        f" {part['first_update_after_opening_s']} s after opening."
    )
    yield f"  Of {part['pictures']} screenshots taken afterwards, {part['blank_pictures']} were blank."
    if part["ticks_never_on_the_chart"]:
        yield f"  {part['ticks_never_on_the_chart']:,} ticks were not on the chart by the end."


def _first_chart(part: Part) -> Iterator[str]:
    yield (
        f"Candles after navigation, over {part['bars']:,} bars, {part['visits']} times"
        f" (others' CPU {part['other_programs_share_of_all_cores']:.0%})"
    )
    headers = ("time in ms", "p50", "p95", "p99", "max")
    yield from table(
        headers, [(_label(name), *map(str, quantiles.values())) for name, quantiles in part["candles_after_ms"].items()]
    )


def _kafka(part: Part) -> Iterator[str]:
    yield f"Bars of {part['instruments']} instruments from Kafka to Kafka"
    headers = ("parallelism, cores", "ticks", "ticks/s", "CPU s/M TaskManager", "broker", "others' CPU")
    cpu = [f"{name}_cpu_s_per_million_ticks" for name in ("taskmanager", "broker")]
    rows = [
        (
            f"{run['parallelism']}, {run['cores']}",
            f"{run['ticks']:,}",
            _number(run["ticks_per_s"]),
            *(_number(run.get(name)) for name in cpu),
            _others_cpu(run),
        )
        for run in part["rates"]
    ]
    yield from table(headers, rows)
    yield f"  On two cores it is {_number(part['times_one_core'])} times as fast as on one."
    measured = [delay for delay in part["delays"] if "not_measured" not in delay]
    columns = ("sent to committed, ms", "ticks/s", "p50", "p95", "p99", "max", "busy cores")
    delays = [
        (
            f"at {delay['share_of_highest_rate']:.0%}",
            f"{delay['ticks_per_s']:,}",
            *map(str, delay["delay_ms"]["sent_to_committed_ms"].values()),
            str(delay["busy_cores"]),
        )
        for delay in measured
    ]
    yield from table(columns, delays)
    for delay in part["delays"]:
        if "not_measured" in delay:
            yield f"  {delay['ticks_per_s']:,} ticks/s could not be measured: {delay['not_measured']}"


def _peers(part: Part) -> Iterator[str]:
    yield f"{part['ticks']:,} ticks with Barmill and others; DuckDB and Polars run one query, without log or store"
    headers = (
        "instruments",
        "program",
        "total",
        "ticks/s after start-up",
        "CPU s/M",
        "Barmill: times as fast",
        "after",
    )
    rows, notes = [], [part["peers_missing"]] * bool(part["peers_missing"])
    for run in part["runs"]:
        instruments = f"{run['instruments']:,}"
        if "not_measured" in run:
            notes.append(f"{instruments} instruments could not be measured: {run['not_measured']}")
            continue
        rows.append((instruments, "Barmill", *_peer_cells(run["barmill"]), "-", "-"))
        for name, title in (("bytewax", "Bytewax"), ("duckdb", "DuckDB"), ("polars", "Polars")):
            peer, ratios = run.get(name, {}), run["times_as_fast"].get(name, {})
            for peer_run in peer.get("runs", ()):
                workers = f", workers: {peer_run['workers']}" if "workers" in peer_run else ""
                cells = (_number(ratios["with_startup"]), _number(ratios["after_startup"]))
                rows.append((instruments, f"{title}{workers}", *_peer_cells(peer_run), *cells))
                if _different_bars(peer_run):
                    notes.append(f"{title}, {instruments} instruments: {_comparison_text(peer_run)}.")
            if "not_measured" in peer:
                notes.append(f"{title}, {instruments} instruments, could not be measured: {peer['not_measured']}")
    yield from table(headers, rows)
    yield from (f"  {note}" for note in notes or ["All programs make the same bars."])


def _peer_cells(run: Part) -> tuple[str, str, str]:
    rate = run["ticks_per_s"] if "ticks_per_s" in run else run["ticks_per_s_after_startup"]
    return f"{run['total_s']:.1f} s", _number(rate), str(run["cpu_s_per_million_ticks"])


def _test(part: Part) -> Iterator[str]:
    yield f"./barmill test: {part['minutes']} min, {part['cpu_s']:,} CPU s (others' CPU {_others_cpu(part)})"


def _rate_cells(run: Part) -> list[str]:
    cells = [f"{run['total_s']:.1f} s", f"{run['startup_s']:.1f} s", _number(run["ticks_per_s_after_startup"])]
    return [f"{run['ticks']:,}", *cells] if "ticks" in run else cells


def _cpu_cells(run: Part) -> list[str]:
    return [str(run["cpu_s_per_million_ticks"]), str(run["taskmanager_cpu_s_per_million_ticks"])]


def _others_cpu(run: Part) -> str:
    return f"{run['other_programs_share_of_all_cores']:.0%}"


def _different_bars(run: Part) -> int:
    return sum(run["bars_compared"][name] for name in ("unequal", "only_in_barmill", "only_in_the_other"))


def _comparison_text(run: Part) -> str:
    compared = run["bars_compared"]
    missing = compared["only_in_barmill"] + compared["only_in_the_other"]
    return f"of {compared['bars']:,} bars {compared['unequal']:,} differ and {missing:,} exist on one side only"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _label(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table: the first column is aligned to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        first, *others = zip(row, widths, strict=True)
        yield "  ".join(["", first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
