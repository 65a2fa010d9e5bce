"""What was found in a document: its rows, range and order, and the options that may help. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from feed.files.suggestions import venue_column
from feed.tick import Checked
from feed.tick_time import read_times

Order = Literal["oldest first", "newest first", "mixed", "one time"]
_NS_PER_MS = 1_000_000
_INSTRUMENTS_SHOWN = 5
# Lateness is offered instead of sorting up to this.
_MAX_OFFERED_MS = 86_400_000


@dataclass
class Findings:
    """What has been found so far in one document, as `add` is given its rows.

    newest_ns: each instrument's newest time, which may be shared by the documents that follow each other.
    late: rows that come later than the lateness; latest_ms: by how much the latest is behind.
    """

    columns: Sequence[str] = ()
    lateness_ms: int = 0
    newest_ns: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    ticks: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    first_ns: int | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    instruments: dict[str, None] = field(default_factory=dict)
    rises: int = 0
    falls: int = 0
    late: int = 0
    latest_ms: int = 0
    repeats: int = 0
    commas: bool = False
    local_times: bool = False
    damage: list[str] = field(default_factory=list)

    def add(self, raw: pl.DataFrame, checked: Checked, broken: pl.DataFrame) -> None:
        """Take rows into account: as they came, as ticks and rejects, and those that are broken."""
        self.rows += raw.height + broken.height
        self.ticks += checked.ticks.height
        rejects = [checked.rejects.select("reason")] + ([broken.select("reason")] if broken.height else [])
        for reason, count in pl.concat(rejects).group_by("reason").len().sort("reason").iter_rows():
            self.rejected[reason] = self.rejected.get(reason, 0) + count
        if broken.height:
            self.damage += broken.filter(pl.col("reason") == "truncated_file")["detail"].to_list()
        self._look_at_rejects(checked.rejects)
        if checked.ticks.height:
            self._look_at_times(checked.ticks)
            self._look_at_ids(checked.ticks)

    @property
    def order(self) -> Order | None:
        """Return how times go from row to row within an instrument; None without ticks."""
        if not self.ticks:
            return None
        if not self.rises and not self.falls:
            return "one time"
        if not self.falls:
            return "oldest first"
        return "newest first" if self.falls > self.rises * 2 else "mixed"

    def advice(self, given: Mapping[str, object]) -> list[str]:
        """Return a sentence for each option that may help. given: the options that were given already."""
        found = list[str]()
        if self.rejected.get("bad_time") and self.local_times and not given.get("zone"):
            found.append("Times carry no zone; say which it is with --zone, such as --zone UTC.")
        elif self.rejected.get("bad_time", 0) > self.ticks:
            found.append("Times cannot be read; name another column with --map time=COLUMN, or their --time-format.")
        if self.commas and given.get("decimal") == ".":
            found.append("Numbers have a decimal comma; say --decimal ,")
        if self.rejected.get("volume_negative") and not given.get("signed"):
            found.append("Volumes are negative; if that marks sells, say --amounts signed.")
        if self.repeats and not given.get("id"):
            venue = venue_column(self.columns)
            option = f"--id {venue},id" if venue else "--id with more columns"
            found.append(
                f"{self.repeats:,} ids repeat with another price or time; if each venue counts its own, say {option}."
            )
        if not (given.get("sort") or given.get("newest_first")):
            if self.order == "newest first":
                found.append("Times fall from row to row; say --newest-first.")
            elif self.late:
                found.append(late_advice(self.late, self.latest_ms))
        return found

    def _look_at_rejects(self, rejects: pl.DataFrame) -> None:
        if not rejects.height:
            return
        times = rejects.filter(pl.col("reason") == "bad_time")["time"].drop_nulls().head(100)
        self.local_times |= len(times) > 0 and bool(read_times(times, "auto", "UTC").is_not_null().any())
        numbers = rejects.filter(pl.col("reason") == "bad_number")
        comma = pl.any_horizontal(pl.col(name).str.contains(r"^\s*-?\d+,\d+\s*$") for name in ("price_open", "volume"))
        self.commas |= bool(numbers.select(comma.fill_null(False).any()).item())

    def _look_at_times(self, ticks: pl.DataFrame) -> None:
        times = ticks["time_ns"]
        ends = [end for end in (times.min(), times.max(), times[0]) if isinstance(end, int)]
        self.from_ns = min(ends[0], self.from_ns if self.from_ns is not None else ends[0])
        self.to_ns = max(ends[1], self.to_ns if self.to_ns is not None else ends[1])
        self.first_ns = ends[2] if self.first_ns is None else self.first_ns
        self.instruments |= dict.fromkeys(ticks["instrument"].unique(maintain_order=True))
        before = pl.DataFrame(
            {"instrument": list(self.newest_ns), "time_ns": list(self.newest_ns.values())},
            {"instrument": pl.String(), "time_ns": pl.Int64()},
        )
        own = pl.concat([before.with_columns(own=False), ticks.select("instrument", "time_ns", own=True)])
        step = pl.col("time_ns").diff().over("instrument")
        behind = pl.col("time_ns").cum_max().over("instrument") - pl.col("time_ns")
        steps = own.select("own", step=step, behind=behind).filter("own")
        # The first step of a document is from another one, and says nothing about order.
        inner = ticks.select(step=step)["step"]
        self.rises += int((inner > 0).sum())
        self.falls += int((inner < 0).sum())
        late = steps["behind"].filter(steps["behind"] > self.lateness_ms * _NS_PER_MS)
        if len(late):
            self.late += len(late)
            self.latest_ms = max(self.latest_ms, -(-int(late.max()) // _NS_PER_MS))  # type: ignore[arg-type]
        newest = own.group_by("instrument").agg(pl.max("time_ns"))
        self.newest_ns.update(zip(newest["instrument"], newest["time_ns"], strict=True))

    def _look_at_ids(self, ticks: pl.DataFrame) -> None:
        """Count ids of this chunk that come twice with another price or time."""
        named = ticks.select(
            "instrument", "time_ns", "price_close", "volume", id=pl.coalesce(pl.col("id").cast(pl.String), "id_text")
        ).drop_nulls("id")
        kinds = named.group_by("instrument", "id").agg(rows=pl.struct("time_ns", "price_close", "volume").n_unique())
        self.repeats += int((kinds["rows"] - 1).sum())


def late_advice(rows: int, latest_ms: int) -> str:
    """Say what helps where rows are too late, the latest of them by so much behind their instrument's newest."""
    longer = f", or a longer --lateness, such as {-(-latest_ms // 60_000)}m" if latest_ms <= _MAX_OFFERED_MS else ""
    return f"{rows:,} rows are too far behind their instrument's newest tick; say --sort{longer}."
