"""Jobs by intent on a real cluster: what was asked for is done once, whatever dies meanwhile."""

import itertools
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from barmill.audit.roles import Actor
from barmill.audit.trail import Search, search
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.tls import TlsFiles
from barmill.storage.tick_log import TickLog
from control.flink.model import ClusterUnreachableError, JobState
from control.flink.rest import FlinkRest
from control.jobs.decisions import Submit, Wait
from control.jobs.model import Operation, Outcome, State, StopMode
from control.jobs.service import JobService
from control.jobs.specs import BARS_PROGRAM
from tests.cluster.conftest import TIMEOUT_S, Steering


def test_a_job_is_made_started_stopped_with_a_savepoint_and_goes_on_without_a_seam(steering: Steering) -> None:
    first = steering.started()
    assert steering.view("counter").is_as_desired
    steering.counted()
    stopped = steering.done(steering.service.stop("counter"))
    assert stopped.sentence == "Stopped with a savepoint."
    assert steering.active("counter") == []
    [savepoint] = steering.repository.savepoints("counter")
    assert (savepoint.run, savepoint.path) == (first, stopped.savepoint)
    assert steering.view("counter").state == "STOPPED"
    steering.reconcile_jobs()
    assert steering.active("counter") == []

    steering.done(steering.service.start("counter"))
    assert steering.run("counter").restored_from == savepoint.path
    steering.counted()
    restarted = steering.done(steering.service.restart("counter"))
    assert steering.run("counter").restored_from == restarted.savepoint
    steering.counted()
    steering.no_seam()
    assert len(steering.active("counter")) == 1
    trail = [(record.action, record.stage) for record in search(steering.repository.db, Search(trace_id=stopped.id))]
    assert trail == [("job.stop", "executed"), ("job.stop", "issued")]


def test_a_lost_run_is_replaced_by_one_from_its_newest_checkpoint(steering: Steering) -> None:
    first = steering.started()
    assert wait_until(lambda: steering.flink.checkpoints(first).completed > 1, TIMEOUT_S)
    steering.flink.cancel(first)
    assert wait_until(lambda: steering.flink.job_state(first).is_terminal, TIMEOUT_S)
    before = len(steering.counts())
    steering.until(lambda: steering.run("counter").id != first and steering.view("counter").state == "RUNNING")
    assert f"/{first}/chk-" in str(steering.run("counter").restored_from)
    assert wait_until(lambda: len(steering.counts()) > before, TIMEOUT_S)
    assert 1 < steering.counts()[before] <= before + 1


def test_a_savepoint_into_a_folder_that_cannot_be_written_fails_and_the_job_still_runs(
    steering: Steering, tmp_path: Path
) -> None:
    run = steering.started()
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    failed = steering.done(steering.service.stop("counter", savepoint_dir=str(not_a_folder)), Outcome.FAILED)
    assert failed.sentence.startswith("The savepoint failed: ")
    assert failed.sentence.endswith("The job keeps running.")
    steering.reconcile_jobs()
    assert steering.active("counter") == [run]
    assert steering.view("counter").is_as_desired
    assert steering.repository.savepoints("counter") == []


def test_a_double_click_on_stop_makes_one_savepoint(steering: Steering) -> None:
    steering.started()
    steering.counted()
    asked: list[Operation] = []

    def click() -> None:
        with JobService.open(steering.home, Actor("ada")) as service:
            asked.append(service.stop("counter"))

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert len({operation.id for operation in asked}) == 1
    steering.done(asked[0])
    assert len(steering.repository.savepoints("counter")) == 1
    assert len([*(steering.home.flink / "savepoints").glob("*/savepoint-*/_metadata")]) == 1


def test_a_cancelled_job_stays_away_and_a_stateless_one_begins_again(steering: Steering) -> None:
    run = steering.started()
    assert wait_until(lambda: steering.flink.checkpoints(run).completed > 0, TIMEOUT_S)
    steering.done(steering.service.stop("counter", StopMode.STATELESS))
    before = len(steering.counts())
    steering.done(steering.service.start("counter"))
    assert steering.run("counter").restored_from is None
    assert wait_until(lambda: len(steering.counts()) > before, TIMEOUT_S)
    assert steering.counts()[before] == 1
    steering.done(steering.service.stop("counter", StopMode.LAST_STATE))
    for _ in range(3):
        steering.reconcile_jobs()
    assert steering.active("counter") == []


