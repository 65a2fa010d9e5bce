"""Measurements over time, in a separate SQLite file that only the controller writes.

    series    one row per (subject, metric): its newest reading, and how its readings are downsampled
    samples   every_ms, series, time_ms, value: measured every few seconds, and downsampled to minutes and hours
    failures  failures of jobs, with their stack traces

KEPT_MS limits how long each resolution is kept, and there are at most MAX_SERIES series and MAX_FAILURES failures, so
the file stays below about 200 MB; typical is a tenth of that.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, Store, open_for_reading, open_for_writing
from control.flink.model import JobFailure
from control.monitoring.metrics import SAMPLE_MS, Metric, Reading, Subject

KEPT_MS = {SAMPLE_MS: 6 * MS_PER_HOUR, MS_PER_MINUTE: 7 * MS_PER_DAY, MS_PER_HOUR: 90 * MS_PER_DAY}
MAX_SERIES = 400
MAX_FAILURES = 500
# A reading older than this says nothing about the current state.
CURRENT_MS = 20_000
LINE_SCHEMA = {"time_ms": pl.Int64(), "value": pl.Float64()}

_DOWNSAMPLED = (
    "CASE series.thinned WHEN 'mean' THEN avg(samples.value) WHEN 'highest' THEN max(samples.value)"
    " ELSE min(samples.value) END"
)
_migrations = Migrations("monitor")


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the tables."""
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
    """A failure, with its job and run."""

    job: str
    run: str
    failure: JobFailure


