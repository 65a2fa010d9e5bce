"""What was measured over time, in one SQLite file of its own: written by the controller, read by everybody.

    series    one row per (subject, metric): its newest reading, and how its readings are thinned
    samples   every_ms, series, time_ms, value: every few seconds as measured, and thinned to minutes and to hours
    failures  what failed in jobs, with its trace

Each length is kept for so long (see KEPT_MS), and there are at most MAX_SERIES series and MAX_FAILURES failures, so the
file stays below about 200 MB; usually it has a tenth of that.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

from bar.sqlite import Database, Migrations
from bar.sqlite_file import open_for_reading, open_for_writing
from control.flink.metrics import JobFailure
from control.home import Home
from control.monitor.metrics import Metric, Reading, Subject

SAMPLE_MS, MINUTE_MS, HOUR_MS = 5_000, 60_000, 3_600_000
_DAY_MS = 24 * HOUR_MS
KEPT_MS = {SAMPLE_MS: 6 * HOUR_MS, MINUTE_MS: 7 * _DAY_MS, HOUR_MS: 90 * _DAY_MS}
MAX_SERIES = 400
MAX_FAILURES = 500
# A reading that was not renewed for so long says nothing about now.
CURRENT_MS = 20_000
LINE_SCHEMA = {"time_ms": pl.Int64(), "value": pl.Float64()}

_THIN = (
    "CASE series.thinned WHEN 'mean' THEN avg(samples.value) WHEN 'highest' THEN max(samples.value)"
    " ELSE min(samples.value) END"
)
_migrations = Migrations("monitor")


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the tables."""
    db.conn.execute(
        "CREATE TABLE series (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, metric TEXT NOT NULL,"
        " thinned TEXT NOT NULL, newest_ms INTEGER NOT NULL, newest REAL NOT NULL, UNIQUE (subject, metric))"
    )
    db.conn.execute(
        "CREATE TABLE samples (every_ms INTEGER, series INTEGER, time_ms INTEGER, value REAL NOT NULL,"
        " PRIMARY KEY (every_ms, series, time_ms)) WITHOUT ROWID"
    )
    db.conn.execute(
        "CREATE TABLE failures (run TEXT, at_ms INTEGER, job TEXT NOT NULL, task TEXT, trace TEXT NOT NULL,"
        " PRIMARY KEY (run, at_ms, task))"
    )
    db.conn.execute("CREATE INDEX failures_by_time ON failures (at_ms)")


@dataclass(frozen=True)
class Failure:
    """What failed in which run of which job."""

    job: str
    run: str
    failure: JobFailure


