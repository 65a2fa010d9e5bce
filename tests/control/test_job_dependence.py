"""What is said before a job is stopped."""

import pytest

from control.jobs import dependence
from control.jobs.states import Desired, State
from control.jobs.views import JobView


def view(name: str, frames: str, desired: Desired = Desired.RUNNING) -> JobView:
    return JobView(name, desired.value, State.RUNNING.value, "", 1, frames, 1, None, 0)


USUAL = view("bars", "1s,1m,1h")


@pytest.mark.parametrize(
    ("others", "name", "said"),
    [
        (
            [],
            "bars",
            "No other running job makes 1s, 1m, 1h; without bars they stop, and so do 5s, 15s, 30s, 5m, 15m, 30m, 4h,"
            " 1d, 1w, which pages make of them.",
        ),
        ([view("again", "1s,1m,1h")], "bars", ""),
        ([view("again", "1s,1m,1h", Desired.STOPPED)], "again", ""),
        (
            [view("minutes", "1m")],
            "bars",
            "No other running job makes 1s; without bars they stop, and so do 5s, 15s, 30s, which pages make of them."
            " Without bars, pages go on with shorter bars of other jobs for 1h, and ./barmill verify says that these"
            " have stopped.",
        ),
        (
            [view("odd", "7s")],
            "odd",
            "Without odd, pages go on with shorter bars of other jobs for 7s, and ./barmill verify says that these have"
            " stopped.",
        ),
        ([], "unknown", ""),
    ],
)
def test_it_names_the_frames_that_no_other_job_makes(others: list[JobView], name: str, said: str) -> None:
    assert dependence.what_depends([USUAL, *others], name) == said
