"""Which frames can be opened, and which of them nothing feeds: what an overview has to say beside how jobs are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bar.frames import Frame
from bar.reader import BarReader
from control.freshness.flow import Flow
from control.freshness.judge import Freshness, Level, ShownFrame, freshness, why_not_fed

# Instruments of one home have the same frames, but for those that one job no longer reads or another does not yet.
_INSTRUMENTS_ASKED = 20


@dataclass(frozen=True)
class Unfed:
    """Frames that no job feeds now, all for the same reason."""

    frames: tuple[Frame, ...]
    why: Freshness

    @property
    def text(self) -> str:
        """Return the names of the frames."""
        return ", ".join(frame.text for frame in self.frames)

    @property
    def sentence(self) -> str:
        """Say which frames it is about, and why."""
        return f"{self.text}: {self.why.sentence}"


def offered_frames(reader: BarReader) -> list[Frame]:
    """Return the frames that people can open, shortest first."""
    names = reader.instruments()[:_INSTRUMENTS_ASKED]
    return sorted({frame for name in names for frame in reader.offered(name)})


def of_frames(flow: Flow, frames: Iterable[Frame]) -> dict[Frame, Freshness]:
    """Judge each frame for all instruments together."""
    return {frame: freshness(flow, ShownFrame(frame)) for frame in frames}


def overall(flow: Flow, frames: Sequence[Frame]) -> Freshness:
    """Judge everything together: amber where prices flow, but not into all of these frames."""
    fresh, not_fed = freshness(flow), unfed(flow, frames)
    if fresh.level is not Level.LIVE or not not_fed:
        return fresh
    names, why = ", ".join(one.text for one in not_fed), not_fed[0].why
    return Freshness(Level.LATE, f"Nothing feeds {names}. {why.sentence}", why.since_ms, why.by)


def unfed(flow: Flow, frames: Sequence[Frame]) -> list[Unfed]:
    """Return the frames that no job feeds, one entry a reason; not those of which nothing more is expected."""
    found: dict[tuple[str, ...], list[tuple[Frame, Freshness]]] = {}
    for frame in frames:
        why = why_not_fed(flow, frame)
        if why is not None and why.level is not Level.ENDED:
            makers = tuple(sorted(maker.name for maker in flow.makers_of(frame)))
            found.setdefault((why.level.value, *makers), []).append((frame, why))
    return [Unfed(tuple(frame for frame, _ in same), same[0][1]) for same in found.values()]