class History:
    """The history of one home, for its one writer or for any number of readers."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._thinned_ms: int | None = None

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing, making the file where there is none."""
        return cls(open_for_writing(home.monitor_db, _migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError when nothing was ever measured."""
        return cls(open_for_reading(home.monitor_db, _migrations))

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def write(self, at_ms: int, readings: Iterable[Reading], failures: Sequence[Failure] = ()) -> None:
        """Add what was measured at one moment; thin out and forget once a minute."""
        rows = [(str(one.subject), one.metric.text, one.metric.thinned, at_ms, one.value) for one in readings]
        with self._db.atomic():
            self._db.conn.executemany(
                "INSERT INTO series (subject, metric, thinned, newest_ms, newest) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (subject, metric) DO UPDATE SET newest_ms = excluded.newest_ms, newest = excluded.newest",
                rows,
            )
            self._db.conn.execute(
                "INSERT OR REPLACE INTO samples SELECT ?, id, newest_ms, newest FROM series WHERE newest_ms = ?",
                (SAMPLE_MS, at_ms),
            )
            self._db.conn.executemany(
                "INSERT OR IGNORE INTO failures VALUES (?, ?, ?, ?, ?)",
                [(one.run, one.failure.at_ms, one.job, one.failure.task, one.failure.trace) for one in failures],
            )
            self._keep_in_shape(at_ms)

    def latest(self, now_ms: int) -> list[Reading]:
        """Return the newest reading of every series that is still measured."""
        rows = self._db.conn.execute(
            "SELECT subject, metric, newest FROM series WHERE newest_ms > ? ORDER BY subject, metric",
            (now_ms - CURRENT_MS,),
        )
        return [
            Reading(Subject.parse(subject), Metric[metric.upper()], value)
            for subject, metric, value in rows
            if metric.upper() in Metric.__members__  # another version may have measured more
        ]

    def newest_ms(self) -> int | None:
        """Return when anything was measured last."""
        row = self._db.conn.execute("SELECT max(newest_ms) FROM series").fetchone()
        return None if row[0] is None else int(row[0])

    def recent(self, metric: Metric, since_ms: int) -> dict[Subject, list[float]]:
        """Return what was measured from `since_ms` on, at most KEPT_MS[SAMPLE_MS] ago, by subject, oldest first."""
        rows = self._db.conn.execute(
            "SELECT subject, value FROM series CROSS JOIN samples ON every_ms = ? AND samples.series = series.id"
            " AND time_ms >= ? WHERE metric = ? ORDER BY series.id, time_ms",
            (SAMPLE_MS, since_ms, metric.text),
        )
        values: dict[Subject, list[float]] = {}
        for subject, value in rows:
            values.setdefault(Subject.parse(subject), []).append(value)
        return values

    def lines(self, metric: Metric, from_ms: int, to_ms: int, max_points: int) -> dict[Subject, pl.DataFrame]:
        """Return how a metric went in [from_ms, to_ms), by subject: LINE_SCHEMA, oldest first, at most max_points."""
        every_ms, step_ms = self.spacing_ms(from_ms, to_ms, max_points)
        rows = self._db.conn.execute(
            f"SELECT subject, time_ms / :step * :step AS at_ms, {_THIN}"
            " FROM series CROSS JOIN samples ON every_ms = :every AND samples.series = series.id"
            " AND time_ms >= :from AND time_ms < :to WHERE metric = :metric GROUP BY series.id, at_ms ORDER BY 1, 2",
            {"step": step_ms, "every": every_ms, "from": from_ms, "to": to_ms, "metric": metric.text},
        ).fetchall()
        frame = pl.DataFrame(rows, {"subject": pl.String(), **LINE_SCHEMA}, orient="row")
        parts = frame.partition_by("subject", as_dict=True, include_key=False, maintain_order=True)
        return {Subject.parse(str(subject)): line for (subject,), line in parts.items()}

    def spacing_ms(self, from_ms: int, to_ms: int, max_points: int) -> tuple[int, int]:
        """Return (which readings `lines` takes, how far apart its points are)."""
        wanted_ms = (to_ms - from_ms) / (max_points - 1)
        every_ms = _fitting_length((self.newest_ms() or to_ms) - from_ms, wanted_ms)
        return every_ms, max(1, math.ceil(wanted_ms / every_ms)) * every_ms

    def failures(self, count: int) -> list[Failure]:
        """Return what failed last, the newest first."""
        query = "SELECT job, run, at_ms, task, trace FROM failures ORDER BY at_ms DESC LIMIT ?"
        return [Failure(job, run, JobFailure(*rest)) for job, run, *rest in self._db.conn.execute(query, (count,))]

    def _keep_in_shape(self, now_ms: int) -> None:
        minute_ms = now_ms // MINUTE_MS
        if self._thinned_ms is None:
            self._thinned_ms = self._newest_minute_ms()
        if minute_ms == self._thinned_ms // MINUTE_MS:
            return
        for fine_ms, coarse_ms in ((SAMPLE_MS, MINUTE_MS), (MINUTE_MS, HOUR_MS)):
            self._thin(fine_ms, coarse_ms, self._thinned_ms // coarse_ms * coarse_ms)
        self._thinned_ms = now_ms
        for every_ms, kept_ms in KEPT_MS.items():
            query = "DELETE FROM samples WHERE every_ms = ? AND series IN (SELECT id FROM series) AND time_ms < ?"
            self._db.conn.execute(query, (every_ms, now_ms - kept_ms))
        self._forget()

    def _newest_minute_ms(self) -> int:
        newest = "SELECT max(time_ms) FROM samples WHERE every_ms = ? AND samples.series = series.id"
        return int(self._db.conn.execute(f"SELECT max(({newest})) FROM series", (MINUTE_MS,)).fetchone()[0] or 0)

    def _thin(self, fine_ms: int, coarse_ms: int, from_ms: int) -> None:
        """Make coarse readings of the fine ones from `from_ms` on; the newest is made again until it is complete."""
        self._db.conn.execute(
            f"INSERT OR REPLACE INTO samples SELECT :coarse, series.id, time_ms / :coarse * :coarse, {_THIN}"
            " FROM series CROSS JOIN samples ON every_ms = :fine AND samples.series = series.id AND time_ms >= :from"
            " GROUP BY series.id, time_ms / :coarse",
            {"fine": fine_ms, "coarse": coarse_ms, "from": from_ms},
        )

    def _forget(self) -> None:
        """Forget series that were not measured for longest, and the oldest failures, beyond their bounds."""
        execute = self._db.conn.execute
        beyond = "SELECT id FROM series ORDER BY newest_ms DESC, id DESC LIMIT -1 OFFSET ?"
        for (series,) in execute(beyond, (MAX_SERIES,)).fetchall():
            for every_ms in KEPT_MS:
                execute("DELETE FROM samples WHERE every_ms = ? AND series = ?", (every_ms, series))
            execute("DELETE FROM series WHERE id = ?", (series,))
        execute("DELETE FROM series WHERE newest_ms < (SELECT max(newest_ms) FROM series) - ?", (KEPT_MS[HOUR_MS],))
        beyond = "SELECT rowid FROM failures ORDER BY at_ms DESC LIMIT -1 OFFSET ?"
        execute(f"DELETE FROM failures WHERE rowid IN ({beyond})", (MAX_FAILURES,))


def _fitting_length(back_ms: int, step_ms: float) -> int:
    """Return which readings to show with a point every `step_ms`: of those that reach back so far, the fittest."""
    kept = [every_ms for every_ms, kept_ms in KEPT_MS.items() if kept_ms >= back_ms] or [HOUR_MS]
    return max((every_ms for every_ms in kept if every_ms <= step_ms), default=min(kept))
