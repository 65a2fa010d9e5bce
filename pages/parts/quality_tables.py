"""The texts and tables of the data quality page: worked out here, placed by the page. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from bar.number_text import number_text
from bar.verification import Verdict
from charts.candles import price_decimals
from charts.quality import words
from charts.texts import age, duration, plain
from control.instruments.listing import Listing
from control.quality.accounting import Account
from control.quality.comparison import Standing, State
from feed.tick import REASONS

_STALE_SHOWN = 8


@dataclass(frozen=True)
class Bar:
    """Which bar a history is of, as the address names it."""

    instrument: str
    frame: str
    start_ms: int

    @property
    def text(self) -> str:
        """Return what read_bar reads."""
        return f"{self.instrument} {self.frame} {self.start_ms}"

    @property
    def label(self) -> str:
        """Return how people read it."""
        moment = datetime.fromtimestamp(self.start_ms / 1_000, UTC)
        return f"{self.instrument}, {self.frame} from {moment:%Y-%m-%d %H:%M:%S} UTC"


def read_bar(text: str) -> Bar | None:
    """Read what an address says; None if that is no bar. An instrument may have spaces in its name."""
    parts = text.rsplit(" ", 2)
    if len(parts) != 3 or not parts[2].isdecimal() or len(parts[2]) > 15:
        return None
    return Bar(parts[0], parts[1], int(parts[2]))


def account_line(account: Account) -> str:
    """Write the account as one sum, in Markdown, with a mark that says whether it adds up."""
    if not account.read:
        return ":gray[●] Nothing has been read yet."
    terms = [
        f"{account.in_bars:,} in bars",
        f"{sum(account.refused.values()):,} refused",
        f"{account.too_late:,} too late",
        f"{account.waiting:,} on their way",
        *([f"{account.damaged:,} in damaged blocks"] if account.damaged else []),
    ]
    line = f"**{account.read:,} read** = {' + '.join(terms)}"
    if not account.off_by:
        return f":green[●] {line}"
    if account.off_by < 0:
        return f":orange[●] {line}; {-account.off_by:,} are being read again after a restart of the job"
    return f":red[●] {line}; {account.off_by:,} are unaccounted for, ./barmill verify says which bars differ"


def stale_line(listings: Sequence[Listing], now_ms: int) -> str:
    """Say which instruments have gone silent, in Markdown; '' if none has."""
    stale = sorted((one for one in listings if one.stale), key=lambda one: one.last_tick_ms or 0)
    if not stale:
        return ""
    shown = [f"{plain(one.instrument)} ({age(now_ms - (one.last_tick_ms or 0))})" for one in stale[:_STALE_SHOWN]]
    more = f" and {len(stale) - len(shown):,} more" if len(stale) > len(shown) else ""
    return f":orange[●] {len(stale):,} far longer silent than usual: {', '.join(shown)}{more}"


def reasons_table(ever: Mapping[str, int], lately: Mapping[str, int]) -> pl.DataFrame:
    """Return every reason that ever occurred with what it means, the most frequent of late first."""
    rows = [
        (words(reason), lately.get(reason, 0), count, REASONS.get(reason, ""))
        for reason, count in sorted(ever.items(), key=lambda one: (-lately.get(one[0], 0), -one[1], one[0]))
    ]
    schema = {"Reason": pl.String(), "In this time": pl.Int64(), "Ever": pl.Int64(), "Meaning": pl.String()}
    return pl.DataFrame(rows, schema, orient="row")


def samples_table(samples: pl.DataFrame) -> pl.DataFrame:
    """Return rejects (SAMPLE_SCHEMA) as people read them: when, from where, why, and the row as it came."""
    return samples.select(
        pl.from_epoch("rejected_ms", time_unit="ms").alias("Refused, UTC"),
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


def revised_table(revised: pl.DataFrame) -> pl.DataFrame:
    """Return superseded versions (REVISED_SCHEMA) as people read them."""
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
    """Return all versions of one bar (BAR_SCHEMA, oldest first): what each said, exactly, and from when on."""
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
    """Say in one sentence how punctual the newest ticks were; late_ms is of those that were behind another."""
    if not ticks:
        return "There are no ticks yet."
    if not late_ms.len():
        return f"Of the newest {ticks:,} ticks, each came in the order of its instrument's time."
    half, most = (_span(late_ms.quantile(share, "nearest") or 0) for share in (0.5, 1.0))
    return (
        f"Of the newest {ticks:,} ticks, {late_ms.len():,} ({late_ms.len() / ticks:.2%}) came after a newer one of"
        f" their instrument: half of these by at most {half}, the last of them by {most}."
    )


def comparison_line(standing: Standing, now_ms: int) -> str:
    """Say how the last comparison ended, in Markdown."""
    took = duration((standing.ended_ms - standing.started_ms) // 1_000 * 1_000)
    ago = age(now_ms - standing.ended_ms)
    match standing.state:
        case State.NEVER:
            return "Bars were not compared since the app was started."
        case State.RUNNING:
            return f"Recomputing for {age(now_ms - standing.started_ms)}."
        case State.DONE if standing.verdict is not None:
            return f"{_verdict(standing.verdict)} Compared {ago} ago, in {took}."
        case State.STOPPED:
            return f"The comparison was stopped {ago} ago."
    return f":red[●] The comparison failed {ago} ago: {plain(standing.problem)}"


def _verdict(verdict: Verdict) -> str:
    if not verdict.bars:
        return ":gray[●] There was no bar that could be compared."
    beyond = (
        f" {verdict.unverifiable:,} are older than the tick log, or than what is kept, and cannot be recomputed."
        if verdict.unverifiable
        else ""
    )
    stopped = "".join(f"\n\n:red[●] {plain(sentence)}" for sentence in verdict.stopped)
    if verdict.different:
        return (
            f":red[●] **{verdict.different:,} of {verdict.bars:,} bars differ** from a recomputation.{beyond}{stopped}"
        )
    if verdict.shown_different:
        many = f"{verdict.shown_different:,} of {verdict.shown:,}"
        return f":red[●] **{many} bars that pages make of stored ones differ** from a recomputation.{beyond}{stopped}"
    if stopped:
        return (
            f":red[●] **Frames have stopped**, although all {verdict.bars:,} bars equal a recomputation"
            f" from {verdict.ticks:,} ticks.{beyond}{stopped}\n\n"
        )
    given_up = "".join(f"\n\n:gray[●] {plain(sentence)}" for sentence in verdict.given_up)
    return (
        f":green[●] **All {verdict.bars:,} bars equal a recomputation** from {verdict.ticks:,} ticks, of which"
        f" {verdict.late:,} were too late.{beyond}{given_up}" + ("\n\n" if given_up else "")
    )


def _span(length_ms: float) -> str:
    return f"{length_ms:.0f} ms" if length_ms < 1_000 else age(int(length_ms))
