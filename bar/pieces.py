"""Which stored frame answers for which stretch of time, when bars of a frame are read. Pure functions.

A frame that no job feeds any more must not hide newer bars, and one whose making began late or was interrupted must
not answer for what it lacks. So the bars of one frame are put together from pieces:

    settled   of the longest frame first, up to where no accepted tick can change its bars any more
    furthest  after that, of the frame whose maker has read furthest in the tick log
    holes     where bars may lack ticks, or were removed by retention, other frames answer as far as they can

A tick that a job still accepts is at most the lateness older than the newest tick of its instrument, so bars that end
that long before the newest tick of a frame are settled, whether a job makes the frame or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import NamedTuple

from bar.frames import Frame

BEGIN_MS, END_MS = -(2**62), 2**62

Spans = list[tuple[int, int]]


class Seam(NamedTuple):
    """Where the making of a frame was interrupted: bars that end after from_ms and start by to_ms may be wrong."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Held:
    """What a store holds of one instrument in one frame.

    reach: how far its maker has read, in any unit that is the same for all frames. settled_to_ms: bars that end by then
    are final. kept_from_ms: bars that start before were removed by retention.
    """

    frame: Frame
    reach: int
    settled_to_ms: int
    kept_from_ms: int = BEGIN_MS
    seams: Sequence[Seam] = ()


@dataclass(frozen=True)
class Piece:
    """Bars of `frame` answer for what starts in [from_ms, to_ms).

    settled: none of them changes any more. doubtful: they may lack ticks, and nothing that is held lacks fewer.
    """

    frame: Frame
    from_ms: int
    to_ms: int
    settled: bool = False
    doubtful: bool = False


def pieces(wanted: Frame, held: Sequence[Held]) -> list[Piece]:
    """Return the pieces that bars of `wanted` are made of, oldest first, all of frames that divide it.

    Every piece begins and ends where a bar of its frame does; together they leave out only what nothing is held of.
    """
    fit = sorted((one for one in held if one.frame.divides(wanted)), key=lambda one: one.frame, reverse=True)
    if not fit:
        return []
    furthest = max(one.reach for one in fit)
    left, found = [(BEGIN_MS, END_MS)], list[Piece]()

    def take(one: Held, spans: Spans, *, settled: bool = False, doubtful: bool = False) -> None:
        nonlocal left
        step_ms = lcm(*(other.frame.length_ms for other in fit if other.frame <= one.frame))
        taken = _aligned(_common(left, spans), step_ms, wanted.offset_ms)
        found.extend(Piece(one.frame, *span, settled, doubtful) for span in taken)
        for span in taken:
            left = _without(left, *span)

    for one in fit:
        final = one.reach < furthest
        take(one, _whole(one, one.frame.start_ms(one.settled_to_ms) if final else END_MS), settled=final)
    for one in sorted(fit, key=lambda one: -one.reach):
        take(one, _whole(one, END_MS), doubtful=True)
    for one in sorted(fit, key=lambda one: (-one.reach, one.frame)):
        take(one, [(one.kept_from_ms, END_MS)], doubtful=True)
    return _joined(sorted(found, key=lambda piece: piece.from_ms))


def _whole(one: Held, to_ms: int) -> Spans:
    """Return where the bars of a frame lack nothing, up to `to_ms`."""
    spans = [(one.kept_from_ms, to_ms)]
    for seam in one.seams:
        first_ms = BEGIN_MS if seam.from_ms <= BEGIN_MS else one.frame.start_ms(seam.from_ms)
        if first_ms <= seam.to_ms:
            spans = _without(spans, first_ms, one.frame.start_ms(seam.to_ms) + one.frame.length_ms)
    return [(from_ms, to_ms) for from_ms, to_ms in spans if from_ms < to_ms]


def _aligned(spans: Spans, step_ms: int, offset_ms: int) -> Spans:
    """Return what is left of spans that may begin and end only at whole steps."""
    inner = [
        (
            from_ms if from_ms == BEGIN_MS else -((offset_ms - from_ms) // step_ms) * step_ms + offset_ms,
            to_ms if to_ms == END_MS else (to_ms - offset_ms) // step_ms * step_ms + offset_ms,
        )
        for from_ms, to_ms in spans
    ]
    return [(from_ms, to_ms) for from_ms, to_ms in inner if from_ms < to_ms]


def _common(some: Spans, others: Spans) -> Spans:
    both = [(max(a_from, b_from), min(a_to, b_to)) for a_from, a_to in some for b_from, b_to in others]
    return sorted((from_ms, to_ms) for from_ms, to_ms in both if from_ms < to_ms)


def _without(spans: Spans, from_ms: int, to_ms: int) -> Spans:
    parts = [part for start, end in spans for part in ((start, min(end, from_ms)), (max(start, to_ms), end))]
    return [(start, end) for start, end in parts if start < end]


def _joined(found: Sequence[Piece]) -> list[Piece]:
    """Join neighbors of the same kind."""
    joined = list[Piece]()
    for piece in found:
        last = joined[-1] if joined else None
        if last is not None and last == replace(piece, from_ms=last.from_ms, to_ms=piece.from_ms):
            joined[-1] = replace(last, to_ms=piece.to_ms)
        else:
            joined.append(piece)
    return joined
