"""The texts and tables of the data quality page; without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from barmill.charts.candles import price_decimals
from barmill.charts.quality import reason_text
from barmill.ingest.feeds.instrument_listing import Listing
from barmill.model.tick import REASONS
from barmill.platform.texts import age, duration, escape_markdown, moment, number_text
from barmill.storage.cover_records import SeamSummary
from barmill.storage.verification import Verdict
from control.quality import ComparisonState, State, TickCounts

_MAX_STALE_NAMES = 8


@dataclass(frozen=True)
class Bar:
    """The bar whose history the page shows, as named in the address."""

    instrument: str
    frame: str
    start_ms: int

    @property
    def text(self) -> str:
        """Return the text that `parse_bar` reads."""
        return f"{self.instrument} {self.frame} {self.start_ms}"

    @property
    def label(self) -> str:
        """Return the label for users."""
        return f"{self.instrument}, {self.frame} from {moment(self.start_ms)} UTC"


def parse_bar(text: str) -> Bar | None:
    """Return the bar that an address names, or None for other text. An instrument's name may contain spaces."""
    parts = text.rsplit(" ", 2)
    if len(parts) != 3 or not parts[2].isdecimal() or len(parts[2]) > 15:
        return None
    return Bar(parts[0], parts[1], int(parts[2]))


def tick_counts_line(counts: TickCounts) -> str:
    """Return the counts as one sum, in Markdown, with a mark for whether they add up."""
    if not counts.read:
        return ":gray[●] Nothing has been read yet."
    terms = [
        f"{counts.in_bars:,} in bars",
        f"{sum(counts.rejected.values()):,} rejected",
        f"{counts.too_late:,} too late",
        f"{counts.waiting:,} pending",
        *([f"{counts.damaged:,} in damaged blocks"] if counts.damaged else []),
    ]
    line = f"**{counts.read:,} read** = {' + '.join(terms)}"
    if not counts.unaccounted:
        return f":green[●] {line}"
    if counts.unaccounted < 0:
        return f":orange[●] {line}; {-counts.unaccounted:,} are being read again after a restart of the job"
    return (
        f":red[●] {line}; {counts.unaccounted:,} are unaccounted for; run ./barmill verify to find the bars that differ"
    )


def reused_line(reused_ids: int) -> str:
    """Return a line about ticks that reuse an id, in Markdown; '' if there are none."""
    if not reused_ids:
        return ""
    return (
        f":orange[●] {reused_ids:,} ticks reuse an id of another tick of their instrument: the provider reset its"
        " counter, or its ids are not unique. They are in the bars; the Feeds page shows which feed sent them."
    )


def missing_ticks_line(summary: SeamSummary | None) -> str:
    """Return a line about bars that may lack ticks, in Markdown; '' if there are none."""
    if summary is None:
        return ""
    affected = [
        *([f"{summary.instruments:,} instruments"] if summary.instruments else []),
        *([f"the instruments of {summary.shards:,} shards that had no bars"] if summary.shards else []),
    ]
    return (
        f":orange[●] Bars up to {moment(summary.to_ms)} UTC may lack ticks, in {summary.frames:,} frames of"
        f" {' and '.join(affected)}: a job started after the log had dropped ticks, or missed some. Where another"
        " frame has all ticks, pages show its bars instead."
    )


def stale_line(listings: Sequence[Listing], now_ms: int) -> str:
    """Return a line about instruments that have become silent, in Markdown; '' if there are none."""
    stale = sorted((listing for listing in listings if listing.stale), key=lambda listing: listing.last_tick_ms or 0)
    if not stale:
        return ""
    names = [
        f"{escape_markdown(listing.instrument)} ({age(now_ms - (listing.last_tick_ms or 0))})"
        for listing in stale[:_MAX_STALE_NAMES]
    ]
    remaining_text = f" and {len(stale) - len(names):,} more" if len(stale) > len(names) else ""
    return f":orange[●] {len(stale):,} silent for far longer than usual: {', '.join(names)}{remaining_text}"


def reasons_table(total_counts: Mapping[str, int], recent_counts: Mapping[str, int]) -> pl.DataFrame:
    """Return each reason with its counts and meaning, the most frequent in this time range first."""
    rows = [
        (reason_text(reason), recent_counts.get(reason, 0), count, REASONS.get(reason, ""))
        for reason, count in sorted(
            total_counts.items(), key=lambda entry: (-recent_counts.get(entry[0], 0), -entry[1], entry[0])
        )
    ]
    schema = {"Reason": pl.String(), "In this range": pl.Int64(), "Total": pl.Int64(), "Meaning": pl.String()}
    return pl.DataFrame(rows, schema, orient="row")