def test_a_deleted_job_is_gone_and_its_name_free(steering: Steering) -> None:
    steering.started()
    steering.done(steering.service.delete("counter"))
    assert steering.active("counter") == []
    assert steering.repository.jobs() == []
    steering.create("counter")
    assert steering.view("counter").state == "STOPPED"


@pytest.mark.parametrize("steering", ["picky.py"], indirect=True)
@pytest.mark.parametrize(("how", "why"), [(11, "the frames are wrong"), (12, "kept restarting")])
def test_a_version_that_fails_is_taken_back(steering: Steering, how: int, why: str) -> None:
    steering.started()
    steering.counted()
    edited = steering.service.edit("counter", json.dumps({"name": "counter", "poll_ms": how}))
    failed = steering.done(edited, Outcome.FAILED)
    assert why in failed.sentence
    assert failed.sentence.endswith("Version 1 runs again.")
    assert "sup3r-s3cret" not in failed.sentence
    assert steering.repository.job("counter").version == 1
    steering.counted()
    steering.no_seam()
    assert len(steering.active("counter")) == 1


@pytest.mark.parametrize("steering", ["picky.py"], indirect=True)
def test_a_version_that_is_stable_stays(steering: Steering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.jobs.planner.STABLE_AFTER_MS", 1_000)
    steering.started()
    steering.counted()
    done = steering.done(steering.service.edit("counter", json.dumps({"name": "counter", "poll_ms": 13})))
    assert done.sentence == "Version 2 runs and is stable."
    steering.counted()
    steering.no_seam()


@pytest.mark.parametrize("steering", ["picky.py"], indirect=True)
def test_a_program_that_fails_is_reported_with_its_own_words_and_not_hammered(
    steering: Steering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.jobs.planner._FIRST_DELAY_MS", 1)
    steering.create("counter", poll_ms=11)
    failed = steering.done(steering.service.start("counter"), Outcome.FAILED)
    assert "ValueError: the frames are wrong" in failed.sentence
    steering.until(lambda: steering.view("counter").state == State.FAILED)
    assert "is not restarted" in steering.view("counter").sentence
    cause = str(steering.run("counter").cause)
    assert "Traceback" in cause
    assert "picky.py" in cause
    assert "sup3r-s3cret" not in cause
    runs = len(steering.repository.runs("counter", 20))
    for _ in range(3):
        steering.reconcile_jobs()
    assert len(steering.repository.runs("counter", 20)) == runs == 5


def test_ten_starts_at_once_from_many_sides_give_the_ten_right_jobs(steering: Steering) -> None:
    names = [f"many-{number}" for number in range(10)]
    for name in names:
        steering.create(name)
    gate = threading.Barrier(10)

    def start(name: str) -> None:
        with JobService.open(steering.home, Actor(f"side {name}")) as service:
            gate.wait(10)
            service.start(name)

    sides = [threading.Thread(target=start, args=[name]) for name in names]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    steering.until(lambda: all(steering.view(name).is_as_desired for name in names))
    ours = {job.id: job for job in steering.flink.jobs() if job.name in names}
    assert sorted(job.name for job in ours.values()) == names
    assert all(job.state is JobState.RUNNING for job in ours.values())
    assert {steering.run(name).id: name for name in names} == {job.id: job.name for job in ours.values()}
    assert [job.name for job in steering.flink.jobs() if not job.state.is_terminal and job.id not in ours] == []


@dataclass
class Forgetful:
    """A Flink client whose first answer to a submission gets lost, after the JobManager has accepted it."""

    flink: FlinkRest
    lost: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.flink, name)

    def submit(self, *arguments: Any, **named: Any) -> str:
        answer = self.flink.submit(*arguments, **named)
        if not self.lost:
            self.lost += 1
            raise ClusterUnreachableError("The Flink JobManager does not respond.")
        return answer


def test_a_submit_whose_answer_is_lost_still_gives_one_job(steering: Steering) -> None:
    forgetful = Forgetful(steering.flink)
    steering.restart_controller(forgetful)  # type: ignore[arg-type]
    steering.create("counter")
    steering.done(steering.service.start("counter"))
    assert forgetful.lost == 1
    assert [type(decision) for decision in steering.decisions].count(Submit) == 1
    assert steering.active("counter") == [steering.run("counter").id]


def test_a_stray_run_of_a_job_is_cancelled(steering: Steering) -> None:
    ours = steering.started()
    spec = steering.home.flink / "jobs" / "counter.v1.json"
    stray = "e" * 32
    steering.flink.submit(steering.program, ["--spec", str(spec)], parallelism=1, job_id=stray)
    steering.until(lambda: steering.active("counter") == [ours])
    assert steering.flink.job_state(stray).is_terminal


def test_rescaling_beyond_the_free_slots_is_pending_and_takes_what_there_is(
    home: Home, shared_flink: FlinkRest
) -> None:
    steering = Steering(home, shared_flink, BARS_PROGRAM)
    try:
        slots = shared_flink.overview().slots_total
        TickLog.open(home.ticks_db).close()
        steering.create("wide", shards=4)
        steering.done(steering.service.start("wide"))
        operation = steering.service.rescale("wide", slots + 8)
        steering.until(lambda: "pending" in steering.now(operation).sentence)
        assert steering.view("wide").state == "RUNNING"
        assert steering.now(operation).open
        done = steering.done(steering.service.rescale("wide", 2))
        assert done.sentence == "The job is running on 2 slots."
        assert steering.now(operation).outcome is Outcome.SUPERSEDED
        parallelism = {vertex.name: vertex.parallelism for vertex in shared_flink.vertices(steering.run("wide").id)}
        assert sorted(parallelism.values()) == [1, 1, 2]
    finally:
        steering.end()


def test_without_a_cluster_nothing_happens_and_nobody_claims_a_failure(home: Home) -> None:
    gone = FlinkRest(1, home.run / "lock", TlsFiles(home.tls))
    steering = Steering(home, gone, BARS_PROGRAM)
    steering.create("patient")
    operation = steering.service.start("patient")
    steering.reconcile_jobs()
    assert steering.view("patient").state == "UNKNOWN"
    assert steering.repository.runs("patient") == []
    assert steering.now(operation).open
    assert isinstance(steering.decisions[-1], Wait)
    steering.repository.close()
    gone.close()


def test_fifty_malformed_submits_leave_the_jobmanager_alive(shared_flink: FlinkRest) -> None:
    url, tls = f"https://127.0.0.1:{shared_flink.port}", shared_flink.tls
    allowed: dict[str, Any] = {"cert": (str(tls.certificate), str(tls.key)), "verify": str(tls.certificate)}
    jar = shared_flink._driver_jar()
    incarnation = shared_flink.incarnation()
    driver = "org.apache.flink.client.python.PythonDriver"
    python = shared_flink.python
    bodies: list[Any] = [
        {},
        {"entryClass": driver},
        {"entryClass": driver, "programArgs": "-py x"},
        {"entryClass": driver, "programArgsList": []},
        {"entryClass": driver, "programArgsList": ["-pyclientexec", python, "-py"]},
        {"entryClass": driver, "programArgsList": ["-pyclientexec", python, "-pyexec", python, "-py", "/nowhere.py"]},
        {"entryClass": driver, "programArgsList": ["--nonsense"], "jobId": "not hex"},
        {"entryClass": "no.such.Class", "programArgsList": ["x"]},
        {"entryClass": driver, "programArgsList": ["-py", "/nowhere.py"], "parallelism": -1},
        [],
    ]
    answers = [
        requests.post(f"{url}/jars/{jar}/run", json=body, timeout=60, **allowed).status_code
        for body in itertools.islice(itertools.cycle(bodies), 50)
    ]
    assert len(answers) == 50
    assert all(400 <= answer < 600 for answer in answers)
    assert shared_flink.incarnation() == incarnation
    assert shared_flink.taskmanagers() == 1
