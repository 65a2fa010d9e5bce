"""Findings about a document: its rows, range and order, and suggested columns and options. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException
from typing import Literal

import polars as pl

from barmill.model.tick import CheckedRows
from barmill.model.tick_time import read_times
from barmill.model.time_text import read_time
from barmill.platform.clock import MS_PER_DAY, NS_PER_MS

_USUAL_NAMES = {
    "time": ("time", "timestamp", "ts", "datetime", "transacttime", "tradetime", "eventtime", "siptimestamp", "t", "e"),
    "instrument": ("instrument", "symbol", "ticker", "s", "sym", "pair", "product", "productid", "instid", "market"),
    "price": ("price", "p", "px", "last", "lastprice", "tradeprice", "rate", "close"),
    "volume": ("volume", "size", "amount", "quantity", "qty", "q", "v", "sz", "lastsize"),
}
_NON_ALPHANUMERIC = re.compile(r"[^a-z0-9]")
_VENUE_NAMES = ("exchange", "venue", "market", "exchangeid")


def suggested_columns(
    names: Sequence[str], sample: Sequence[Mapping[str, str | None]], missing: Sequence[str]
) -> dict[str, str]:
    """Return a likely column, if there is one, for each missing field and for the volume.

    sample: some rows; a column whose values do not fit is excluded. Without rows, names alone decide.
    """
    columns = dict[str, str]()
    for column in [*missing, *(["volume"] if missing and "volume" not in names else [])]:
        likely = sorted(
            (name for name in names if _normalized(name) in _USUAL_NAMES[column] and name not in columns.values()),
            key=lambda name: _USUAL_NAMES[column].index(_normalized(name)),
        )
        if column == "time" and sample:
            likely += [name for name in names if name not in likely]
        fitting = [name for name in likely if _fits(column, [row.get(name) for row in sample])]
        if fitting:
            columns[column] = fitting[0]
    return columns


def lacks_zone(texts: Iterable[str | None]) -> bool:
    """Return whether all texts that are not empty, at least one, are times without a time zone."""
    filled = [text.strip() for text in texts if text and text.strip()]
    return bool(filled) and all(
        read_time(text, "auto", "") is None and read_time(text, "auto", "UTC") is not None for text in filled
    )


def venue_column(names: Sequence[str]) -> str | None:
    """Return the column of the venue, or None; ids may be unique only within each venue."""
    return next((name for name in names if _normalized(name) in _VENUE_NAMES), None)


def _normalized(name: str) -> str:
    return _NON_ALPHANUMERIC.sub("", name.lower())


def _fits(field: str, values: Sequence[str | None]) -> bool:
    texts = [value.strip() for value in values if value and value.strip()]
    if not values:
        return True
    if not texts:
        return False
    if field == "time":
        return all(read_time(value, "auto", "UTC") is not None for value in texts)
    numbers = [_number(value) for value in texts]
    if field == "instrument":
        return all(number is None for number in numbers)
    return all(number is not None for number in numbers)


def _number(value: str) -> Decimal | None:
    try:
        return Decimal(value.replace(",", "."))
    except DecimalException:
        return None


Order = Literal["oldest first", "newest first", "mixed", "one time"]
# For rows that are later than this, only sorting is suggested, not a longer lateness.
_MAX_OFFERED_MS = MS_PER_DAY


@dataclass
class Findings:
    """The findings so far in one document; `add` updates them with its rows.

    newest_ns: each instrument's newest time; consecutive documents may share it. late: rows that are behind their
    instrument's newest time by more than lateness_ms; latest_ms: the largest delay among them.
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
    repeated_ids: int = 0
    decimal_commas: bool = False
    local_times: bool = False
    damage: list[str] = field(default_factory=list)

    def add(self, raw: pl.DataFrame, checked: CheckedRows, broken: pl.DataFrame) -> None:
        """Include rows: as read, as ticks and rejects, and those that are broken."""
        self.rows += raw.height + broken.height
        self.ticks += checked.ticks.height
        rejects = [checked.rejects.select("reason")] + ([broken.select("reason")] if broken.height else [])
        for reason, count in pl.concat(rejects).group_by("reason").len().sort("reason").iter_rows():
            self.rejected[reason] = self.rejected.get(reason, 0) + count
        if broken.height:
            self.damage += broken.filter(pl.col("reason") == "truncated_file")["detail"].to_list()
        self._add_rejects(checked.rejects)
        if checked.ticks.height:
            self._add_times(checked.ticks)
            self._add_ids(checked.ticks)

    @property
    def order(self) -> Order | None:
        """Return the order of times from row to row within each instrument; None without ticks."""
        if not self.ticks:
            return None
        if not self.rises and not self.falls:
            return "one time"
        if not self.falls:
            return "oldest first"
        return "newest first" if self.falls > self.rises * 2 else "mixed"

    def advice(self, options: Mapping[str, object]) -> list[str]:
        """Return a sentence for each option that may help. options: those already set."""
        advice_lines = list[str]()
        if self.rejected.get("bad_time") and self.local_times and not options.get("zone"):
            advice_lines.append("Times have no zone; set it with --zone, such as --zone UTC.")
        elif self.rejected.get("bad_time", 0) > self.ticks:
            advice_lines.append(
                "Times cannot be read; choose another column with --map time=COLUMN, or set --time-format."
            )
        if self.decimal_commas and options.get("decimal") == ".":
            advice_lines.append("Numbers have a decimal comma; use --decimal ,")
        if self.rejected.get("volume_negative") and not options.get("signed"):
            advice_lines.append("Volumes are negative; if that marks sells, use --amounts signed.")
        if self.repeated_ids and not options.get("id"):
            venue = venue_column(self.columns)
            option = f"--id {venue},id" if venue else "--id with more columns"
            advice_lines.append(
                f"{self.repeated_ids:,} ids repeat with another price or time; if each venue has separate ids, use"
                f" {option}."
            )
        if not (options.get("sort") or options.get("newest_first")):
            if self.order == "newest first":
                advice_lines.append("The newest rows are first; use --newest-first.")
            elif self.late:
                advice_lines.append(late_advice(self.late, self.latest_ms))
        return advice_lines

    def _add_rejects(self, rejects: pl.DataFrame) -> None:
        if not rejects.height:
            return
        times = rejects.filter(pl.col("reason") == "bad_time")["time"].drop_nulls().head(100)
        self.local_times |= len(times) > 0 and bool(read_times(times, "auto", "UTC").is_not_null().any())
        numbers = rejects.filter(pl.col("reason") == "bad_number")
        comma = pl.any_horizontal(pl.col(name).str.contains(r"^\s*-?\d+,\d+\s*$") for name in ("price_open", "volume"))
        self.decimal_commas |= bool(numbers.select(comma.fill_null(False).any()).item())

    def _add_times(self, ticks: pl.DataFrame) -> None:
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
        tick_times = pl.concat([before.with_columns(is_new=False), ticks.select("instrument", "time_ns", is_new=True)])
        step = pl.col("time_ns").diff().over("instrument")
        behind = pl.col("time_ns").cum_max().over("instrument") - pl.col("time_ns")
        steps = tick_times.select("is_new", step=step, behind=behind).filter("is_new")
        # The first step of a document comes from the previous document, so it says nothing about order.
        inner = ticks.select(step=step)["step"]
        self.rises += int((inner > 0).sum())
        self.falls += int((inner < 0).sum())
        late = steps["behind"].filter(steps["behind"] > self.lateness_ms * NS_PER_MS)
        if len(late):
            self.late += len(late)
            self.latest_ms = max(self.latest_ms, -(-int(late.max()) // NS_PER_MS))  # type: ignore[arg-type]
        newest = tick_times.group_by("instrument").agg(pl.max("time_ns"))
        self.newest_ns.update(zip(newest["instrument"], newest["time_ns"], strict=True))

    def _add_ids(self, ticks: pl.DataFrame) -> None:
        """Count the ids of this chunk that occur again with another price, volume or time."""
        with_ids = ticks.select(
            "instrument", "time_ns", "price_close", "volume", id=pl.coalesce(pl.col("id").cast(pl.String), "id_text")
        ).drop_nulls("id")
        versions = with_ids.group_by("instrument", "id").agg(
            rows=pl.struct("time_ns", "price_close", "volume").n_unique()
        )
        self.repeated_ids += int((versions["rows"] - 1).sum())


def late_advice(rows: int, latest_ms: int) -> str:
    """Return advice for late rows; latest_ms: the largest delay behind the instrument's newest tick."""
    longer = f", or a longer --lateness, such as {-(-latest_ms // 60_000)}m" if latest_ms <= _MAX_OFFERED_MS else ""
    return f"{rows:,} rows are too far behind their instrument's newest tick; use --sort{longer}."
