"""Studies over bars: which there are, how a link writes them, and the lines they make.

A link writes a study as its name and its numbers, such as `bb:20:2`, and several with commas between them; numbers that
are left out are the usual ones. The arithmetic is TA-Lib's (charts/indicators.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

import polars as pl

from charts.indicators import INDICATORS, LineKind

PRICE_PANE, VOLUME_PANE = "price", "volume"
MOST_STUDIES = 12
_SIGNIFICANT = 10
# Smoothing has no end: after so many lengths, what was before the first bar weighs less than what is shown.
_EXPONENTIAL_LENGTHS, _WILDER_LENGTHS = 12, 24


class StudyError(ValueError):
    """The text names no studies; the sentence says what to write instead."""


@dataclass(frozen=True)
class Parameter:
    """One number of a study. least and most: what it may be; whole: it counts bars."""

    name: str
    usual: float
    least: float = 2
    most: float = 500
    whole: bool = True


@dataclass(frozen=True)
class StudyKind:
    """A study one can choose. pane: where it is drawn; None is a pane of its own.

    lengths: over how many times its longest length what came before still counts, 0 where it counts the whole day.
    """

    name: str
    title: str
    short: str
    parameters: tuple[Parameter, ...]
    pane: str | None
    lengths: int


def _length(usual: int) -> Parameter:
    return Parameter("length", usual)


STUDIES: Mapping[str, StudyKind] = {
    kind.name: kind
    for kind in (
        StudyKind("sma", "Simple moving average", "SMA", (_length(20),), PRICE_PANE, 1),
        StudyKind("ema", "Exponential moving average", "EMA", (_length(50),), PRICE_PANE, _EXPONENTIAL_LENGTHS),
        StudyKind(
            "bb",
            "Bollinger bands",
            "BB",
            (_length(20), Parameter("deviations", 2, 0.1, 10, whole=False)),
            PRICE_PANE,
            1,
        ),
        StudyKind("vwap", "Volume-weighted average price of the UTC day", "VWAP", (), PRICE_PANE, 0),
        StudyKind("rsi", "Relative strength index", "RSI", (_length(14),), None, _WILDER_LENGTHS),
        StudyKind(
            "macd",
            "Moving average convergence/divergence",
            "MACD",
            (Parameter("fast", 12), Parameter("slow", 26), Parameter("signal", 9)),
            None,
            2 * _EXPONENTIAL_LENGTHS,
        ),
        StudyKind("atr", "Average true range", "ATR", (_length(14),), None, _WILDER_LENGTHS),
        StudyKind("volavg", "Volume average", "Volume average", (_length(20),), VOLUME_PANE, 1),
    )
}


@dataclass(frozen=True)
class Study:
    """One study with its numbers, as many as its kind has parameters."""

    name: str
    numbers: tuple[float, ...] = ()

    @property
    def kind(self) -> StudyKind:
        """Return what this is one of."""
        return STUDIES[self.name]

    @property
    def text(self) -> str:
        """Return the canonical text, with all numbers."""
        return ":".join([self.name, *(f"{number:g}" for number in self.numbers)])

    @property
    def label(self) -> str:
        """Return what people call it."""
        return " ".join([self.kind.short, *(f"{number:g}" for number in self.numbers)])

    @property
    def pane(self) -> str:
        """Return where it is drawn: over the prices, over the volume, or in a pane named after it."""
        return self.kind.pane or self.text


@dataclass(frozen=True)
class StudyLine:
    """One line of a study. values: one for each bar, None where there are too few bars before it."""

    study: str
    label: str
    pane: str
    kind: LineKind
    values: list[float | None]


def parse_studies(text: str) -> tuple[Study, ...]:
    """Read a comma-separated list of studies, each once, in the order given; raise StudyError for anything else."""
    studies = tuple(dict.fromkeys(_parsed(part.strip().lower()) for part in text.split(",") if part.strip()))
    if len(studies) > MOST_STUDIES:
        raise StudyError(f"These are {len(studies)} studies; choose {MOST_STUDIES} at most.")
    return studies


def studies_text(studies: Sequence[Study]) -> str:
    """Return the canonical text, which reads back as the same."""
    return ",".join(study.text for study in studies)


def warm_up(studies: Sequence[Study]) -> int:
    """Return how many bars before the first shown one the studies need; for the day's VWAP see charts/studied.py."""
    return max((int(study.kind.lengths * max(study.numbers, default=0)) for study in studies), default=0)


def study_lines(
    bars: pl.DataFrame, studies: Sequence[Study], earlier_today: pl.DataFrame | None = None
) -> list[StudyLine]:
    """Return the lines of the studies, aligned with the bars (BAR_SCHEMA of one instrument and frame, oldest first).

    Bars that are missing do not count; a bar without volume has no volume average. `earlier_today` are bars of any
    frame that hold what was traded in the UTC day of the first bar before it; only the day's VWAP begins with them.
    """
    lines = []
    for study in studies:
        for suffix, kind, values in INDICATORS[study.name](bars, study.numbers, earlier_today):
            rounded = pl.Series(values, dtype=pl.Float64).fill_nan(None).round_sig_figs(_SIGNIFICANT)
            label = f"{study.label} {suffix}".rstrip()
            lines.append(StudyLine(study.text, label, study.pane, kind, rounded.to_list()))
    return lines


def _parsed(text: str) -> Study:
    name, *numbers = text.split(":")
    kind = STUDIES.get(name)
    if kind is None:
        raise StudyError(f"'{name}' is not a study; choose from {', '.join(STUDIES)}.")
    if len(numbers) > len(kind.parameters):
        raise StudyError(f"'{text}' has too many numbers; write it like {_usual(kind).text}.")
    usual = _usual(kind).numbers[len(numbers) :]
    study = Study(name, (*starmap(_number, zip(numbers, kind.parameters, strict=False)), *usual))
    if name == "macd" and study.numbers[0] >= study.numbers[1]:
        raise StudyError(f"'{text}' does not fit: the fast length must be smaller than the slow one.")
    return study


def _usual(kind: StudyKind) -> Study:
    return Study(kind.name, tuple(parameter.usual for parameter in kind.parameters))


def _number(text: str, parameter: Parameter) -> float:
    kind = "a whole number" if parameter.whole else "a number"
    problem = StudyError(
        f"'{text}' cannot be the {parameter.name}: write {kind} from {parameter.least:g} to {parameter.most:g}."
    )
    try:
        number = int(text) if parameter.whole else float(text)
    except ValueError:
        raise problem from None
    if not parameter.least <= number <= parameter.most:
        raise problem
    return number
