"""What a browser may ask about bars: the parameters of an address, read and held against what the store has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bar.frames import Frame, FrameError, parse_frame
from bar.reader import BarQuery, BarReader
from charts.studies import Study, StudyError, parse_studies
from charts.view import ChartView

MOST_SHOWN, USUALLY_SHOWN = 5_000, 1_500
_YEAR_9999_MS = 253_370_764_800_000


class QuestionError(ValueError):
    """The address asks for something that cannot be answered; the sentence says what to write instead."""


@dataclass(frozen=True)
class Question:
    """Bars and their studies."""

    query: BarQuery
    studies: tuple[Study, ...]


def newest_before(reader: BarReader, asked: Mapping[str, str]) -> Question:
    """Read which bars a chart wants: the newest `count` that start before `to`."""
    count = _whole(asked, "count", USUALLY_SHOWN)
    if not 1 <= count <= MOST_SHOWN:
        raise QuestionError(f"count={count} is not possible; ask for 1 to {MOST_SHOWN:,} bars.")
    return _question(reader, asked, to_ms=_time_ms(asked, "to"), newest=count)


def view_since(reader: BarReader, asked: Mapping[str, str]) -> tuple[ChartView, int]:
    """Read what an open chart shows, and since when it wants to know what changed there."""
    since_ms = _time_ms(asked, "since")
    if since_ms is None:
        raise QuestionError("Say since when: since= a time in milliseconds since 1970.")
    instrument, frame = _series(reader, asked)
    studies, fill, as_of_ms = _choices(asked)
    return ChartView(instrument, frame, studies=studies, fill=fill, as_of_ms=as_of_ms), since_ms


def in_range(reader: BarReader, asked: Mapping[str, str], most: int) -> Question:
    """Read which range a file is to hold; the query is for one bar more than `most`, to tell when there are more."""
    from_ms, to_ms = _time_ms(asked, "from"), _time_ms(asked, "to")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise QuestionError("There is no time between from and to; from must be the earlier one.")
    return _question(reader, asked, from_ms=from_ms, to_ms=to_ms, newest=most + 1)


def one_bar(reader: BarReader, asked: Mapping[str, str]) -> tuple[str, Frame, int]:
    """Read which single bar is meant."""
    start_ms = _time_ms(asked, "start")
    if start_ms is None:
        raise QuestionError("Say which bar: start= its start in milliseconds since 1970.")
    return *_series(reader, asked), start_ms


def _question(
    reader: BarReader,
    asked: Mapping[str, str],
    *,
    to_ms: int | None,
    newest: int,
    from_ms: int | None = None,
) -> Question:
    instrument, frame = _series(reader, asked)
    studies, fill, as_of_ms = _choices(asked)
    return Question(BarQuery(instrument, frame, from_ms, to_ms, as_of_ms, fill, newest), studies)


def _choices(asked: Mapping[str, str]) -> tuple[tuple[Study, ...], bool, int | None]:
    """Read the studies, whether to fill gaps, and as of when."""
    fill = asked.get("fill", "")
    if fill not in ("", "0", "1"):
        raise QuestionError("fill must be 1, for bars where no tick came, or 0.")
    try:
        studies = parse_studies(asked.get("studies", ""))
    except StudyError as error:
        raise QuestionError(str(error)) from error
    return studies, fill == "1", _time_ms(asked, "as_of")


def _series(reader: BarReader, asked: Mapping[str, str]) -> tuple[str, Frame]:
    instrument = asked.get("instrument", "")
    if not instrument:
        raise QuestionError("Say which instrument: instrument=BTC/USDT, for example.")
    try:
        frame = parse_frame(asked.get("frame", ""))
    except FrameError as error:
        raise QuestionError(str(error)) from error
    offered = reader.offered(instrument)
    if not offered:
        raise QuestionError(f"There are no bars of {instrument}.")
    if frame not in offered:
        names = ", ".join(one.text for one in offered)
        raise QuestionError(f"There are no {frame.text} bars of {instrument}; choose one of {names}.")
    return instrument, frame


def _time_ms(asked: Mapping[str, str], name: str) -> int | None:
    text = asked.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) >= _YEAR_9999_MS:
        raise QuestionError(f"{name}={text} is not a time; write milliseconds since 1970, such as 1764072000000.")
    return int(text)


def _whole(asked: Mapping[str, str], name: str, usual: int) -> int:
    text = asked.get(name, "")
    if not text:
        return usual
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise QuestionError(f"{name}={text} is not a whole number.")
    return int(text)