def samples_table(samples: pl.DataFrame) -> pl.DataFrame:
    """Return rejects (SAMPLE_SCHEMA) as a table for users: time, source, reason, and the row as received.

    Only rows of files have lines, and only rows that came too late have a lateness; each of these two columns is left
    out if it is empty.
    """
    table = samples.select(
        pl.from_epoch("rejected_ms", time_unit="ms").alias("Rejected, UTC"),
        pl.col("source").alias("Source"),
        pl.col("line").alias("Line"),
        pl.col("reason").str.replace_all("_", " ").alias("Reason"),
        pl.col("instrument").alias("Instrument"),
        (pl.col("late_ms") / 1_000).alias("Late, s"),
        pl.col("time").alias("Time"),
        pl.col("price_open").alias("Open"),
        pl.col("price_close").alias("Close"),
        pl.col("volume").alias("Volume"),
        pl.col("id").alias("Id"),
        pl.col("detail").alias("Detail"),
    )
    return table.drop(name for name in ("Line", "Late, s") if table[name].is_null().all())


def revised_table(revised: pl.DataFrame) -> pl.DataFrame:
    """Return superseded versions (REVISION_SCHEMA) as a table for users."""
    return revised.select(
        pl.from_epoch("superseded_ms", time_unit="ms").alias("Changed, UTC"),
        pl.col("instrument").alias("Instrument"),
        pl.col("frame").alias("Frame"),
        pl.from_epoch("start_ms", time_unit="ms").alias("Bar, UTC"),
        ((pl.col("superseded_ms") - pl.col("end_ms")) / 1_000).alias("After its end, s"),
        (pl.col("revision") + 1).alias("Revision"),
        pl.col("ticks").alias("Ticks before"),
    )


def history_table(versions: pl.DataFrame) -> pl.DataFrame:
    """Return all versions of one bar (BAR_SCHEMA, oldest first) with their exact values and start of validity."""
    decimals = price_decimals(versions)
    prices = (
        pl.Series(name.capitalize(), [number_text(value, decimals) for value in versions[name]], pl.String)
        for name in ("open", "high", "low", "close")
    )
    amounts = (
        pl.Series(name.capitalize(), [number_text(value) for value in versions[name]], pl.String)
        for name in ("volume", "vwap")
    )
    return versions.select(
        pl.col("revision").alias("Revision"),
        pl.from_epoch("changed_ms", time_unit="ms").alias("Known from, UTC"),
        *prices,
        *amounts,
        pl.col("ticks").alias("Ticks"),
        pl.col("state").alias("State"),
    )


def lateness_line(ticks: int, late_ms: pl.Series) -> str:
    """Return the lateness of the newest ticks as a sentence; late_ms: delays of those that came after a newer one."""
    if not ticks:
        return "There are no ticks yet."
    if not late_ms.len():
        return f"Of the newest {ticks:,} ticks, each arrived in the time order of its instrument."
    median, longest = (_duration_text(late_ms.quantile(share, "nearest") or 0) for share in (0.5, 1.0))
    return (
        f"Of the newest {ticks:,} ticks, {late_ms.len():,} ({late_ms.len() / ticks:.2%}) arrived after a newer tick of"
        f" their instrument: half of these at most {median} late, the latest {longest} late."
    )


def comparison_line(comparison_state: ComparisonState, now_ms: int) -> str:
    """Return the result of the last comparison, in Markdown."""
    took = duration((comparison_state.ended_ms - comparison_state.started_ms) // 1_000 * 1_000)
    ago = age(now_ms - comparison_state.ended_ms)
    match comparison_state.state:
        case State.NEVER:
            return "Bars have not been compared since the app started."
        case State.RUNNING:
            return f"Recomputing for {age(now_ms - comparison_state.started_ms)}."
        case State.DONE if comparison_state.verdict is not None:
            return f"{_verdict_text(comparison_state.verdict)} Compared {ago} ago, in {took}."
        case State.STOPPED:
            return f"The comparison was stopped {ago} ago."
    return f":red[●] The comparison failed {ago} ago: {escape_markdown(comparison_state.problem)}"


def _verdict_text(verdict: Verdict) -> str:
    if not verdict.bars:
        return ":gray[●] No bars could be compared."
    note = (
        f" {verdict.unverifiable:,} are older than the tick log or the retention limit and cannot be recomputed."
        if verdict.unverifiable
        else ""
    )
    stopped = "".join(f"\n\n:red[●] {escape_markdown(sentence)}" for sentence in verdict.stopped)
    if verdict.different:
        return f":red[●] **{verdict.different:,} of {verdict.bars:,} bars differ** from a recomputation.{note}{stopped}"
    if verdict.shown_different:
        counts = f"{verdict.shown_different:,} of {verdict.shown:,}"
        return (
            f":red[●] **{counts} bars that pages compute from stored bars differ** from a recomputation.{note}{stopped}"
        )
    if stopped:
        return (
            f":red[●] **Frames have stopped**, although all {verdict.bars:,} bars equal a recomputation"
            f" from {verdict.ticks:,} ticks.{note}{stopped}\n\n"
        )
    given_up = "".join(f"\n\n:gray[●] {escape_markdown(sentence)}" for sentence in verdict.given_up)
    return (
        f":green[●] **All {verdict.bars:,} bars equal a recomputation** from {verdict.ticks:,} ticks, of which"
        f" {verdict.late:,} were too late.{note}{given_up}" + ("\n\n" if given_up else "")
    )


def _duration_text(length_ms: float) -> str:
    return f"{length_ms:.0f} ms" if length_ms < 1_000 else age(int(length_ms))
