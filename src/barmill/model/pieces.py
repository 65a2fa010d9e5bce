"""The stored frames that supply the bars of each time range when a frame is read. Pure functions.

A frame that no job writes any more must not hide newer bars, and a frame whose job started late or was interrupted must
not supply ranges in which it is incomplete. The bars of one frame are therefore assembled from pieces:

    settled   the longest frames first, up to where no accepted tick can change their bars any more
    furthest  after that, the frame whose job has read furthest in the tick log
    holes     where bars may lack ticks, or were removed by retention, other frames fill in as far as they can

A job accepts a tick only if it is no older than the newest tick of its instrument minus the allowed lateness. Bars that
end at least that lateness before the newest tick of a frame are settled, whether a job writes the frame or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import NamedTuple

from barmill.model.frames import Frame

BEGIN_MS, END_MS = -(2**62), 2**62

Spans = list[tuple[int, int]]


class Seam(NamedTuple):
    """An interruption of a frame's writing: bars that end after from_ms and start at or before to_ms may lack ticks."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class HeldFrame:
    """The stored bars of one instrument in one frame.

    reach: how far its job has read, in any unit that all frames share. settled_to_ms: bars that end at or before
    this time are final. kept_from_ms: bars that start earlier were removed by retention.
    """

    frame: Frame
    reach: int
    settled_to_ms: int
    kept_from_ms: int = BEGIN_MS
    seams: Sequence[Seam] = ()


@dataclass(frozen=True)
class Piece:
    """A time range [from_ms, to_ms) for which bars of `frame` are used: those that start in it.

    settled: none of these bars changes any more. doubtful: they may lack ticks, and no held frame lacks fewer.
    """

    frame: Frame
    from_ms: int
    to_ms: int
    settled: bool = False
    doubtful: bool = False


def pieces(frame: Frame, held_frames: Sequence[HeldFrame]) -> list[Piece]:
    """Return the pieces that make up bars of `frame`, oldest first, all from frames that divide it.

    Every piece begins and ends on a bar boundary of its frame. Together they cover everything the store holds. There
    are none if no held frame divides `frame`.
    """
    divisors = sorted(
        (held for held in held_frames if held.frame.divides(frame)),
        key=lambda held: held.frame,
        reverse=True,
    )
    if not divisors:
        return []
    furthest_reach = max(held.reach for held in divisors)
    uncovered, parts = [(BEGIN_MS, END_MS)], list[Piece]()

    def cover(held: HeldFrame, spans: Spans, *, settled: bool = False, doubtful: bool = False) -> None:
        nonlocal uncovered
        step_ms = lcm(*(other.frame.length_ms for other in divisors if other.frame <= held.frame))
        covered = _aligned(_intersection(uncovered, spans), step_ms, frame.offset_ms)
        parts.extend(Piece(held.frame, *span, settled, doubtful) for span in covered)
        for span in covered:
            uncovered = _without(uncovered, *span)

    for held in divisors:
        is_settled = held.reach < furthest_reach
        cover(
            held,
            _complete_spans(held, held.frame.start_ms(held.settled_to_ms) if is_settled else END_MS),
            settled=is_settled,
        )
    for held in sorted(divisors, key=lambda held: -held.reach):
        cover(held, _complete_spans(held, END_MS), doubtful=True)
    for held in sorted(divisors, key=lambda held: (-held.reach, held.frame)):
        cover(held, [(held.kept_from_ms, END_MS)], doubtful=True)
    return _merge_adjacent(sorted(parts, key=lambda piece: piece.from_ms))


def _complete_spans(held: HeldFrame, to_ms: int) -> Spans:
    """Return where the bars of a frame are complete, up to `to_ms`."""
    spans = [(held.kept_from_ms, to_ms)]
    for seam in held.seams:
        first_ms = BEGIN_MS if seam.from_ms <= BEGIN_MS else held.frame.start_ms(seam.from_ms)
        if first_ms <= seam.to_ms:
            spans = _without(spans, first_ms, held.frame.start_ms(seam.to_ms) + held.frame.length_ms)
    return [(from_ms, to_ms) for from_ms, to_ms in spans if from_ms < to_ms]


def _aligned(spans: Spans, step_ms: int, offset_ms: int) -> Spans:
    """Return the parts of the spans that begin and end on whole steps."""
    inner = [
        (
            from_ms if from_ms == BEGIN_MS else -((offset_ms - from_ms) // step_ms) * step_ms + offset_ms,
            to_ms if to_ms == END_MS else (to_ms - offset_ms) // step_ms * step_ms + offset_ms,
        )
        for from_ms, to_ms in spans
    ]
    return [(from_ms, to_ms) for from_ms, to_ms in inner if from_ms < to_ms]


def _intersection(first: Spans, second: Spans) -> Spans:
    overlaps = [(max(a_from, b_from), min(a_to, b_to)) for a_from, a_to in first for b_from, b_to in second]
    return sorted((from_ms, to_ms) for from_ms, to_ms in overlaps if from_ms < to_ms)


def _without(spans: Spans, from_ms: int, to_ms: int) -> Spans:
    parts = [part for start, end in spans for part in ((start, min(end, from_ms)), (max(start, to_ms), end))]
    return [(start, end) for start, end in parts if start < end]


def _merge_adjacent(parts: Sequence[Piece]) -> list[Piece]:
    """Join adjacent pieces of the same kind."""
    joined = list[Piece]()
    for piece in parts:
        last = joined[-1] if joined else None
        if last is not None and last == replace(piece, from_ms=last.from_ms, to_ms=piece.from_ms):
            joined[-1] = replace(last, to_ms=piece.to_ms)
        else:
            joined.append(piece)
    return joined
