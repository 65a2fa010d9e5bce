"""What becomes of each name in a list of instruments that somebody typed or pasted. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from feed.tick import MAX_INSTRUMENT_CHARACTERS

# What people have between names: new lines first of all, and what spreadsheets and e-mails put there.
_SEPARATORS = re.compile(r"[,;\t]")
_AROUND = " \"'"


class Outcome(StrEnum):
    """What becomes of one name."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    ALREADY_ENABLED = "already enabled"
    ALREADY_DISABLED = "already disabled"
    DUPLICATE = "duplicate"  # a line before this one names the same instrument
    UNKNOWN = "unknown"  # not in the provider's catalogue
    NOT_A_NAME = "not a name"  # too long, or with characters that no name has

    @property
    def wrong(self) -> bool:
        """Tell whether the name names nothing."""
        return self in (Outcome.UNKNOWN, Outcome.NOT_A_NAME)

    @property
    def changes(self) -> bool:
        """Tell whether the instrument is another way from now on."""
        return self in (Outcome.ENABLED, Outcome.DISABLED)


@dataclass(frozen=True)
class Line:
    """One name: the line it stood in, as it was written, the instrument it names, if any, and what becomes of it."""

    number: int
    text: str
    instrument: str | None
    outcome: Outcome


def names_in(text: str) -> list[tuple[int, str]]:
    """Return (line number from 1, name) for every name in a pasted text; several may stand in one line."""
    names = (
        (number, part.strip(_AROUND))
        for number, line in enumerate(text.splitlines(), 1)
        for part in _SEPARATORS.split(line)
    )
    return [(number, name) for number, name in names if name]


def judge(names: Iterable[tuple[int, str]], enabled: Mapping[str, bool], *, enable: bool) -> tuple[Line, ...]:
    """Say what becomes of each name, where `enabled` tells how each instrument of the catalogue is now.

    A name that is in the catalogue only in other capitals is taken for that instrument, if there is just one.
    """
    spellings = _only_once(enabled)
    seen: set[str] = set()
    lines = []
    for number, text in names:
        instrument = text if text in enabled else spellings.get(text.casefold())
        lines.append(Line(number, text, instrument, _outcome(text, instrument, seen, enabled, enable)))
        if instrument is not None:
            seen.add(instrument)
    return tuple(lines)


def in_words(report: Sequence[Line]) -> str:
    """Count a report in one line, such as `3 enabled, 1 already enabled`."""
    counts = Counter(line.outcome for line in report)
    return ", ".join(f"{counts[outcome]:,} {outcome.value}" for outcome in Outcome if counts[outcome]) or "no names"


def _outcome(text: str, instrument: str | None, seen: set[str], enabled: Mapping[str, bool], enable: bool) -> Outcome:
    if instrument is None:
        return Outcome.UNKNOWN if _can_be_a_name(text) else Outcome.NOT_A_NAME
    if instrument in seen:
        return Outcome.DUPLICATE
    if enabled[instrument] == enable:
        return Outcome.ALREADY_ENABLED if enable else Outcome.ALREADY_DISABLED
    return Outcome.ENABLED if enable else Outcome.DISABLED


def _can_be_a_name(text: str) -> bool:
    return 0 < len(text) <= MAX_INSTRUMENT_CHARACTERS and text.isprintable()


def _only_once(names: Iterable[str]) -> dict[str, str]:
    """Return the names that no other equals but for capitals, by their form without any."""
    folded = [(name.casefold(), name) for name in names]
    counts = Counter(form for form, _ in folded)
    return {form: name for form, name in folded if counts[form] == 1}
