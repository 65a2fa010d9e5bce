"""What is measured of the machine: the supervised processes, and the disk."""

import shutil
from collections.abc import Iterator

from control.home import Home
from control.machine.processes import ProcessStatus, Supervisor, SupervisorError
from control.monitor.metrics import Kind, Metric, Reading, Subject


def measure_machine(home: Home) -> list[Reading]:
    """Measure every process and the disk now; no processes where nothing is supervised."""
    try:
        processes = Supervisor(home).status()
    except SupervisorError:
        processes = []
    free_bytes = shutil.disk_usage(home.root).free
    return [
        *(reading for one in processes for reading in _process(one)),
        Reading(Subject(Kind.DISK), Metric.FREE_BYTES, free_bytes),
    ]


def _process(one: ProcessStatus) -> Iterator[Reading]:
    subject = Subject(Kind.PROCESS, one.name)
    yield Reading(subject, Metric.UP, one.running)
    yield Reading(subject, Metric.STARTED_S, one.started_s)
    if one.running:
        yield Reading(subject, Metric.RESIDENT_BYTES, one.resident_bytes)
        yield Reading(subject, Metric.CPU_SECONDS, one.cpu_s)
