"""What depends on a job: said before it is stopped, cancelled or deleted."""

from collections.abc import Sequence

from bar.frames import USUAL_FRAMES, Frame, parse_frames
from control.home import Home
from control.jobs.states import Desired
from control.jobs.views import JobView, job_views


def what_stops_with(home: Home, name: str) -> str:
    """Say which frames stop with a job, and which pages then make of other jobs' bars; empty if there are none."""
    return what_depends(job_views(home), name)


def what_depends(views: Sequence[JobView], name: str) -> str:
    """Say the same of a job among these."""
    running = {view.name: parse_frames(view.frames) for view in views if view.desired == Desired.RUNNING}
    mine = running.pop(name, ())
    others = {frame for frames in running.values() for frame in frames}
    alone = [frame for frame in mine if frame not in others]
    stop = _of_none(alone, others)
    # What pages make of this job's bars stops with them.
    made = _of_none([one for one in USUAL_FRAMES if any(frame.divides(one) for frame in alone)], others)
    sentences = []
    if stop:
        longer = [one for one in made if one not in stop]
        too = f", and so do {_named(longer)}, which pages make of them" if longer else ""
        sentences.append(f"No other running job makes {_named(stop)}; without {name} they stop{too}.")
    if continued := [frame for frame in alone if frame not in stop]:
        sentences.append(
            f"Without {name}, pages go on with shorter bars of other jobs for {_named(continued)}, and"
            " ./barmill verify says that these have stopped."
        )
    return " ".join(sentences)


def _of_none(frames: Sequence[Frame], others: set[Frame]) -> list[Frame]:
    return [frame for frame in frames if not any(one.divides(frame) for one in others)]


def _named(frames: Sequence[Frame]) -> str:
    return ", ".join(frame.text for frame in frames)
