"""Bars together with their studies, which need to know what was before the first bar that is shown."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from bar.frames import Frame
from bar.reader import BarQuery
from charts.studies import Study, StudyLine, study_lines, warm_up

Read = Callable[[BarQuery], pl.DataFrame]  # such as BarReader.read

_DAY_MS = 86_400_000
_COARSER = (Frame(3_600_000), Frame(60_000))


def studied(read: Read, query: BarQuery, studies: Sequence[Study]) -> tuple[pl.DataFrame, list[StudyLine]]:
    """Return the bars of a query and the lines of the studies over them, the same wherever the query begins."""
    bars = read(query)
    if not studies or not bars.height:
        return bars, study_lines(bars, studies)
    count = warm_up(studies)
    before = read(replace(query, from_ms=None, to_ms=bars["start_ms"][0], newest=count)) if count else bars.clear()
    known = pl.concat([before, bars])
    of_the_day = any(study.name == "vwap" for study in studies)
    lines = study_lines(known, studies, _earlier_today(read, query, known["start_ms"][0]) if of_the_day else None)
    return bars, [replace(line, values=line.values[before.height :]) for line in lines]


def _earlier_today(read: Read, query: BarQuery, at_ms: int) -> pl.DataFrame:
    """Return bars that hold what was traded from midnight UTC to `at_ms`: whole hours, then minutes, then the rest.

    A day of seconds would be 86,400 bars; these are 141 at most.
    """
    pieces, from_ms = [], at_ms // _DAY_MS * _DAY_MS
    fitting = [frame for frame in _COARSER if frame > query.frame and query.frame.divides(frame)]
    for frame in (*fitting, query.frame):
        to_ms = frame.start_ms(at_ms)
        pieces.append(read(replace(query, frame=frame, from_ms=from_ms, to_ms=to_ms, newest=None, fill=False)))
        from_ms = to_ms
    return pl.concat(pieces)
