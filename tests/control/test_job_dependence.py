"""What is said before a job is stopped."""

import pytest

from control.jobs import views as dependence
from control.jobs.model import Desired, State
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
            "Only the job bars makes 1s, 1m, 1h. If it stops, these frames stop, and so do 5s, 15s, 30s, 5m, 15m, 30m,"
            " 4h, 1d, 1w, which pages derive from them.",
        ),
        ([view("again", "1s,1m,1h")], "bars", ""),
        ([view("again", "1s,1m,1h", Desired.STOPPED)], "again", ""),
        (
            [view("minutes", "1m")],
            "bars",
            "Only the job bars makes 1s. If it stops, these frames stop, and so do 5s, 15s, 30s, which pages derive"
            " from them. Without bars, pages continue with shorter bars of other jobs for 1h, and ./barmill verify"
            " reports them as stopped.",
        ),
        (
            [view("odd", "7s")],
            "odd",
            "Without odd, pages continue with shorter bars of other jobs for 7s, and ./barmill verify reports them"
            " as stopped.",
        ),
        ([], "unknown", ""),
    ],
)
def test_it_names_the_frames_that_no_other_job_makes(others: list[JobView], name: str, said: str) -> None:
    assert dependence.describe_dependence([USUAL, *others], name) == said
