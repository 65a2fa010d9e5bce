"""Try generated rows of all kinds: `python -m tests.hunt [--rows N] [--seed N] [--kind KIND] [--jobs N]`.

Print a table, and each problem with the call that shows it again. Exit with 1 if there is any.
"""

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.hunt.kinds import KINDS
from tests.hunt.result import Found, Kind

_ROWS_A_PART = 2_500
_SHOWN = 3
_PARTS_A_WORD = 20
_SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class Part:
    """A part of a hunt: a kind, about how many rows, and the seed they are made from."""

    kind: str
    rows: int
    seed: int

    @property
    def call(self) -> str:
        """Return the call that tries exactly this part."""
        return f"python -m tests.hunt --kind {self.kind} --rows {self.rows} --seed {self.seed}"


@dataclass
class Line:
    """What came of all parts of a kind. tracebacks: how many parts ended with an exception."""

    found: Found = field(default_factory=Found)
    tracebacks: int = 0


def parts(kinds: Sequence[str], rows: int, seed: int) -> Iterator[Part]:
    """Divide rows among kinds, each in parts of which each has another seed."""
    share = -(-rows // len(kinds))
    for number, done in enumerate(range(0, share, _ROWS_A_PART)):
        for kind in kinds:
            yield Part(kind, min(share - done, _ROWS_A_PART), seed + number)


def hunt(wanted: Sequence[Part], kinds: Mapping[str, Kind], executor: Executor) -> dict[str, Line]:
    """Try all parts and print problems as they are found."""
    lines = {part.kind: Line() for part in wanted}
    running = {executor.submit(kinds[part.kind], part.rows, part.seed): part for part in wanted}
    for number, done in enumerate(as_completed(running), 1):
        if number % _PARTS_A_WORD == 0:
            print(f"{number} of {len(wanted)} parts are done.", file=sys.stderr, flush=True)
        part = running.pop(done)
        line = lines[part.kind]
        if (error := done.exception()) is not None:
            line.tracebacks += 1
            _say(part, [f"{type(error).__name__}: {error}"])
        else:
            line.found += done.result()
            _say(part, [*done.result().lost, *done.result().differences])
    return lines


def table(lines: Mapping[str, Line], seed: int) -> str:
    """Return the table of what was tried and found."""
    rows: list[tuple[str, ...]] = [("kind", "rows", "differences", "silent losses", "tracebacks", "seed")]
    for kind, line in lines.items():
        found = line.found
        counts = (found.rows, len(found.differences), len(found.lost), line.tracebacks)
        rows.append((kind, *(f"{count:,}" for count in counts), f"{seed}"))
    total = f"{sum(line.found.rows for line in lines.values()):,}"
    sums = [sum(counts) for counts in zip(*(_problems(line) for line in lines.values()), strict=True)]
    rows.append(("all", total, *(f"{count:,}" for count in sums), f"{seed}"))
    return "\n".join("  ".join([row[0].ljust(13), *(cell.rjust(13) for cell in row[1:])]) for row in rows)


def is_clean(lines: Mapping[str, Line]) -> bool:
    """Tell whether nothing was found."""
    return not any(any(_problems(line)) for line in lines.values())


def _problems(line: Line) -> tuple[int, int, int]:
    return len(line.found.differences), len(line.found.lost), line.tracebacks


def _say(part: Part, problems: Sequence[str]) -> None:
    for problem in problems[:_SHOWN]:
        print(f"{part.call}\n    {problem[:_SHOWN_CHARACTERS]}", flush=True)


def main() -> int:
    """Hunt, and return the exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.hunt", description=__doc__)
    options.add_argument("--rows", type=int, default=20_000, help="over all kinds; default 20,000")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kind", choices=KINDS, action="append", help="only this one; may be repeated")
    options.add_argument("--jobs", type=int, default=1, help="processes; default 1")
    given = options.parse_args()
    wanted = list(parts(given.kind or list(KINDS), given.rows, given.seed))
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, spawning, initializer=logging.disable) as executor:
        lines = hunt(wanted, KINDS, executor)
    print(table(lines, given.seed))
    return 0 if is_clean(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
