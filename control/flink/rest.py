"""A small client of the JobManager's REST API."""

import fcntl
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from control.flink.empty_jar import empty_jar
from control.flink.model import (
    Checkpoint,
    Checkpoints,
    ClusterOverview,
    ClusterUnreachable,
    FlinkRefused,
    Job,
    JobState,
    NoSuchJob,
    SavepointState,
    SavepointStatus,
    SubmitFailed,
    SubmitUnknown,
    Vertex,
)
from control.flink.traces import cause_of
from control.machine.ports import LOOPBACK
from control.machine.tls import TlsFiles
from control.redact import redact

TIMEOUT_S = 10.0
# A submit runs the program's main() inside the JobManager; on a busy machine that takes a while.
SUBMIT_TIMEOUT_S = 120.0
_JAR_NAME = "barmill-python-driver.jar"
_DRIVER = "org.apache.flink.client.python.PythonDriver"
_NO_SUCH_JOB = "FlinkJobNotFoundException"
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class FlinkRest:
    """The JobManager at this port of a host.

    lock: file that serialises submits across processes, because two at once mix their jobs up.
    tls: the certificate that the cluster and its clients hold.
    """

    port: int
    lock: Path
    tls: TlsFiles
    python: str = sys.executable
    host: str = LOOPBACK
    _session: requests.Session = field(default_factory=requests.Session, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._session.trust_env = False  # a proxy of the user's must not see these calls
        self._session.cert = (str(self.tls.certificate), str(self.tls.key))
        self._session.verify = str(self.tls.certificate)

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def overview(self) -> ClusterOverview:
        """Return what the cluster has."""
        answer = self._get("/overview")
        return ClusterOverview(answer["taskmanagers"], answer["slots-total"], answer["slots-available"])

    def taskmanagers(self) -> int:
        """Return how many TaskManagers are registered, 0 also while the JobManager does not answer."""
        try:
            return self.overview().taskmanagers
        except (ClusterUnreachable, FlinkRefused):
            return 0

    def incarnation(self) -> str:
        """Return what tells this JobManager process from the one before it: it knows no job of that one."""
        settings = {one["key"]: one["value"] for one in self._get("/jobmanager/config")}
        return str(settings["web.tmpdir"]).rpartition("/")[2]

    def jobs(self) -> list[Job]:
        """Return every job this JobManager knows, the newest first."""
        jobs = [
            Job(
                one["jid"],
                one["name"],
                JobState.of(one["state"]),
                one["start-time"],
                one["end-time"] if one["end-time"] >= 0 else None,
            )
            for one in self._get("/jobs/overview")["jobs"]
        ]
        return sorted(jobs, key=lambda job: job.start_ms, reverse=True)

    def job_state(self, job_id: str) -> JobState:
        """Return the state of a job; raise NoSuchJob if the JobManager does not know it."""
        return JobState.of(self._get(f"/jobs/{job_id}/status", job_id=job_id)["status"])

    def submit(
        self,
        program: Path,
        args: Sequence[str],
        *,
        parallelism: int,
        job_id: str,
        savepoint_path: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """Run a PyFlink program's main() on the cluster and return the id of the job it became.

        job_id: 32 hex digits, never used before on this cluster. savepoint_path: where to go on from; never deleted.
        SubmitFailed: the program is at fault, and nothing of it runs. SubmitUnknown: look the job up before retrying.
        A job that started may still fail a moment later, for instance on an unreadable savepoint.
        """
        request = {
            "entryClass": _DRIVER,
            "programArgsList": ["-pyclientexec", self.python, "-pyexec", self.python, "-py", str(program), *args],
            "parallelism": parallelism,
            "jobId": job_id,
            "flinkConfiguration": dict(settings or {}),
        }
        if savepoint_path:
            request |= {"savepointPath": savepoint_path, "claimMode": "NO_CLAIM"}
        with self._one_submit():
            jar = self._driver_jar()
            before = {job.id for job in self.jobs()}
            try:
                answer = self._call("POST", f"/jars/{jar}/run", json=request, timeout=SUBMIT_TIMEOUT_S)
            except ClusterUnreachable as error:
                raise SubmitUnknown("The JobManager did not say whether the job started; look again.") from error
            except FlinkRefused as error:
                self._cancel_strays(before)
                traceback = self._driver_traceback()
                raise SubmitFailed(cause_of(traceback) or str(error), traceback) from error
        return str(answer["jobid"])

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be cancelled; a job that has ended already stays as it is."""
        try:
            self._call("PATCH", f"/jobs/{job_id}?mode=cancel", job_id=job_id)
        except NoSuchJob:
            raise
        except FlinkRefused as error:
            if error.status != requests.codes.conflict:
                raise

    def stop_with_savepoint(self, job_id: str, directory: str, trigger_id: str) -> None:
        """Ask a job to end with a savepoint; asking again with the same trigger id is safe."""
        self._savepoint(job_id, "stop", {"targetDirectory": directory, "drain": False}, trigger_id)

    def take_savepoint(self, job_id: str, directory: str, trigger_id: str) -> None:
        """Ask for a savepoint of a job that goes on; asking again with the same trigger id is safe."""
        self._savepoint(job_id, "savepoints", {"target-directory": directory, "cancel-job": False}, trigger_id)

    def savepoint_status(self, job_id: str, trigger_id: str) -> SavepointStatus:
        """Return how far the savepoint is that was asked for under this trigger id."""
        try:
            answer = self._get(f"/jobs/{job_id}/savepoints/{trigger_id}", job_id=job_id)
        except NoSuchJob:  # or it knows the job, but not the trigger
            return SavepointStatus(SavepointState.UNKNOWN)
        if answer["status"]["id"] == "IN_PROGRESS":
            return SavepointStatus(SavepointState.IN_PROGRESS)
        operation = answer.get("operation") or {}
        if location := operation.get("location"):
            return SavepointStatus(SavepointState.COMPLETED, str(location))
        trace = (operation.get("failure-cause") or {}).get("stack-trace", "")
        return SavepointStatus(SavepointState.FAILED, cause=redact(cause_of(trace)) or "no cause is known")

    def vertices(self, job_id: str) -> list[Vertex]:
        """Return the parts of a job, from source to sink."""
        details = self._get(f"/jobs/{job_id}", job_id=job_id)
        wanted = self._get(f"/jobs/{job_id}/resource-requirements", job_id=job_id)
        return [
            Vertex(
                one["id"],
                one["name"],
                one["parallelism"],
                wanted[one["id"]]["parallelism"]["upperBound"],
                one["maxParallelism"],
            )
            for one in details["vertices"]
        ]

    def rescale(self, job_id: str, parallelism: Mapping[str, int]) -> None:
        """Set how many subtasks each part of a job (all of them, by id) may have; it takes what is free, 1 at least."""
        # A lower bound above what is free would keep the job from running at all after a restart.
        bounds = {vertex: {"parallelism": {"lowerBound": 1, "upperBound": n}} for vertex, n in parallelism.items()}
        self._send("PUT", f"/jobs/{job_id}/resource-requirements", job_id=job_id, json=bounds)

    def failure_cause(self, job_id: str) -> str:
        """Return why a job failed or restarted last, redacted, or '' if nothing is known."""
        history = self._get(f"/jobs/{job_id}/exceptions?maxExceptions=1", job_id=job_id)
        entries = history.get("exceptionHistory", {}).get("entries", [])
        if entries:
            return redact(entries[0]["stacktrace"])
        # Some failures, such as an unreadable savepoint, only show up here; it exists only for jobs that ended.
        if not self.job_state(job_id).terminal:
            return ""
        result = self._get(f"/jobs/{job_id}/execution-result", job_id=job_id)
        cause = result.get("job-execution-result", {}).get("failure-cause") or {}
        return redact(cause.get("stack-trace", ""))

    def checkpoints(self, job_id: str) -> Checkpoints:
        """Return how the checkpoints of a job are going."""
        answer = self._get(f"/jobs/{job_id}/checkpoints", job_id=job_id)
        counts, latest = answer.get("counts", {}), (answer.get("latest") or {}).get("completed")
        return Checkpoints(
            completed=counts.get("completed", 0),
            failed=counts.get("failed", 0),
            in_progress=counts.get("in_progress", 0),
            restored=counts.get("restored", 0),
            latest=_checkpoint(latest) if latest else None,
        )

    def jobmanager_log(self, name: str = "jobmanager.log") -> str:
        """Return one of the JobManager's log files, redacted."""
        return redact(self._send("GET", f"/jobmanager/logs/{name}").text)

    def _savepoint(self, job_id: str, path: str, request: dict[str, object], trigger_id: str) -> None:
        request |= {"formatType": "CANONICAL", "triggerId": trigger_id}
        self._call("POST", f"/jobs/{job_id}/{path}", job_id=job_id, json=request)

    def _driver_jar(self) -> str:
        """Return the id of the jar that every submit names, uploading it if this JobManager lacks it."""
        for jar in self._get("/jars")["files"]:
            if jar["name"] == _JAR_NAME:
                return str(jar["id"])
        # PythonDriver is in the cluster's class path already; the API only insists on naming some jar.
        upload = {"jarfile": (_JAR_NAME, empty_jar(), "application/java-archive")}
        return str(self._call("POST", "/jars/upload", files=upload)["filename"]).rpartition("/")[2]

    def _cancel_strays(self, before: set[str]) -> None:
        """Cancel what a failed program left running: it may have started one job before it failed at the next."""
        for job in self.jobs():
            if job.id not in before and not job.state.terminal:
                self.cancel(job.id)

    def _driver_traceback(self) -> str:
        """Return what the program last said before it failed: only the JobManager's log has it."""
        try:
            return _last_program_output(self.jobmanager_log())
        except (ClusterUnreachable, FlinkRefused):
            return ""

    @contextmanager
    def _one_submit(self) -> Iterator[None]:
        self.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.lock.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def read(self, path: str, job_id: str | None = None) -> Any:
        """Return what the JobManager answers at a path that changes nothing; see metrics.py."""
        return self._get(path, job_id)

    def _get(self, path: str, job_id: str | None = None) -> Any:
        return self._call("GET", path, job_id=job_id)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._send(method, path, **options).json()

    def _send(
        self, method: str, path: str, *, job_id: str | None = None, timeout: float = TIMEOUT_S, **options: Any
    ) -> requests.Response:
        try:
            response = self._session.request(
                method, f"https://{self.host}:{self.port}{path}", timeout=timeout, **options
            )
        except OSError as error:  # every failure of requests is one, and so is a certificate that is not there
            raise ClusterUnreachable(f"The Flink JobManager on port {self.port} does not answer.") from error
        if response.ok:
            return response
        # Some of its answers call an unknown job an internal error.
        if job_id and (response.status_code == requests.codes.not_found or _NO_SUCH_JOB in response.text):
            raise NoSuchJob(response.status_code, f"The JobManager does not know job {job_id}.")
        raise FlinkRefused(response.status_code, redact(_error_text(response)))


def _checkpoint(answer: dict[str, Any]) -> Checkpoint:
    return Checkpoint(
        id=answer["id"],
        path=answer["external_path"],
        at_ms=answer["latest_ack_timestamp"],
        duration_ms=answer["end_to_end_duration"],
        size_bytes=answer["state_size"],
    )


def _error_text(response: requests.Response) -> str:
    """Return the cause at the bottom of the Java stack trace that Flink answers with."""
    try:
        errors = response.json().get("errors", [])
    except ValueError:
        return response.text
    return cause_of("\n".join(errors)) or f"HTTP {response.status_code}"


def _last_program_output(log: str) -> str:
    """Cut what the last program said out of the JobManager's log, where the driver keeps it between two rulers."""
    _, _, rest = log.rpartition("Python Process Started")
    output, _, _ = rest.partition("Python Process Exited")
    lines, inside = list[str](), True
    for line in output.splitlines():
        if _LOG_LINE.match(line):
            inside = _DRIVER in line  # the lines that follow without a date go with this one
            line = line.partition(" - ")[2]
        if inside and line.strip("- "):
            lines.append(line)
    return "\n".join(lines)