class History(Store):
    """The history of a home, for its single writer or for any number of readers."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._downsampled_ms: int | None = None

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing; create the file if it does not exist."""
        return cls(open_for_writing(home.monitor_db, _migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError if nothing was ever measured."""
        return cls(open_for_reading(home.monitor_db, _migrations))

    def write(self, at_ms: int, readings: Iterable[Reading], failures: Sequence[Failure] = ()) -> None:
        """Add the readings and failures of one time; downsample and delete old readings once a minute."""
        rows = [
            (str(reading.subject), reading.metric.text, reading.metric.aggregation, at_ms, reading.value)
            for reading in readings
        ]
        with self.db.atomic():
            self.db.conn.executemany(
                "INSERT INTO series (subject, metric, thinned, newest_ms, newest) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (subject, metric) DO UPDATE SET newest_ms = excluded.newest_ms, newest = excluded.newest",
                rows,
            )
            self.db.conn.execute(
                "INSERT OR REPLACE INTO samples SELECT ?, id, newest_ms, newest FROM series WHERE newest_ms = ?",
                (SAMPLE_MS, at_ms),
            )
            self.db.conn.executemany(
                "INSERT OR IGNORE INTO failures VALUES (?, ?, ?, ?, ?)",
                [
                    (failure.run, failure.failure.at_ms, failure.job, failure.failure.task, failure.failure.trace)
                    for failure in failures
                ],
            )
            self._downsample_and_prune(at_ms)

    def latest(self, now_ms: int) -> list[Reading]:
        """Return the newest reading of every series that was measured in the last CURRENT_MS."""
        rows = self.db.conn.execute(
            "SELECT subject, metric, newest FROM series WHERE newest_ms > ? ORDER BY subject, metric",
            (now_ms - CURRENT_MS,),
        )
        return [
            Reading(Subject.parse(subject), Metric[metric.upper()], value)
            for subject, metric, value in rows
            if metric.upper() in Metric.__members__  # another version may have measured more
        ]

    def newest_ms(self) -> int | None:
        """Return the time of the last measurement, or None."""
        row = self.db.conn.execute("SELECT max(newest_ms) FROM series").fetchone()
        return None if row[0] is None else int(row[0])

    def recent(self, metric: Metric, since_ms: int) -> dict[Subject, list[float]]:
        """Return the readings since `since_ms`, at most KEPT_MS[SAMPLE_MS] ago, by subject, oldest first."""
        rows = self.db.conn.execute(
            "SELECT subject, value FROM series CROSS JOIN samples ON every_ms = ? AND samples.series = series.id"
            " AND time_ms >= ? WHERE metric = ? ORDER BY series.id, time_ms",
            (SAMPLE_MS, since_ms, metric.text),
        )
        values: dict[Subject, list[float]] = {}
        for subject, value in rows:
            values.setdefault(Subject.parse(subject), []).append(value)
        return values

    def lines(self, metric: Metric, from_ms: int, to_ms: int, max_points: int) -> dict[Subject, pl.DataFrame]:
        """Return a metric over [from_ms, to_ms) by subject: LINE_SCHEMA, oldest first, at most max_points rows."""
        every_ms, step_ms = self.spacing_ms(from_ms, to_ms, max_points)
        rows = self.db.conn.execute(
            f"SELECT subject, time_ms / :step * :step AS at_ms, {_DOWNSAMPLED}"
            " FROM series CROSS JOIN samples ON every_ms = :every AND samples.series = series.id"
            " AND time_ms >= :from AND time_ms < :to WHERE metric = :metric GROUP BY series.id, at_ms ORDER BY 1, 2",
            {"step": step_ms, "every": every_ms, "from": from_ms, "to": to_ms, "metric": metric.text},
        ).fetchall()
        frame = pl.DataFrame(rows, {"subject": pl.String(), **LINE_SCHEMA}, orient="row")
        parts = frame.partition_by("subject", as_dict=True, include_key=False, maintain_order=True)
        return {Subject.parse(str(subject)): line for (subject,), line in parts.items()}

    def spacing_ms(self, from_ms: int, to_ms: int, max_points: int) -> tuple[int, int]:
        """Return (the resolution of the readings that `lines` uses, the distance between its points), both in ms."""
        target_step_ms = (to_ms - from_ms) / (max_points - 1)
        every_ms = _best_resolution_ms((self.newest_ms() or to_ms) - from_ms, target_step_ms)
        return every_ms, max(1, math.ceil(target_step_ms / every_ms)) * every_ms

    def failures(self, count: int) -> list[Failure]:
        """Return the last failures, newest first."""
        query = "SELECT job, run, at_ms, task, trace FROM failures ORDER BY at_ms DESC LIMIT ?"
        return [Failure(job, run, JobFailure(*rest)) for job, run, *rest in self.db.conn.execute(query, (count,))]

    def _downsample_and_prune(self, now_ms: int) -> None:
        minute_ms = now_ms // MS_PER_MINUTE
        if self._downsampled_ms is None:
            self._downsampled_ms = self._newest_minute_ms()
        if minute_ms == self._downsampled_ms // MS_PER_MINUTE:
            return
        for fine_ms, coarse_ms in ((SAMPLE_MS, MS_PER_MINUTE), (MS_PER_MINUTE, MS_PER_HOUR)):
            self._downsample(fine_ms, coarse_ms, self._downsampled_ms // coarse_ms * coarse_ms)
        self._downsampled_ms = now_ms
        for every_ms, kept_ms in KEPT_MS.items():
            query = "DELETE FROM samples WHERE every_ms = ? AND series IN (SELECT id FROM series) AND time_ms < ?"
            self.db.conn.execute(query, (every_ms, now_ms - kept_ms))
        self._prune()

    def _newest_minute_ms(self) -> int:
        newest = "SELECT max(time_ms) FROM samples WHERE every_ms = ? AND samples.series = series.id"
        return int(self.db.conn.execute(f"SELECT max(({newest})) FROM series", (MS_PER_MINUTE,)).fetchone()[0] or 0)

    def _downsample(self, fine_ms: int, coarse_ms: int, from_ms: int) -> None:
        """Downsample readings from `from_ms` on; the newest result is computed again until it is complete."""
        self.db.conn.execute(
            f"INSERT OR REPLACE INTO samples SELECT :coarse, series.id, time_ms / :coarse * :coarse, {_DOWNSAMPLED}"
            " FROM series CROSS JOIN samples ON every_ms = :fine AND samples.series = series.id AND time_ms >= :from"
            " GROUP BY series.id, time_ms / :coarse",
            {"fine": fine_ms, "coarse": coarse_ms, "from": from_ms},
        )

    def _prune(self) -> None:
        """Delete the least recently measured series and the oldest failures beyond the limits."""
        execute = self.db.conn.execute
        surplus = "SELECT id FROM series ORDER BY newest_ms DESC, id DESC LIMIT -1 OFFSET ?"
        for (series,) in execute(surplus, (MAX_SERIES,)).fetchall():
            for every_ms in KEPT_MS:
                execute("DELETE FROM samples WHERE every_ms = ? AND series = ?", (every_ms, series))
            execute("DELETE FROM series WHERE id = ?", (series,))
        execute("DELETE FROM series WHERE newest_ms < (SELECT max(newest_ms) FROM series) - ?", (KEPT_MS[MS_PER_HOUR],))
        surplus = "SELECT rowid FROM failures ORDER BY at_ms DESC LIMIT -1 OFFSET ?"
        execute(f"DELETE FROM failures WHERE rowid IN ({surplus})", (MAX_FAILURES,))


def _best_resolution_ms(age_ms: int, step_ms: float) -> int:
    """Return the resolution in ms for a point every `step_ms`.

    Of those that are kept for `age_ms`, this is the coarsest that is at most `step_ms`, or else the finest.
    """
    steps_ms = [every_ms for every_ms, kept_ms in KEPT_MS.items() if kept_ms >= age_ms] or [MS_PER_HOUR]
    return max((every_ms for every_ms in steps_ms if every_ms <= step_ms), default=min(steps_ms))
