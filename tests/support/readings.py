"""Short names for what tests of monitoring measure."""

from control.monitoring.metrics import Kind, Metric, Reading, Subject

NOW_MS = 1_764_072_000_000 // 3_600_000 * 3_600_000  # on a full hour
MARKET = Subject(Kind.SOURCE, "market")
BARS = Subject(Kind.JOB, "bars")
FOLD = Subject(Kind.OPERATOR, "bars/poll and fold")
APP = Subject(Kind.PROCESS, "app")
DISK = Subject(Kind.DISK)


def rate(value: float, subject: Subject = MARKET) -> Reading:
    return Reading(subject, Metric.TICKS_ACCEPTED_PER_S, value)


def backlog(value: float, subject: Subject = BARS) -> Reading:
    return Reading(subject, Metric.BACKLOG_TICKS, value)


def free(value: float) -> Reading:
    return Reading(DISK, Metric.FREE_BYTES, value)
