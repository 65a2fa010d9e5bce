"""The figures of `barmill bench`, each with its goal, and the table that shows them.

The keys of figures are stored in the JSON of each run, so that later runs can be compared: do not change them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Part, table

# The key of a figure, and its value; None if it was not measured.
Figures = dict[str, float | None]
# A key of a dict, an index of a list, or the key and value that select one dict of a list.
_Step = str | int | tuple[str, object]


@dataclass(frozen=True)
class Figure:
    """A figure of one part. read: returns it from the result of the part. higher: higher values are better."""

    part: str
    name: str
    title: str
    unit: str
    read: Callable[[Part], float | None]
    goal: float | None = None
    higher: bool = False

    @property
    def key(self) -> str:
        """Return the key, which is unique."""
        return f"{self.part}.{self.name}"

    def value(self, result: Part) -> float | None:
        """Return the value in the result of a run, or None if it was not measured."""
        part = result.get(self.part)
        return None if part is None or "not_measured" in part else self.read(part)

    def reaches_goal(self, value: float) -> bool:
        """Return whether a value is at least as good as the goal, or there is no goal."""
        return self.goal is None or (value >= self.goal if self.higher else value <= self.goal)


def _at(*steps: _Step) -> Callable[[Part], float | None]:
    """Return a function that reads the value at a path, or None where the path ends early."""

    def read(part: Part) -> float | None:
        node: Any = part
        for step in steps:
            if isinstance(step, tuple):
                key, value = step
                node = next((item for item in node if item.get(key) == value), None)
            elif isinstance(step, int):
                node = node[step] if node else None
            else:
                node = node.get(step)
            if node is None:
                return None
        return float(node)

    return read


def _cost_growth(part: Part) -> float | None:
    """Return the cost of a tick with the most instruments, divided by that with the fewest."""
    runs = [run for run in part["runs"] if "not_measured" not in run]
    costs = [run["cpu_s_per_million_ticks_without_startup"] for run in runs]
    # A cost below zero means that other programs disturbed the run whose start-up is subtracted.
    return round(costs[-1] / costs[0], 2) if len(costs) > 1 and min(costs) > 0 else None


def _slowest_view(part: Part) -> float | None:
    measured = [size["query_ms"] for size in part["sizes"] if "query_ms" in size]
    return max(quantiles["p95"] for quantiles in measured[-1].values()) if measured else None


def _view_growth(part: Part) -> float | None:
    return max(part["p95_times"].values(), default=None)


def _different_bars(part: Part) -> float | None:
    kills, compared = part["kills"], part["compare"]
    after_kills = max(kills["different_bars"], kills["different_bars_after_the_move"])
    return float(max(after_kills, compared["different_bars"]))


def _kafka_rate(part: Part) -> float | None:
    return max((run["ticks_per_s"] for run in part["rates"] if run["ticks_per_s"]), default=None)


# A run in which one of these is not 0 has found an error.
MUST_BE_ZERO = ("moves.bars", "moves.answers")
COMMANDS = ("status", "instrument list", "instrument feed list", "job list", "user list", "audit list")
_COMMAND_GOAL_CPU_S = 0.5
_CPU_S = "CPU s"
_BYTEWAX_GOALS = {100: 2.0}

FIGURES = (
    Figure("up", "again_s", "up of an existing home, to the first live bar", "s", _at("existing_home", "live_s"), 10),
    Figure("up", "again_cpu_s", "the same", _CPU_S, _at("existing_home", "cpu_s")),
    Figure("up", "new_s", "up of a new home, to the first live bar", "s", _at("new_home", "live_s"), 10),
    Figure("up", "new_cpu_s", "the same", _CPU_S, _at("new_home", "cpu_s")),
    Figure("start", "replay_s", "replay of 2,000 ticks", "s", _at("wall_s"), 5),
    Figure("start", "replay_cpu_s", "the same", _CPU_S, _at("cpu_s"), 8),
    Figure("rest", "cpu", "at rest, all processes", "cores", _at("all_processes", "cpu_share_of_one_core"), goal=0.1),
    Figure(
        "rest",
        "delay_p95_ms",
        "at rest, tick to readable bar, p95",
        "ms",
        _at("delay_ms", "stamp_to_visible_ms", "p95"),
        goal=300,
    ),
    Figure(
        "live",
        "delay_p95_ms",
        "under load, tick to readable bar, p95",
        "ms",
        _at("delay_ms", "stamp_to_visible_ms", "p95"),
        goal=300,
    ),
    *(
        Figure("commands", name, f"barmill {name}", _CPU_S, _at("runs", name, "cpu_s"), _COMMAND_GOAL_CPU_S)
        for name in COMMANDS
    ),
    Figure(
        "replay",
        "ticks_per_s",
        "replay, 100 instruments, beyond start-up",
        "ticks/s",
        _at("between_sizes", "ticks_per_s"),
        goal=5_000_000,
        higher=True,
    ),
    Figure(
        "replay",
        "cpu_s_per_million",
        "the same, a million ticks",
        _CPU_S,
        _at("between_sizes", "cpu_s_per_million_ticks"),
        goal=0.35,
    ),
    Figure(
        "instruments",
        "ticks_per_s",
        "replay, 10,000 instruments, after start-up",
        "ticks/s",
        _at("runs", ("instruments", 10_000), "ticks_per_s_after_startup"),
        goal=1_000_000,
        higher=True,
    ),
    Figure("instruments", "growth", "CPU of a tick, 10,000 to 10 instruments", "times", _cost_growth, 3),
    Figure("bulk", "bytes_per_bar", "a stored bar on disk", "bytes", _at("bytes_per_bar"), 20),
    Figure("bulk", "bars_per_cpu_s", "bulk read to Arrow", "bars/CPU s", _at("bulk_bars_per_cpu_s"), 2_000_000, True),
    *(
        Figure(
            "queries",
            f"chart_{frame}_p95_ms",
            f"chart of {frame}, rolled up, p95",
            "CPU ms",
            _at("sizes", -1, "query_cpu_ms", f"chart {frame}", "p95"),
            goal=20,
        )
        for frame in ("30s", "30m")
    ),
    Figure("queries", "slowest_p95_ms", "slowest view of the largest store, p95", "ms", _slowest_view, 50),
    Figure("queries", "growth", "any view, largest to smallest store, p95", "times", _view_growth, 1.5),
    Figure("moves", "bars", "bars changed by moves, some of them killed", "bars", _different_bars, 0),
    Figure("moves", "answers", "answers changed by a move", "answers", _at("compare", "different_answers"), 0),
    Figure(
        "charts",
        "delay_p95_ms",
        "tick to chart in a browser, p95",
        "ms",
        _at("delay_ms", "accepted_to_chart_ms", "p95"),
    ),
    Figure(
        "first_chart",
        "new_browser_p95_ms",
        "first chart in a new browser, p95",
        "ms",
        _at("candles_after_ms", "in_a_new_browser_ms", "p95"),
    ),
    Figure(
        "picks",
        "enabled_p95_ms",
        "instrument enabled, to its first tick, p95",
        "ms",
        _at("delay_ms", "enabled_to_first_tick_ms", "p95"),
    ),
    Figure("kafka", "ticks_per_s", "Kafka to Kafka, fastest", "ticks/s", _kafka_rate, 1_500_000, True),
    *(
        Figure(
            "peers",
            f"{peer}_{instruments}",
            f"replay of {instruments:,} instruments against {title}, with start-up",
            "times as fast",
            _at("runs", ("instruments", instruments), "times_as_fast", peer, "with_startup"),
            _BYTEWAX_GOALS.get(instruments) if peer == "bytewax" else None,
            higher=True,
        )
        for peer, title in (("bytewax", "Bytewax"), ("duckdb", "a DuckDB query"), ("polars", "a Polars query"))
        for instruments in (10, 100, 1_000, 10_000)
    ),
    Figure("test", "minutes", "./barmill test", "min", _at("minutes"), 25),
)


def figures_of(result: Part) -> Figures:
    """Return all figures of a run."""
    return {figure.key: figure.value(result) for figure in FIGURES}


def goals_table(figures: Figures, earlier: Figures | None = None) -> Iterator[str]:
    """Yield the lines of a table of all figures with their goals; earlier: the figures of a run to compare with."""
    headers = ("figure", "measured", "goal", "reached")
    compared = ("earlier", "now / earlier") if earlier is not None else ()
    rows = []
    for figure in FIGURES:
        value = figures.get(figure.key)
        row = [figure.title, _measured(value, figure.unit), _goal(figure), _reached(figure, value)]
        if earlier is not None:
            row += [_measured(earlier.get(figure.key), figure.unit), _ratio(value, earlier.get(figure.key))]
        rows.append(row)
    yield from table((*headers, *compared), rows)


def _measured(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{_number(value)} {unit}"


def _goal(figure: Figure) -> str:
    return "-" if figure.goal is None else f"{'at least' if figure.higher else 'at most'} {_number(figure.goal)}"


def _reached(figure: Figure, value: float | None) -> str:
    if figure.goal is None or value is None:
        return "-"
    return "yes" if figure.reaches_goal(value) else "no"


def _ratio(value: float | None, earlier: float | None) -> str:
    return "-" if value is None or not earlier else f"{value / earlier:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 or value == int(value) else f"{value:.3g}"
