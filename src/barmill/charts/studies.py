"""Studies over bars: the available kinds, their text form in links, and their lines, computed by TA-Lib.

The text form is the name and the numbers, such as `bb:20:2`, with commas between several studies; omitted numbers have
their default values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import talib

from barmill.platform.clock import MS_PER_DAY

LineKind = Literal["line", "histogram"]
Values = npt.NDArray[np.float64]
# The label of a line in addition to its study, how it is drawn, and one value per bar, NaN if there is none.
Line = tuple[str, LineKind, Values]
# Arguments: bars (BAR_SCHEMA, oldest first), the numbers of the study, and earlier bars of the first bar's UTC day.
Indicator = Callable[[pl.DataFrame, tuple[float, ...], pl.DataFrame | None], list[Line]]

_VWAP_COLUMNS = ("start_ms", "vwap", "volume")


def _sma(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.SMA(_column(bars, "close"), int(numbers[0])))]


def _ema(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.EMA(_column(bars, "close"), int(numbers[0])))]


def _bands(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    length, deviations = numbers
    bands = talib.BBANDS(_column(bars, "close"), int(length), deviations, deviations)
    return [(name, "line", values) for name, values in zip(("upper", "middle", "lower"), bands, strict=True)]


def _rsi(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    return [("", "line", talib.RSI(_column(bars, "close"), int(numbers[0])))]


def _macd(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    fast, slow, signal = map(int, numbers)
    line, smoothed, difference = talib.MACD(_column(bars, "close"), fast, slow, signal)
    return [("", "line", line), ("signal", "line", smoothed), ("histogram", "histogram", difference)]


def _atr(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    high, low, close = (_column(bars, name) for name in ("high", "low", "close"))
    return [("", "line", talib.ATR(high, low, close, int(numbers[0])))]


def _volume_average(bars: pl.DataFrame, numbers: tuple[float, ...], _earlier: pl.DataFrame | None) -> list[Line]:
    volume = _column(bars, "volume")
    has_volume = ~np.isnan(volume)
    average = np.full_like(volume, np.nan)
    # For TA-Lib, one unknown value makes all later values unknown.
    average[has_volume] = talib.SMA(volume[has_volume], int(numbers[0]))
    return [("", "line", average)]


def _vwap(bars: pl.DataFrame, _numbers: tuple[float, ...], earlier: pl.DataFrame | None) -> list[Line]:
    """Return the volume-weighted mean of the bars' VWAP per UTC day; a bar without volume repeats the last value."""
    before = bars.clear() if earlier is None else earlier
    summed = pl.concat([before.select(_VWAP_COLUMNS), bars.select(_VWAP_COLUMNS)])
    days = summed.group_by(pl.col("start_ms") // MS_PER_DAY, maintain_order=True)
    lines = [_vwap_of(day) for _, day in days]
    return [("", "line", np.concatenate(lines)[before.height :] if lines else np.empty(0))]


def _vwap_of(day: pl.DataFrame) -> Values:
    traded = (day["volume"].fill_null(0) > 0).to_numpy()
    line = np.full(day.height, np.nan)
    if traded.any():
        price, volume = _column(day, "vwap")[traded], _column(day, "volume")[traded]
        line[traded] = talib.VWAP(price, price, price, volume)
    return pl.Series(line).fill_nan(None).fill_null(strategy="forward").to_numpy()


def _column(bars: pl.DataFrame, name: str) -> Values:
    return bars[name].to_numpy()


INDICATORS: Mapping[str, Indicator] = {
    "sma": _sma,
    "ema": _ema,
    "bb": _bands,
    "vwap": _vwap,
    "rsi": _rsi,
    "macd": _macd,
    "atr": _atr,
    "volavg": _volume_average,
}


PRICE_PANE, VOLUME_PANE = "price", "volume"
MAX_STUDIES = 12
_SIGNIFICANT_DIGITS = 10
# Exponential smoothing has infinite memory: beyond this many lengths, earlier bars do not visibly change the line.
_EXPONENTIAL_LENGTHS, _WILDER_LENGTHS = 12, 24


class StudyError(ValueError):
    """The text does not describe valid studies; the message says what to write instead."""


@dataclass(frozen=True)
class Parameter:
    """One number of a study. minimum, maximum: its limits; is_whole: it is a number of bars."""

    name: str
    default: float
    minimum: float = 2
    maximum: float = 500
    is_whole: bool = True


@dataclass(frozen=True)
class StudyKind:
    """A kind of study. pane: where it is drawn; None means a separate pane.

    lengths: how many earlier bars matter, as a multiple of its longest length; 0 if the whole day matters.
    """

    name: str
    title: str
    short: str
    parameters: tuple[Parameter, ...]
    pane: str | None
    lengths: int


def _length(default: int) -> Parameter:
    return Parameter("length", default)


STUDIES: Mapping[str, StudyKind] = {
    kind.name: kind
    for kind in (
        StudyKind("sma", "Simple moving average", "SMA", (_length(20),), PRICE_PANE, 1),
        StudyKind("ema", "Exponential moving average", "EMA", (_length(50),), PRICE_PANE, _EXPONENTIAL_LENGTHS),
        StudyKind(
            "bb",
            "Bollinger bands",
            "BB",
            (_length(20), Parameter("deviations", 2, 0.1, 10, is_whole=False)),
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
        """Return the kind of this study."""
        return STUDIES[self.name]

    @property
    def text(self) -> str:
        """Return the canonical text, with all numbers."""
        return ":".join([self.name, *(f"{number:g}" for number in self.numbers)])

    @property
    def label(self) -> str:
        """Return the label for display."""
        return " ".join([self.kind.short, *(f"{number:g}" for number in self.numbers)])

    @property
    def pane(self) -> str:
        """Return the pane: over the prices, over the volume, or a separate pane named after the study."""
        return self.kind.pane or self.text


@dataclass(frozen=True)
class StudyLine:
    """One line of a study. values: one per bar, None where the study has no value."""

    study: str
    label: str
    pane: str
    kind: LineKind
    values: list[float | None]


def parse_studies(text: str) -> tuple[Study, ...]:
    """Parse a comma-separated list of studies without duplicates, in the given order; raise StudyError if invalid."""
    studies = tuple(dict.fromkeys(_parse_study(part.strip().lower()) for part in text.split(",") if part.strip()))
    if len(studies) > MAX_STUDIES:
        raise StudyError(f"There are {len(studies)} studies; choose at most {MAX_STUDIES}.")
    return studies


def studies_text(studies: Sequence[Study]) -> str:
    """Return the canonical text, which `parse_studies` parses to the same studies."""
    return ",".join(study.text for study in studies)


def warm_up(studies: Sequence[Study]) -> int:
    """Return how many bars the studies need before the first bar shown; for the day's VWAP see `bars_with_studies`."""
    return max((int(study.kind.lengths * max(study.numbers, default=0)) for study in studies), default=0)


def study_lines(
    bars: pl.DataFrame, studies: Sequence[Study], earlier_today: pl.DataFrame | None = None
) -> list[StudyLine]:
    """Return the lines of the studies, aligned with the bars (BAR_SCHEMA of one instrument and frame, oldest first).

    Missing bars do not count; a bar without volume has no volume average. earlier_today: bars of any frame with the
    trades before the first bar on its UTC day; only the day's VWAP uses them.
    """
    lines = []
    for study in studies:
        for suffix, kind, values in INDICATORS[study.name](bars, study.numbers, earlier_today):
            rounded = pl.Series(values, dtype=pl.Float64).fill_nan(None).round_sig_figs(_SIGNIFICANT_DIGITS)
            label = f"{study.label} {suffix}".rstrip()
            lines.append(StudyLine(study.text, label, study.pane, kind, rounded.to_list()))
    return lines


def _parse_study(text: str) -> Study:
    name, *numbers = text.split(":")
    kind = STUDIES.get(name)
    if kind is None:
        raise StudyError(f"'{name}' is not a study; choose from {', '.join(STUDIES)}.")
    if len(numbers) > len(kind.parameters):
        raise StudyError(f"'{text}' has too many numbers; write it like {_default_study(kind).text}.")
    defaults = _default_study(kind).numbers[len(numbers) :]
    study = Study(name, (*starmap(_number, zip(numbers, kind.parameters, strict=False)), *defaults))
    if name == "macd" and study.numbers[0] >= study.numbers[1]:
        raise StudyError(f"'{text}' is invalid: the fast length must be smaller than the slow length.")
    return study


def _default_study(kind: StudyKind) -> Study:
    return Study(kind.name, tuple(parameter.default for parameter in kind.parameters))


def _number(text: str, parameter: Parameter) -> float:
    kind = "a whole number" if parameter.is_whole else "a number"
    problem = StudyError(
        f"'{text}' is not valid for the {parameter.name}: write {kind} from {parameter.minimum:g}"
        f" to {parameter.maximum:g}."
    )
    try:
        number = int(text) if parameter.is_whole else float(text)
    except ValueError:
        raise problem from None
    if not parameter.minimum <= number <= parameter.maximum:
        raise problem
    return number
