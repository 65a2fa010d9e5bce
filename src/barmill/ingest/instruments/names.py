"""Names of instruments: the feed, a colon, the provider's own name; and lists of names that users type. Pure.

The prefix distinguishes instruments of different exchanges. The feed defined in feed.json has no prefix: its
instruments were named before other feeds existed.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import polars as pl

from barmill.ingest.connection.provider import Batch, CatalogueEntry, Provider
from barmill.model.tick import MAX_INSTRUMENT_CHARACTERS
from barmill.platform.errors import ControlError

# The providers that feed.json may name; that feed has the name of its provider.
FIRST_FEED_NAMES = frozenset({"market", "replay", "kafka"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")


def is_feed_name(text: str) -> bool:
    """Return whether a text is a valid feed name."""
    return _NAME.fullmatch(text) is not None


def prefix_of(feed: str) -> str:
    """Return the prefix of a feed's instrument names, or an empty text."""
    return "" if feed in FIRST_FEED_NAMES else f"{feed}:"


def without_prefix(names: frozenset[str] | None, prefix: str) -> frozenset[str] | None:
    """Return the provider's own names of these instruments; None stays None."""
    return names if names is None or not prefix else frozenset(name.removeprefix(prefix) for name in names)


@dataclass(frozen=True)
class PrefixedProvider:
    """A provider under its feed's name: instruments get the prefix, and everything is stored under that name.

    Not used for the feed defined in feed.json.
    """

    name: str
    provider: Provider

    @property
    def live(self) -> bool:
        """Return whether the source's clock is the wall clock."""
        return self.provider.live

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the provider's batches with prefixed instrument names and no origin."""
        for batch in self.provider.batches(cursor, stop):
            yield replace(
                batch, ticks=self._add_prefix(batch.ticks), broken=self._add_prefix(batch.broken), origin=None
            )

    def catalogue(self) -> Sequence[CatalogueEntry] | None:
        """Return the provider's catalogue with prefixed instrument names."""
        listed = self.provider.catalogue()
        prefix = prefix_of(self.name)
        return None if listed is None else [replace(item, instrument=prefix + item.instrument) for item in listed]

    def _add_prefix(self, table: pl.DataFrame) -> pl.DataFrame:
        if "instrument" not in table.columns:
            return table
        name = pl.col("instrument").cast(pl.String).str.strip_chars()
        # A row without a name stays without one and is rejected for that reason.
        return table.with_columns(instrument=pl.when(name != "").then(prefix_of(self.name) + name).otherwise(name))


# Separators within a line; spreadsheets and e-mails use them. New lines always separate names.
_SEPARATORS = re.compile(r"[,;\t]")
_SURROUNDING_CHARACTERS = " \"'"


class Outcome(StrEnum):
    """The outcome of one name."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    ALREADY_ENABLED = "already enabled"
    ALREADY_DISABLED = "already disabled"
    DUPLICATE = "duplicate"  # an earlier name in the list is the same instrument
    UNKNOWN = "unknown"  # not in the provider's catalogue
    NOT_A_NAME = "not a name"  # too long, or with characters that no name contains

    @property
    def is_error(self) -> bool:
        """Return whether the name refers to no instrument."""
        return self in (Outcome.UNKNOWN, Outcome.NOT_A_NAME)

    @property
    def is_change(self) -> bool:
        """Return whether the instrument changes its state."""
        return self in (Outcome.ENABLED, Outcome.DISABLED)


@dataclass(frozen=True)
class NameOutcome:
    """One name of a list: its line number, the text as written, the instrument, if found, and the outcome."""

    number: int
    text: str
    instrument: str | None
    outcome: Outcome


def parse_names(text: str) -> list[tuple[int, str]]:
    """Return (line number from 1, name) for every name in a pasted text; a line may contain several names."""
    names = (
        (number, part.strip(_SURROUNDING_CHARACTERS))
        for number, line in enumerate(text.splitlines(), 1)
        for part in _SEPARATORS.split(line)
    )
    return [(number, name) for number, name in names if name]


def evaluate_names(
    names: Iterable[tuple[int, str]], enabled: Mapping[str, bool], *, enable: bool
) -> tuple[NameOutcome, ...]:
    """Return the outcome of each name; `enabled` holds the current state of each instrument of the catalogue.

    A name that differs from the catalogue only in case matches that instrument, if exactly one matches.
    """
    spellings = _unique_spellings(enabled)
    seen_instruments: set[str] = set()
    lines = []
    for number, text in names:
        instrument = text if text in enabled else spellings.get(text.casefold())
        lines.append(
            NameOutcome(number, text, instrument, _outcome(text, instrument, seen_instruments, enabled, enable))
        )
        if instrument is not None:
            seen_instruments.add(instrument)
    return tuple(lines)


def report_text(report: Sequence[NameOutcome]) -> str:
    """Return the counts of a report in one line, such as `3 enabled, 1 already enabled`."""
    counts = Counter(line.outcome for line in report)
    return ", ".join(f"{counts[outcome]:,} {outcome.value}" for outcome in Outcome if counts[outcome]) or "no names"


def _outcome(
    text: str, instrument: str | None, seen_instruments: set[str], enabled: Mapping[str, bool], enable: bool
) -> Outcome:
    if instrument is None:
        return Outcome.UNKNOWN if _is_instrument_name(text) else Outcome.NOT_A_NAME
    if instrument in seen_instruments:
        return Outcome.DUPLICATE
    if enabled[instrument] == enable:
        return Outcome.ALREADY_ENABLED if enable else Outcome.ALREADY_DISABLED
    return Outcome.ENABLED if enable else Outcome.DISABLED


def _is_instrument_name(text: str) -> bool:
    return 0 < len(text) <= MAX_INSTRUMENT_CHARACTERS and text.isprintable()


def _unique_spellings(names: Iterable[str]) -> dict[str, str]:
    """Return the names that are unique without regard to case, by their case-folded form."""
    folded = [(name.casefold(), name) for name in names]
    counts = Counter(form for form, _ in folded)
    return {form: name for form, name in folded if counts[form] == 1}


class InstrumentsError(ControlError):
    """Instruments cannot be selected or requested this way; nothing was changed."""


class NotSelectableError(InstrumentsError):
    """The provider always delivers everything it has, so nothing can be selected."""


class NoCatalogueError(InstrumentsError):
    """The provider's catalogue was never fetched; start Barmill, which fetches it."""


class UnknownInstrumentsError(InstrumentsError):
    """Some of the names are not instruments of the provider; `report` holds the outcome of each name."""

    def __init__(self, sentence: str, report: Sequence[NameOutcome]) -> None:
        super().__init__(sentence)
        self.report = tuple(report)
