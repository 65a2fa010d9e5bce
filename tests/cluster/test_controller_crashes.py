"""A controller killed in the middle of an operation, on a real cluster: the next one completes it, once."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from barmill.audit.trail import Search, search
from barmill.platform.home import Home
from barmill.storage.tick_log import TickLog
from control.flink.rest import FlinkRest
from control.jobs.model import Operation, StopMode
from control.jobs.service import JobService
from control.jobs.specs import BARS_PROGRAM
from tests.cluster.conftest import Steering


class Crash(BaseException):
    """The controller was killed here."""


@dataclass
class Fragile:
    """A Flink client that dies before or after its n-th call that changes something, as a killed controller does."""

    flink: FlinkRest
    dies_at: float
    changes: int = 0
    calls: tuple[str, ...] = field(default=("submit", "cancel", "stop_with_savepoint", "take_savepoint", "rescale"))

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.flink, name)
        if name not in self.calls:
            return inner

        def call(*arguments: object, **named: object) -> object:
            self.changes += 1
            if self.changes == self.dies_at + 0.5:
                raise Crash
            answer = inner(*arguments, **named)
            if self.changes == self.dies_at:
                raise Crash
            return answer

        return call


ASK: dict[str, Callable[[JobService], Operation | None]] = {
    "stop": lambda service: service.stop("counter"),
    "cancel": lambda service: service.stop("counter", StopMode.LAST_STATE),
    "restart": lambda service: service.restart("counter"),
    "savepoint": lambda service: service.take_savepoint("counter"),
    "edit": lambda service: service.edit("counter", json.dumps({"name": "counter", "poll_ms": 13})),
    "delete": lambda service: service.delete("counter"),
}
# A submit that never reached the cluster is known to be lost only after a while, so that one is not waited for here.
DEATHS: dict[str, list[float]] = {
    "stop": [0.5, 1],
    "cancel": [0.5],
    "restart": [1],
    "savepoint": [1],
    "edit": [2],
    "delete": [1],
}


@pytest.mark.parametrize(("what", "dies_at"), [(what, at) for what, deaths in DEATHS.items() for at in deaths])
def test_a_controller_killed_in_the_middle_of_an_operation_leaves_it_to_the_next_one(
    steering: Steering, monkeypatch: pytest.MonkeyPatch, what: str, dies_at: float
) -> None:
    monkeypatch.setattr("control.jobs.planner.STABLE_AFTER_MS", 1_000)
    steering.started()
    steering.counted()
    fragile = Fragile(steering.flink, dies_at)
    steering.restart_controller(fragile)  # type: ignore[arg-type]
    operation = ASK[what](steering.service)
    with pytest.raises(Crash):
        steering.done(operation)
    steering.restart_controller(steering.flink)
    ended = steering.done(operation)
    runs = {"stop": 0, "cancel": 0, "delete": 0}.get(what, 1)
    assert len(steering.active("counter")) == runs
    assert len(steering.repository.savepoints("counter")) == (0 if what in ("cancel", "delete") else 1)
    outcomes = [record.stage for record in search(steering.repository.db, Search(trace_id=ended.id))]
    assert outcomes == ["executed", "issued"]
    if runs:
        steering.counted()
        steering.no_seam()


def test_a_controller_killed_right_after_a_submit_starts_nothing_twice(steering: Steering) -> None:
    steering.create("counter")
    operation = steering.service.start("counter")
    steering.restart_controller(Fragile(steering.flink, 1))  # type: ignore[arg-type]
    with pytest.raises(Crash):
        steering.done(operation)
    steering.restart_controller(steering.flink)
    steering.done(operation)
    assert steering.active("counter") == [steering.run("counter").id]
    assert len(steering.repository.runs("counter", 9)) == 1


@pytest.mark.parametrize("dies_at", [0.5, 1])
def test_a_controller_killed_while_rescaling_finishes_it(home: Home, shared_flink: FlinkRest, dies_at: float) -> None:
    steering = Steering(home, shared_flink, BARS_PROGRAM)
    try:
        TickLog.open(home.ticks_db).close()
        steering.create("wide", shards=2)
        steering.done(steering.service.start("wide"))
        operation = steering.service.rescale("wide", 2)
        steering.restart_controller(Fragile(shared_flink, dies_at))  # type: ignore[arg-type]
        with pytest.raises(Crash):
            steering.done(operation)
        steering.restart_controller(shared_flink)
        assert steering.done(operation).sentence == "The job is running on 2 slots."
        assert len(steering.active("wide")) == 1
    finally:
        steering.end()
